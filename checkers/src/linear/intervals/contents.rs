//! What a container held, and when: the part that its kinds share.

use super::coverage::Coverage;
use super::{END, Window, fifo, lifo, smallest};
use crate::Value;
use crate::linear::problem::{Decision, FastMap, Item};
use crate::model::{ContainerOp, Order};

/// A value and the windows in which it came and went.
#[derive(Clone, Copy)]
pub(super) struct Element<'i> {
    pub(super) value: &'i Value,
    pub(super) put: Window,
    /// [`Window::NEVER`] when nobody is known to have taken it.
    pub(super) take: Window,
}

impl Element<'_> {
    /// The gaps in which it is certainly there.
    pub(super) fn core(&self) -> Window {
        // An empty window, if it can go as soon as it comes.
        Window { first: self.put.last.saturating_add(1), last: self.take.first.saturating_sub(1) }
    }

    /// Whether somebody certainly took it.
    pub(super) fn is_taken(&self) -> bool {
        self.take.last != END
    }
}

/// All that happened to one container.
pub(super) struct Contents<'i> {
    /// Values that were put in; without those that need not have been.
    pub(super) elements: Vec<Element<'i>>,
    /// When it answered that it is empty.
    pub(super) empties: Vec<Window>,
    /// The first gaps of takes that were never answered, ascending.
    unseen: Vec<u32>,
}

/// Decides whether operations on a container can be ordered; `order` is `None` for one that gives back any element.
/// `None` where a value is put twice or something was refused.
pub(crate) fn decide(items: &[Item<ContainerOp>], order: Option<Order>) -> Option<Decision> {
    let mut contents = match Contents::new(items)? {
        Ok(contents) => contents,
        Err(Impossible) => return Some(Decision::NotLinearizable),
    };
    let deadlines = |contents: &Contents<'_>| match order {
        Some(Order::Fifo) => fifo::deadlines(contents),
        Some(Order::Lifo) => lifo::deadlines(contents),
        Some(Order::Smallest) => smallest::deadlines(contents),
        None => vec![END; contents.elements.len()],
    };
    let fits = |contents: &Contents<'_>| match order {
        Some(Order::Fifo) => fifo::fits(contents),
        Some(Order::Lifo) => lifo::fits(contents),
        Some(Order::Smallest) => smallest::fits(contents),
        // Elements are not in each other's way, only in that of "empty".
        None => contents.empties_fit(),
    };
    if contents.unseen.is_empty() || contents.elements.iter().all(Element::is_taken) {
        return Some(if fits(&contents) { Decision::Linearizable } else { Decision::NotLinearizable });
    }
    let needed = deadlines(&contents);
    if contents.give_to_unseen(&needed).is_err() {
        return Some(Decision::NotLinearizable);
    }
    if fits(&contents) {
        return Some(Decision::Linearizable);
    }
    // Perhaps the unanswered takes took others. If even taking all that is left at will does not help, nothing does.
    contents.elements.retain(Element::is_taken);
    (!fits(&contents)).then_some(Decision::NotLinearizable)
}

/// Some operation cannot be explained at all.
pub(super) struct Impossible;

impl<'i> Contents<'i> {
    /// `None` where a value is put twice or something was refused.
    fn new(items: &'i [Item<ContainerOp>]) -> Option<Result<Self, Impossible>> {
        let mut by_value: FastMap<&'i Value, u32> = FastMap::default();
        let mut this = Self { elements: Vec::new(), empties: Vec::new(), unseen: Vec::new() };
        for item in items {
            let window = Window::of(item);
            match &item.op {
                ContainerOp::Put(value) => {
                    if by_value.insert(value, this.elements.len() as u32).is_some() {
                        return None;
                    }
                    this.elements.push(Element { value, put: window, take: Window::NEVER });
                }
                ContainerOp::Take(Value::Nil) if item.is_finished() => this.empties.push(window),
                ContainerOp::TakeUnseen if item.is_finished() => return None,
                ContainerOp::TakeUnseen => this.unseen.push(item.call),
                ContainerOp::PutRefused if item.is_finished() => return None,
                ContainerOp::Take(_) | ContainerOp::PutRefused => {}
            }
        }
        // A nil that was put in cannot be told from nothing.
        if by_value.contains_key(&Value::Nil) {
            return None;
        }
        this.unseen.sort_unstable();
        for item in items {
            let ContainerOp::Take(value) = &item.op else { continue };
            if value.is_nil() {
                continue;
            }
            let element = by_value.get(value).map(|&at| &mut this.elements[at as usize]);
            let Some(element) = element else {
                if item.is_finished() {
                    return Some(Err(Impossible));
                }
                continue;
            };
            let window = Window::of(item);
            if element.is_taken() && item.is_finished() {
                return Some(Err(Impossible));
            }
            // Of a certain take and possible ones the certain one counts, of possible ones the earliest.
            if item.is_finished() || (!element.is_taken() && window.first < element.take.first) {
                element.take = window;
            }
        }
        // Nobody misses what was perhaps put in and not certainly taken.
        this.elements.retain(|element| element.put.last != END || element.is_taken());
        for element in &mut this.elements {
            if element.put.first > element.take.last {
                return Some(Err(Impossible));
            }
            // It comes before it goes.
            element.put.last = element.put.last.min(element.take.last);
            element.take.first = element.take.first.max(element.put.first);
        }
        Some(Ok(this))
    }

    /// Gives unanswered takes to the values that must be gone by a deadline (of the order, or before the container was
    /// empty): the earliest take to the earliest deadline, which serves all of them if anything does.
    fn give_to_unseen(&mut self, deadlines: &[u32]) -> Result<(), Impossible> {
        // The earliest end of an answer "empty" that began after a given gap.
        let mut empties = self.empties.clone();
        empties.sort_unstable_by_key(|window| window.first);
        suffix_minimum(&mut empties);
        let mut needy: Vec<(u32, usize)> = Vec::new();
        for (at, element) in self.elements.iter().enumerate().filter(|(_, element)| !element.is_taken()) {
            let next = empties.partition_point(|window| window.first <= element.put.last);
            let deadline = empties.get(next).map_or(END, |window| window.last).min(deadlines[at]);
            // One that may have been taken in time by a take of its own asks for nothing.
            if deadline < element.take.first {
                needy.push((deadline, at));
            }
        }
        needy.sort_unstable();
        let mut unseen = self.unseen.iter();
        for (deadline, at) in needy {
            let take = *unseen.next().filter(|&&take| take <= deadline).ok_or(Impossible)?;
            let element = &mut self.elements[at];
            element.take = Window { first: take.max(element.put.first), last: END };
        }
        Ok(())
    }

    /// Whether it could have been empty whenever it said so, had every element been there only when it certainly was.
    pub(super) fn empties_fit(&self) -> bool {
        let coverage = Coverage::new(self.elements.iter().map(Element::core));
        self.empties.iter().all(|&window| !coverage.covers(window))
    }
}

/// Windows in ascending order of `first`: each `last` becomes the smallest of its own and all later ones.
pub(super) fn suffix_minimum(windows: &mut [Window]) {
    for at in (1..windows.len()).rev() {
        windows[at - 1].last = windows[at - 1].last.min(windows[at].last);
    }
}

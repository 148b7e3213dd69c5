//! Leaving out what can be left out, by the rules of [`super::rules`].

use super::super::engines::{Engine, is_impossible};
use super::super::problem::{Budget, FastMap, Item, NEVER};
use super::rules::Labels;
use crate::Value;
use std::collections::HashSet;
use std::time::Instant;

/// Sets larger than this are not thinned out write by write.
const SINGLES_MAX: usize = 400;

/// Operations with their places among all of the key.
pub(super) type Numbered<O> = Vec<(usize, Item<O>)>;

/// The operations called up to `end`, those that end later unfinished; unfinished reads are gone.
pub(super) fn cut<M: Engine>(model: &M, items: &Numbered<M::Op>, end: u32) -> Numbered<M::Op> {
    let mut prefix = Vec::new();
    for (at, item) in items.iter().filter(|(_, item)| item.call < end) {
        let mut item = item.clone();
        if item.ret > end {
            item.ret = NEVER;
        }
        if item.is_finished() || !model.is_read_only(&item.op) {
            prefix.push((*at, item));
        }
    }
    prefix
}

/// The same as it was known at the time: without answers that came later, where engines do better without.
pub(super) fn known_at<M: Engine>(model: &M, items: &Numbered<M::Op>, end: u32) -> Vec<Item<M::Op>> {
    let mut prefix = cut(model, items, end);
    let mut all = items.iter();
    for (at, item) in &mut prefix {
        // Both are in the same order.
        let is_later = all.find(|(other, _)| other == at).is_some_and(|(_, whole)| whole.is_finished());
        if is_later && !item.is_finished() {
            item.op = model.unanswered(&item.op);
        }
    }
    prefix.into_iter().map(|(_, item)| item).collect()
}

pub(super) fn plain<O: Clone>(items: &Numbered<O>) -> Vec<Item<O>> {
    items.iter().map(|(_, item)| item.clone()).collect()
}

pub(super) fn is_over(budget: &Budget) -> bool {
    budget.deadline.is_some_and(|deadline| Instant::now() >= deadline)
}

/// The shortest prefix that is impossible for certain, and the event that ends it. Everything before event `reach` is
/// known to have an order, and everything up to event `known` to have none, where there is such an event.
pub(super) fn shortest_prefix<M: Engine>(
    model: &M,
    items: Numbered<M::Op>,
    reach: u32,
    known: Option<u32>,
    budget: &Budget,
) -> (Numbered<M::Op>, u32) {
    let is_between = |ret: &u32| *ret != NEVER && *ret >= reach && known.is_none_or(|known| *ret <= known);
    let mut ends: Vec<u32> = items.iter().map(|(_, item)| item.ret).filter(is_between).collect();
    ends.sort_unstable();
    // The whole is impossible; where the budget says otherwise, the last return is the end.
    let Some(mut to) = ends.len().checked_sub(1) else { return (items, 0) };
    let mut from = 0;
    let is_possible = |at: usize| !is_impossible(model, &known_at(model, &items, ends[at]), budget);
    // What is known by a few operations is mostly the first that is wrong, and where a search went no further it will
    // hardly be far: steps that double, then bisection.
    if known.is_some() && from < to {
        if is_possible(to - 1) { from = to } else { to -= 1 }
    }
    let mut step = if reach > 0 { 1 } else { ends.len() };
    while from < to && !is_over(budget) {
        let at = if from + step <= (from + to) / 2 { from + step - 1 } else { (from + to) / 2 };
        if is_possible(at) {
            from = at + 1;
            step = step.saturating_mul(2);
        } else {
            // That one is known.
            (to, step) = (at, ends.len());
        }
    }
    (cut(model, &items, ends[to]), ends[to])
}

/// What can be left out together.
pub(super) enum Units {
    /// Places of operations.
    Whole(Vec<Vec<usize>>),
    /// Labels of parts.
    Parts(Vec<Value>),
    /// Places of operations that can ask for less.
    Demands(Vec<usize>),
}

impl Units {
    /// By the labels of the model.
    pub(super) fn labelled<M: Engine>(model: &M, items: &Numbered<M::Op>) -> Self {
        match model.labels(&plain(items)) {
            Labels::Tied(labels) => Self::Whole(tied(items, labels)),
            Labels::Apart(labels) => Self::Parts(labels),
            Labels::None => Self::Whole(Vec::new()),
        }
    }

    /// Operations that can be left out alone.
    pub(super) fn droppable<M: Engine>(model: &M, items: &Numbered<M::Op>) -> Self {
        let alone = items.iter().filter(|(_, item)| model.is_droppable(&item.op));
        Self::Whole(alone.map(|(at, _)| vec![*at]).collect())
    }

    /// Operations that can ask for less.
    pub(super) fn demands<M: Engine>(model: &M, items: &Numbered<M::Op>) -> Self {
        Self::Demands(items.iter().filter(|(_, item)| model.weaker(&item.op).is_some()).map(|(at, _)| *at).collect())
    }

    pub(super) fn len(&self) -> usize {
        match self {
            Self::Whole(units) => units.len(),
            Self::Parts(labels) => labels.len(),
            Self::Demands(places) => places.len(),
        }
    }

    /// What is left of the units that some of these operations belong to, and of operations that change nothing those among
    /// them.
    pub(super) fn only<M: Engine>(&self, model: &M, items: &Numbered<M::Op>, near: &HashSet<usize>) -> Numbered<M::Op> {
        let is_near = |(at, item): &&(usize, Item<M::Op>)| near.contains(at) || !model.is_droppable(&item.op);
        match self {
            Self::Whole(units) => {
                let far = units.iter().filter(|unit| !unit.iter().any(|at| near.contains(at)));
                let gone: HashSet<usize> = far.flatten().copied().collect();
                items.iter().filter(is_near).filter(|(at, _)| !gone.contains(at)).cloned().collect()
            }
            Self::Parts(_) => {
                let close: Numbered<M::Op> = items.iter().filter(|(at, _)| near.contains(at)).cloned().collect();
                let Self::Parts(labels) = Self::labelled(model, &close) else { return items.clone() };
                let labels: HashSet<Value> = labels.into_iter().collect();
                let stays = |label: &Value| labels.contains(label);
                let rest = |(at, item): &(usize, Item<M::Op>)| {
                    Some((*at, Item { op: model.restricted(&item.op, &stays)?, ..*item }))
                };
                items.iter().filter(is_near).filter_map(rest).collect()
            }
            Self::Demands(_) => items.clone(),
        }
    }

    /// What is left without units `from..to`; `None` when that is everything.
    pub(super) fn without<M: Engine>(
        &self,
        model: &M,
        items: &Numbered<M::Op>,
        from: usize,
        to: usize,
    ) -> Option<Numbered<M::Op>> {
        let to = to.min(self.len());
        match self {
            Self::Whole(units) => {
                let gone: HashSet<usize> = units[from..to].iter().flatten().copied().collect();
                let rest: Numbered<M::Op> = items.iter().filter(|(at, _)| !gone.contains(at)).cloned().collect();
                (rest.len() < items.len()).then_some(rest)
            }
            Self::Parts(labels) => {
                // Those in the group are in every operation, so that a part is gone for good.
                let gone: HashSet<&Value> = labels[from..to].iter().collect();
                let stays = |label: &Value| !gone.contains(label);
                let rest = |(at, item): &(usize, Item<M::Op>)| {
                    let op = model.restricted(&item.op, &stays)?;
                    Some((*at, Item { op, ..*item }))
                };
                Some(items.iter().filter_map(rest).collect())
            }
            Self::Demands(places) => {
                let asking: HashSet<usize> = places[from..to].iter().copied().collect();
                let rest = |(at, item): &(usize, Item<M::Op>)| {
                    (*at, if asking.contains(at) { less(model, item) } else { item.clone() })
                };
                Some(items.iter().map(rest).collect())
            }
        }
    }
}

/// An operation that asks for less, where there is one.
pub(super) fn less<M: Engine>(model: &M, item: &Item<M::Op>) -> Item<M::Op> {
    Item { op: model.weaker(&item.op).unwrap_or_else(|| item.op.clone()), ..*item }
}

/// Without the unfinished operations whose effect no other operation can find: an order in which one takes effect is as
/// good without it.
pub(super) fn without_useless<M: Engine>(model: &M, items: Numbered<M::Op>) -> Numbered<M::Op> {
    let mut is_useful: Vec<bool> = items.iter().map(|(_, item)| item.is_finished()).collect();
    loop {
        let useful: Vec<&M::Op> =
            items.iter().zip(&is_useful).filter(|(_, useful)| **useful).map(|((_, item), _)| &item.op).collect();
        let more: Vec<usize> =
            (0..items.len()).filter(|&at| !is_useful[at] && model.is_useful(&items[at].1.op, &useful)).collect();
        if more.is_empty() {
            break;
        }
        more.into_iter().for_each(|at| is_useful[at] = true);
    }
    items.into_iter().zip(is_useful).filter(|(_, useful)| *useful).map(|(item, _)| item).collect()
}

/// Leaves out what can be left out by its labels: ever smaller groups of units, until no single one can.
pub(super) fn without_labels<M: Engine>(model: &M, items: Numbered<M::Op>, budget: &Budget) -> Numbered<M::Op> {
    thin(model, items, budget, Units::labelled)
}

/// Leaves out what changes nothing.
pub(super) fn without_droppable<M: Engine>(model: &M, items: Numbered<M::Op>, budget: &Budget) -> Numbered<M::Op> {
    thin(model, items, budget, Units::droppable)
}

/// Lets operations ask for less where they can.
pub(super) fn without_demands<M: Engine>(model: &M, items: Numbered<M::Op>, budget: &Budget) -> Numbered<M::Op> {
    thin(model, items, budget, Units::demands)
}

pub(super) fn thin<M: Engine>(
    model: &M,
    mut items: Numbered<M::Op>,
    budget: &Budget,
    units_of: impl Fn(&M, &Numbered<M::Op>) -> Units,
) -> Numbered<M::Op> {
    let mut size = units_of(model, &items).len().div_ceil(2);
    while size > 0 {
        let mut removed = false;
        // Units are worked out afresh for each size: what is gone ties nothing any more.
        let units = units_of(model, &items);
        for from in (0..units.len()).step_by(size) {
            let rest = units.without(model, &items, from, from + size);
            if let Some(rest) = rest.filter(|rest| is_impossible(model, &plain(rest), budget)) {
                items = rest;
                removed = true;
            }
            if is_over(budget) {
                return items;
            }
        }
        size = if size > 1 { size.div_ceil(2) } else { usize::from(removed) };
    }
    items
}

/// Operations that are tied by their labels, each with all others.
fn tied<O>(items: &Numbered<O>, labels: Vec<Vec<Value>>) -> Vec<Vec<usize>> {
    let mut ids: FastMap<Value, usize> = FastMap::default();
    let mut parent: Vec<usize> = Vec::new();
    let mut first: Vec<(usize, usize)> = Vec::new();
    for ((at, _), labels) in items.iter().zip(labels) {
        let mut of_op = labels.into_iter().map(|value| {
            *ids.entry(value).or_insert_with(|| {
                parent.push(parent.len());
                parent.len() - 1
            })
        });
        let Some(one) = of_op.next() else { continue };
        let others: Vec<usize> = of_op.collect();
        for other in others {
            let (a, b) = (root(&mut parent, one), root(&mut parent, other));
            parent[a] = b;
        }
        first.push((*at, one));
    }
    let mut units: FastMap<usize, usize> = FastMap::default();
    let mut list: Vec<Vec<usize>> = Vec::new();
    for (at, label) in first {
        let unit = *units.entry(root(&mut parent, label)).or_insert_with(|| {
            list.push(Vec::new());
            list.len() - 1
        });
        list[unit].push(at);
    }
    list
}

fn root(parent: &mut [usize], mut at: usize) -> usize {
    while parent[at] != at {
        // Halving the way for the next one who asks.
        parent[at] = parent[parent[at]];
        at = parent[at];
    }
    at
}

/// Leaves out, one at a time, writes of a register whose value nobody can have found.
pub(super) fn without_unobserved_writes<M: Engine>(model: &M, items: &mut Numbered<M::Op>, budget: &Budget) {
    if items.len() > SINGLES_MAX {
        return;
    }
    let Some(mut effects) = items.iter().map(|(_, item)| Effect::of(model, item)).collect::<Option<Vec<_>>>() else {
        return;
    };
    let mut at = 0;
    while at < items.len() && !is_over(budget) {
        if effects[at].is_unobserved_among(&effects) {
            let (item, effect) = (items.remove(at), effects.remove(at));
            if is_impossible(model, &plain(items), budget) {
                // What it stood between may now be free to go, too.
                at = 0;
                continue;
            }
            items.insert(at, item);
            effects.insert(at, effect);
        }
        at += 1;
    }
}

/// An operation of a register: what it found, what it left behind, when.
struct Effect {
    found: Option<Value>,
    left: Option<Value>,
    call: u32,
    ret: u32,
}

impl Effect {
    fn of<M: Engine>(model: &M, item: &Item<M::Op>) -> Option<Self> {
        let (found, left) = model.found_and_left(&item.op)?;
        Some(Self { found, left, call: item.call, ret: item.ret })
    }

    /// Whether no operation can have found what this one left behind: each that found such a value was over before, or
    /// began after another value had certainly taken its place. In the second case the same value must have been left
    /// later once more, or the story would lose the write that the reader came too late for.
    fn is_unobserved_among(&self, all: &[Effect]) -> bool {
        let Some(left) = &self.left else { return false };
        all.iter().filter(|reader| reader.found.as_ref() == Some(left)).all(|reader| {
            let is_before = reader.ret < self.call;
            let again = |other: &Effect| other.left.as_ref() == Some(left) && other.call > self.ret;
            is_before
                || all.iter().any(|other| again(other) && other.call < reader.ret)
                    && all.iter().any(|other| {
                        other.left.as_ref().is_some_and(|new| new != left)
                            && self.ret < other.call
                            && other.ret < reader.call
                    })
        })
    }
}

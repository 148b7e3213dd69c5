//! Bounded queues, first in, first out, without values put in twice: a search that knows who takes what.
//!
//! A queue with a capacity has no polynomial path here. What makes a plain search hopeless is that a wrong order of puts, or
//! a put of unknown outcome that is left out, shows only when its element should be taken, a whole queue later. But who takes
//! what is known: elements are put in in the order in which they are taken. So an element may not be put in while another is
//! missing that was certainly taken before it, and a take without an answer got none that somebody else took. No order is lost
//! that way, and none is gained: steps are those of [`Container`].

use super::problem::{Budget, Decided, FastMap, InternStepper, Item, NEVER};
use super::search;
use crate::model::{Container, ContainerOp, FailMeans, Model};
use crate::{HistoryError, Op, Value};

/// What is known of an element from the whole history.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
struct Element {
    number: u32,
    /// Its place among those of which somebody said that they took them, in the order of these answers; `None` if nobody did.
    rank: Option<u32>,
    /// So many of these, in that order, were certainly taken before it.
    before: u32,
}

/// A step that is known to fit in with the rest of the history, or not to.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
enum Step {
    Put(Element),
    Take(u32),
    TakeNothing,
    TakeUnseen,
}

/// What is inside, and which elements that are taken at some time have been put in: all of the ranks below `all_below`, and
/// these `others`, ascending.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
struct State {
    inside: Vec<Element>,
    all_below: u32,
    others: Vec<u32>,
}

/// A queue whose elements are known.
#[derive(Clone, Copy)]
struct Known {
    capacity: usize,
}

impl Model for Known {
    type State = State;
    type Op = Step;

    fn initial(&self) -> State {
        State::default()
    }

    fn step(&self, state: &State, step: &Step) -> Option<State> {
        let mut next = state.clone();
        match step {
            Step::Put(element) => {
                if state.inside.len() >= self.capacity || element.before > state.all_below {
                    return None;
                }
                next.inside.push(*element);
                if let Some(rank) = element.rank {
                    next.others.insert(next.others.partition_point(|&other| other < rank), rank);
                    while next.others.first() == Some(&next.all_below) {
                        next.others.remove(0);
                        next.all_below += 1;
                    }
                }
            }
            Step::Take(number) => {
                if state.inside.first()?.number != *number {
                    return None;
                }
                next.inside.remove(0);
            }
            Step::TakeNothing if !state.inside.is_empty() => return None,
            Step::TakeNothing => {}
            Step::TakeUnseen => match state.inside.first() {
                // Somebody else takes it.
                Some(Element { rank: Some(_), .. }) => return None,
                Some(_) => _ = next.inside.remove(0),
                None => {}
            },
        }
        Some(next)
    }

    fn is_read_only(&self, step: &Step) -> bool {
        matches!(step, Step::TakeNothing)
    }

    fn state_bytes(&self, state: &State) -> usize {
        size_of::<State>() + size_of_val::<[Element]>(&state.inside) + size_of_val::<[u32]>(&state.others)
    }

    fn view(&self, _: &Op<'_>, _: FailMeans) -> Result<Option<Step>, HistoryError> {
        Ok(None)
    }
}

/// Decides; `None` where values are put in twice, or something was refused: that depends on what nobody else asks for.
pub(super) fn decide(model: &Container, items: &[Item<ContainerOp>], budget: &Budget) -> Option<Decided> {
    let known = Known { capacity: model.capacity? };
    let steps = steps(items)?;
    let (stepper, problem) = InternStepper::new(&known, &steps);
    // It looks ahead: where it fails is not where the history does.
    Some(Decided { reach: 0, is_first: false, ..search::decide(&problem, &mut stepper.within(budget), budget) })
}

/// The operations with what is known of their elements.
fn steps(items: &[Item<ContainerOp>]) -> Option<Vec<Item<Step>>> {
    let mut takes: FastMap<&Value, &Item<ContainerOp>> = FastMap::default();
    let mut first_unseen = NEVER;
    for item in items {
        match &item.op {
            ContainerOp::Put(value) if value.is_nil() => return None,
            ContainerOp::Put(_) => {}
            ContainerOp::Take(_) if !item.is_finished() => return None,
            ContainerOp::Take(Value::Nil) => {}
            ContainerOp::Take(value) => {
                if takes.insert(value, item).is_some() {
                    return None;
                }
            }
            ContainerOp::TakeUnseen if item.is_finished() => return None,
            ContainerOp::TakeUnseen => first_unseen = first_unseen.min(item.call),
            ContainerOp::PutRefused => return None,
        }
    }
    let mut answers: Vec<u32> = takes.values().map(|take| take.ret).collect();
    answers.sort_unstable();
    let rank = |at: u32| answers.partition_point(|&answer| answer < at) as u32;
    let mut numbers: FastMap<&Value, u32> = FastMap::default();
    let mut steps = Vec::with_capacity(items.len());
    for item in items {
        let number = numbers.len() as u32;
        let step = match &item.op {
            ContainerOp::Put(value) => {
                if numbers.insert(value, number).is_some() {
                    return None;
                }
                match takes.get(value) {
                    Some(take) => Step::Put(Element { number, rank: Some(rank(take.ret)), before: rank(take.call) }),
                    // Nobody misses what was perhaps put in, and not taken.
                    None if !item.is_finished() => continue,
                    // It can go with a take without an answer, or stays behind all others.
                    None => Step::Put(Element { number, rank: None, before: rank(first_unseen) }),
                }
            }
            ContainerOp::TakeUnseen => Step::TakeUnseen,
            ContainerOp::Take(Value::Nil) => Step::TakeNothing,
            ContainerOp::Take(_) | ContainerOp::PutRefused => continue,
        };
        steps.push(Item { op: step, call: item.call, ret: item.ret });
    }
    for (value, take) in takes {
        // Of what was never put in: not to be taken either.
        let number = numbers.get(value).copied().unwrap_or(u32::MAX);
        steps.push(Item { op: Step::Take(number), call: take.call, ret: take.ret });
    }
    steps.sort_unstable_by_key(|item| item.call);
    Some(steps)
}

#[cfg(test)]
mod tests {
    use super::super::EngineChoice;
    use super::super::engines::Engine;
    use super::super::problem::Decision;
    use super::super::tests::{assert_engines_agree, play, script};
    use super::*;
    use crate::model::Order;
    use proptest::prelude::*;

    const BUDGET: Budget = Budget { deadline: None, memory_max: u64::MAX, configurations_max: u64::MAX };

    proptest! {
        #![proptest_config(super::super::model_tests::cases())]

        #[test]
        fn known_takes_lose_no_order(script in script(22), processes in 2usize..6, capacity in 1usize..4) {
            let model = Container { order: Order::Fifo, capacity: Some(capacity) };
            let mut values = 0;
            let mut items = play(&model, &script, processes, |what, skew, state| match what % 8 {
                0..4 => {
                    values += 1;
                    ContainerOp::Put(Value::Int(values))
                }
                // Nobody knows what an unfinished one took.
                4 => ContainerOp::TakeUnseen,
                _ if skew.is_multiple_of(16) => ContainerOp::Take(Value::Nil),
                _ if skew.is_multiple_of(6) && values > 0 => ContainerOp::Take(Value::Int(i64::from(skew) % values + 1)),
                _ => ContainerOp::Take(state.first().cloned().unwrap_or_default()),
            });
            for item in &mut items {
                match (&item.op, item.is_finished()) {
                    (ContainerOp::Take(_), false) => item.op = ContainerOp::TakeUnseen,
                    (ContainerOp::TakeUnseen, true) => item.ret = NEVER,
                    _ => {}
                }
            }
            assert_engines_agree(&model, &items)?;
            let mut taken: Vec<_> = items.iter().filter_map(|item| match &item.op {
                ContainerOp::Take(value) if !value.is_nil() => Some(value),
                _ => None,
            }).collect();
            let takes = taken.len();
            taken.sort_unstable();
            taken.dedup();
            let decided = decide(&model, &items, &BUDGET).map(|decided| decided.decision);
            let reference = model.decide(&items, &BUDGET, EngineChoice::Wgl).decision;
            prop_assert_eq!(decided, (takes == taken.len()).then_some(reference));
        }
    }

    #[test]
    fn the_order_of_puts_is_not_searched_for() {
        // Forty puts at once, of which nobody knows how they ended; what they put in comes out much later.
        let puts = 40;
        let put = |n: u32| Item { op: ContainerOp::Put(Value::Int(i64::from(n))), call: puts - n, ret: NEVER };
        let take =
            |n: u32| Item { op: ContainerOp::Take(Value::Int(i64::from(n))), call: 100 + 2 * n, ret: 101 + 2 * n };
        let mut items: Vec<_> = (1..=puts).map(put).chain((1..=puts).map(take)).collect();
        let model = Container { order: Order::Fifo, capacity: Some(20) };
        let budget = Budget { configurations_max: 1000, ..BUDGET };
        let decision = |items: &[_]| decide(&model, items, &budget).map(|decided| decided.decision);
        assert_eq!(decision(&items), Some(Decision::Linearizable));
        // Empty it was not: there was another one, which went in late and came out last.
        items.push(Item { op: ContainerOp::Put(Value::Int(99)), call: 80, ret: 81 });
        items.push(Item { op: ContainerOp::Take(Value::Int(99)), call: 200, ret: 202 });
        items.push(Item { op: ContainerOp::Take(Value::Nil), call: 82, ret: 83 });
        assert_eq!(decision(&items), Some(Decision::NotLinearizable));
    }
}

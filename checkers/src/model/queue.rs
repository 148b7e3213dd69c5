//! Containers that give back what was put in: FIFO queue, stack, priority queue, and a queue without an order.
//!
//! Operations: `enqueue v` and `dequeue` (`push`/`pop` and `insert`/`delete-min` for the others); a take that found
//! nothing answers nil. With a capacity, a `fail` of a put under [`FailMeans::AnsweredNo`] says that the container was
//! full. A take that was never answered takes whatever is next when it happens, if anything.

use super::{FailMeans, Model, Nondeterministic, no_such_op};
use crate::{HistoryError, Op, Outcome, Value};

/// Which element a take gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Order {
    /// The oldest.
    Fifo,
    /// The newest.
    Lifo,
    /// The smallest.
    Smallest,
}

/// A container with an order.
#[derive(Clone, Copy, Debug)]
pub struct Container {
    /// Which element a take gives back.
    pub order: Order,
    /// Most elements; `None` for any number.
    pub capacity: Option<usize>,
}

/// What was done to a container, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ContainerOp {
    /// Put this in.
    Put(Value),
    /// Was refused because the container was full.
    PutRefused,
    /// Took this; nil: found nothing.
    Take(Value),
    /// Took what was next; nobody knows what.
    TakeUnseen,
}

/// The names of put and take.
fn view(
    op: &Op<'_>,
    fail_means: FailMeans,
    model: &str,
    put: &str,
    take: &str,
) -> Result<Option<ContainerOp>, HistoryError> {
    let f = op.f();
    if f.as_str() == put {
        return Ok(match (op.outcome(), fail_means) {
            (Outcome::Ok | Outcome::Unfinished, _) => Some(ContainerOp::Put(op.argument())),
            (Outcome::Fail, FailMeans::AnsweredNo) => Some(ContainerOp::PutRefused),
            (Outcome::Fail, FailMeans::NoEffect) => None,
        });
    }
    if f.as_str() == take {
        return Ok(match (op.outcome(), fail_means) {
            (Outcome::Ok, _) => Some(ContainerOp::Take(op.result().unwrap_or_default())),
            (Outcome::Unfinished, _) => Some(ContainerOp::TakeUnseen),
            (Outcome::Fail, FailMeans::AnsweredNo) => Some(ContainerOp::Take(Value::Nil)),
            (Outcome::Fail, FailMeans::NoEffect) => None,
        });
    }
    Err(no_such_op(op, model, &format!("{put}, {take}")))
}

impl Container {
    /// Where the next element to take stands.
    fn next(&self, state: &[Value]) -> Option<usize> {
        match self.order {
            Order::Fifo => (!state.is_empty()).then_some(0),
            Order::Lifo => state.len().checked_sub(1),
            Order::Smallest => (0..state.len()).min_by_key(|&i| &state[i]),
        }
    }
}

fn without(state: &[Value], at: usize) -> Box<[Value]> {
    state.iter().enumerate().filter(|(i, _)| *i != at).map(|(_, value)| value.clone()).collect()
}

impl Model for Container {
    type State = Box<[Value]>;
    type Op = ContainerOp;

    fn initial(&self) -> Self::State {
        Box::default()
    }

    fn step(&self, state: &Self::State, op: &ContainerOp) -> Option<Self::State> {
        let is_full = self.capacity.is_some_and(|capacity| state.len() >= capacity);
        match op {
            ContainerOp::Put(_) if is_full => None,
            ContainerOp::Put(value) => {
                let mut next: Vec<Value> = state.iter().cloned().chain([value.clone()]).collect();
                if self.order == Order::Smallest {
                    // Contents that differ only in the order of arrival are the same state.
                    next.sort_unstable();
                }
                Some(next.into())
            }
            ContainerOp::PutRefused => is_full.then(|| state.clone()),
            ContainerOp::Take(Value::Nil) => state.is_empty().then(|| state.clone()),
            ContainerOp::Take(value) => {
                let at = self.next(state)?;
                (state[at] == *value).then(|| without(state, at))
            }
            ContainerOp::TakeUnseen => Some(self.next(state).map_or_else(|| state.clone(), |at| without(state, at))),
        }
    }

    fn is_read_only(&self, op: &ContainerOp) -> bool {
        matches!(op, ContainerOp::PutRefused | ContainerOp::Take(Value::Nil))
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        16 + size_of_val::<[Value]>(state)
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<ContainerOp>, HistoryError> {
        match self.order {
            Order::Fifo => view(op, fail_means, "queue", "enqueue", "dequeue"),
            Order::Lifo => view(op, fail_means, "stack", "push", "pop"),
            Order::Smallest => view(op, fail_means, "priority-queue", "insert", "delete-min"),
        }
    }
}

/// A queue that may give back any of its elements.
#[derive(Clone, Copy, Debug)]
pub struct UnorderedQueue;

impl Nondeterministic for UnorderedQueue {
    type State = Box<[Value]>;
    type Op = ContainerOp;

    fn initial(&self) -> Self::State {
        Box::default()
    }

    fn steps(&self, state: &Self::State, op: &ContainerOp) -> Vec<Self::State> {
        match op {
            ContainerOp::Put(value) => {
                let mut next: Vec<Value> = state.iter().cloned().chain([value.clone()]).collect();
                next.sort_unstable();
                vec![next.into()]
            }
            ContainerOp::PutRefused => Vec::new(),
            ContainerOp::Take(Value::Nil) => {
                if state.is_empty() {
                    vec![state.clone()]
                } else {
                    Vec::new()
                }
            }
            ContainerOp::Take(value) => {
                state.iter().position(|v| v == value).map(|at| without(state, at)).into_iter().collect()
            }
            ContainerOp::TakeUnseen if state.is_empty() => vec![state.clone()],
            ContainerOp::TakeUnseen => (0..state.len()).map(|at| without(state, at)).collect(),
        }
    }

    fn is_read_only(&self, op: &ContainerOp) -> bool {
        matches!(op, ContainerOp::Take(Value::Nil))
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        16 + size_of_val::<[Value]>(state)
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<ContainerOp>, HistoryError> {
        view(op, fail_means, "unordered-queue", "enqueue", "dequeue")
    }
}

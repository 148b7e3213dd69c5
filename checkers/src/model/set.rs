//! A set: `add v`, `remove v`, `contains v` (answers true or false), `read` (answers the list of all elements).

use super::{FailMeans, Model, no_such_op};
use crate::{HistoryError, Op, Outcome, Value};
use std::collections::BTreeSet;

/// A set.
#[derive(Clone, Copy, Debug)]
pub struct Set;

/// What was done to a set, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum SetOp {
    /// Put this in.
    Add(Value),
    /// Took this out, if it was there.
    Remove(Value),
    /// Said whether this is in it.
    Contains(Value, bool),
    /// Said what is in it.
    Read(BTreeSet<Value>),
}

impl Model for Set {
    type State = BTreeSet<Value>;
    type Op = SetOp;

    fn initial(&self) -> Self::State {
        BTreeSet::new()
    }

    fn step(&self, state: &Self::State, op: &SetOp) -> Option<Self::State> {
        match op {
            SetOp::Add(value) => {
                let mut next = state.clone();
                next.insert(value.clone());
                Some(next)
            }
            SetOp::Remove(value) => {
                let mut next = state.clone();
                next.remove(value);
                Some(next)
            }
            SetOp::Contains(value, answer) => (state.contains(value) == *answer).then(|| state.clone()),
            SetOp::Read(all) => (state == all).then(|| state.clone()),
        }
    }

    fn is_read_only(&self, op: &SetOp) -> bool {
        matches!(op, SetOp::Contains(..) | SetOp::Read(_))
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        // Entries of a tree, with its own bookkeeping.
        48 * (state.len() + 1)
    }

    fn view(&self, op: &Op<'_>, _: FailMeans) -> Result<Option<SetOp>, HistoryError> {
        let bad = |message: String| HistoryError::DoesNotFit { index: op.call_index() as u64, message };
        let happened = op.outcome() != Outcome::Fail;
        match op.f().as_str() {
            "add" => Ok(happened.then(|| SetOp::Add(op.argument()))),
            "remove" => Ok(happened.then(|| SetOp::Remove(op.argument()))),
            "contains" | "read" if op.outcome() != Outcome::Ok => Ok(None),
            "contains" => match op.result() {
                Some(Value::Bool(answer)) => Ok(Some(SetOp::Contains(op.argument(), answer))),
                other => Err(bad(format!("contains answers true or false, not {}", other.unwrap_or_default()))),
            },
            "read" => match op.result() {
                Some(Value::List(items)) => Ok(Some(SetOp::Read(items.iter().cloned().collect()))),
                Some(Value::Nil) | None => Ok(Some(SetOp::Read(BTreeSet::new()))),
                Some(other) => Err(bad(format!("read answers the list of all elements, not {other}"))),
            },
            _ => Err(no_such_op(op, "set", "add, remove, contains, read")),
        }
    }
}

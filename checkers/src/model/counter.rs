//! A number: `add n`, `fetch-add n` (answers the number before), `read`.

use super::{FailMeans, Model, no_such_op};
use crate::{HistoryError, Op, Outcome, Value};

/// A counter that begins at 0.
#[derive(Clone, Copy, Debug)]
pub struct Counter;

/// What was done to a counter, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum CounterOp {
    /// Added this.
    Add(i64),
    /// Added the first and answered the second: the number before.
    FetchAdd(i64, i64),
    /// Read this.
    Read(i64),
}

impl Model for Counter {
    type State = i64;
    type Op = CounterOp;

    fn initial(&self) -> i64 {
        0
    }

    fn step(&self, state: &i64, op: &CounterOp) -> Option<i64> {
        match *op {
            CounterOp::Add(n) => state.checked_add(n),
            CounterOp::FetchAdd(n, before) if *state == before => state.checked_add(n),
            CounterOp::FetchAdd(..) => None,
            CounterOp::Read(n) => (*state == n).then_some(n),
        }
    }

    fn is_read_only(&self, op: &CounterOp) -> bool {
        matches!(op, CounterOp::Read(_) | CounterOp::Add(0) | CounterOp::FetchAdd(0, _))
    }

    fn view(&self, op: &Op<'_>, _: FailMeans) -> Result<Option<CounterOp>, HistoryError> {
        let number = |value: Value, what: &str| {
            value.as_int().ok_or_else(|| HistoryError::DoesNotFit {
                index: op.call_index() as u64,
                message: format!("{what} is a whole number, not {value}"),
            })
        };
        let result = || op.result().unwrap_or_default();
        Ok(match (op.f().as_str(), op.outcome()) {
            ("add" | "fetch-add", Outcome::Fail) => None,
            ("add", _) | ("fetch-add", Outcome::Unfinished) => {
                Some(CounterOp::Add(number(op.argument(), "what is added")?))
            }
            ("fetch-add", _) => Some(CounterOp::FetchAdd(
                number(op.argument(), "what is added")?,
                number(result(), "the answer of fetch-add")?,
            )),
            ("read", Outcome::Ok) => Some(CounterOp::Read(number(result(), "the answer of read")?)),
            ("read", _) => None,
            _ => return Err(no_such_op(op, "counter", "add, fetch-add, read")),
        })
    }
}

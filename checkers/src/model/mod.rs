//! Sequential models: what an object does when nobody else is around.
//!
//! A model is a pure function: state and operation (with its answer) to next state, or to nothing where the answer is
//! wrong. It also turns the operations of a history into its own, and says precisely where a history does not fit.
//! One model a file.

mod kv;
mod register;

pub use kv::{Kv, KvOp, KvState};
pub use register::{Register, RegisterOp};

use crate::{HistoryError, Op, Outcome, Value};
use std::fmt::Debug;
use std::hash::Hash;

/// What a `fail` completion of a compare-and-set says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailMeans {
    /// The operation had no effect; why is not known (refused, unreachable, mismatch). Says nothing about the state.
    #[default]
    NoEffect,
    /// The system answered that the current value differs from the expected one: a read in disguise.
    AnsweredNo,
}

/// A sequential object.
///
/// Laws: `step` is a function of its arguments alone. An operation with `is_read_only` never changes the state.
pub trait Model: Clone + Send + Sync {
    /// What the object remembers.
    type State: Clone + Debug + Eq + Hash + Send;
    /// An operation together with its answer.
    type Op: Clone + Debug + Eq + Hash + Send + Sync;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `op`, or `None` when `op` cannot have got this answer in this state.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;

    /// Whether `op` leaves every state as it is.
    fn is_read_only(&self, op: &Self::Op) -> bool;

    /// The model's view of an operation: `None` when it can be left out of the check, because it certainly had no
    /// effect or because nobody knows its answer and it changes nothing.
    ///
    /// # Errors
    /// When the model has no such operation, or not with this argument or answer.
    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<Self::Op>, HistoryError>;
}

/// The models that [`crate::linear::check`] knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// `read`, `write`.
    Register,
    /// `read`, `write`, `cas` (argument `[expected, new]`).
    CasRegister,
    /// `get`, `put`, `append`, `delete`, `cas` on one value per key.
    Kv,
}

impl ModelKind {
    /// All of them.
    pub const ALL: [Self; 3] = [Self::Register, Self::CasRegister, Self::Kv];

    /// The model with this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its name: `register`, `cas-register`, `kv`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::CasRegister => "cas-register",
            Self::Kv => "kv",
        }
    }
}

/// The error for an operation that the model does not have.
fn no_such_op(op: &Op<'_>, model: &str, known: &str) -> HistoryError {
    HistoryError::DoesNotFit {
        index: op.call_index() as u64,
        message: format!("the {model} model has no operation `{}`; it knows {known}", op.f()),
    }
}

/// `[expected, new]` of a compare-and-set.
fn cas_argument(op: &Op<'_>) -> Result<(Value, Value), HistoryError> {
    match op.argument() {
        Value::List(pair) if pair.len() == 2 => Ok((pair[0].clone(), pair[1].clone())),
        other => Err(HistoryError::DoesNotFit {
            index: op.call_index() as u64,
            message: format!("the argument of cas is [expected, new], not {other}"),
        }),
    }
}

/// What a compare-and-set comes to, made of `done(expected, new)` and `refused(expected)`.
fn view_cas<O>(
    op: &Op<'_>,
    fail_means: FailMeans,
    done: impl FnOnce(Value, Value) -> O,
    refused: impl FnOnce(Value) -> O,
) -> Result<Option<O>, HistoryError> {
    let (expected, new) = cas_argument(op)?;
    Ok(match (op.outcome(), fail_means) {
        (Outcome::Ok | Outcome::Unfinished, _) => Some(done(expected, new)),
        (Outcome::Fail, FailMeans::AnsweredNo) => Some(refused(expected)),
        (Outcome::Fail, FailMeans::NoEffect) => None,
    })
}

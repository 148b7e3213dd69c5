//! One value that is read and written, and in one flavour compared and set.
//!
//! Operations: `read` (its completion's value is what was read), `write v`, `cas [expected, new]`. Before the first
//! write the value is nil.

use super::{FailMeans, Model, no_such_op, view_cas};
use crate::{HistoryError, Op, Outcome, Value};

/// A register, with or without compare-and-set.
#[derive(Clone, Copy, Debug)]
pub struct Register {
    /// Whether it has `cas`.
    pub cas: bool,
}

/// What was done to a register, and what it answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum RegisterOp {
    /// Read this value.
    Read(Value),
    /// Wrote this value.
    Write(Value),
    /// Found the first value and replaced it by the second.
    Cas(Value, Value),
    /// Answered that the value is another one than this.
    CasRefused(Value),
}

impl Model for Register {
    type State = Value;
    type Op = RegisterOp;

    fn initial(&self) -> Value {
        Value::Nil
    }

    fn step(&self, state: &Value, op: &RegisterOp) -> Option<Value> {
        match op {
            RegisterOp::Read(value) => (state == value).then(|| state.clone()),
            RegisterOp::Write(value) => Some(value.clone()),
            RegisterOp::Cas(expected, new) => (state == expected).then(|| new.clone()),
            RegisterOp::CasRefused(expected) => (state != expected).then(|| state.clone()),
        }
    }

    fn is_read_only(&self, op: &RegisterOp) -> bool {
        match op {
            RegisterOp::Read(_) | RegisterOp::CasRefused(_) => true,
            RegisterOp::Write(_) => false,
            RegisterOp::Cas(expected, new) => expected == new,
        }
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<RegisterOp>, HistoryError> {
        match op.f().as_str() {
            "read" => Ok((op.outcome() == Outcome::Ok).then(|| RegisterOp::Read(op.result().unwrap_or_default()))),
            "write" => Ok((op.outcome() != Outcome::Fail).then(|| RegisterOp::Write(op.argument()))),
            "cas" if self.cas => view_cas(op, fail_means, RegisterOp::Cas, RegisterOp::CasRefused),
            _ if self.cas => Err(no_such_op(op, "cas-register", "read, write, cas")),
            _ => Err(no_such_op(op, "register", "read, write")),
        }
    }
}

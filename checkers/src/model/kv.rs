//! The value of one key: `get`, `put v`, `append text`, `delete`, `cas [expected, new]`.
//!
//! A key that is not there reads as nil or as the empty string: systems differ, and appending to nothing starts from
//! nothing in both. Keys are independent, so a state is that of one key.

use super::{FailMeans, Model, no_such_op, view_cas};
use crate::{HistoryError, Op, Outcome, Sym, Value};

/// A key-value store, seen from one key.
#[derive(Clone, Copy, Debug)]
pub struct Kv;

/// What is stored under a key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvState {
    /// Nothing.
    Absent,
    /// A text, which can grow.
    Text(Box<str>),
    /// Anything else.
    Other(Value),
}

/// What was done to a key, and what was answered.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum KvOp {
    /// Read this value.
    Get(Value),
    /// Stored this value; nil is as good as deleting.
    Put(Value),
    /// Added this text at the end.
    Append(Sym),
    /// Removed the value.
    Delete,
    /// Found the first value and replaced it by the second.
    Cas(Value, Value),
    /// Answered that the value is another one than this.
    CasRefused(Value),
}

impl KvState {
    fn of(value: &Value) -> Self {
        match value {
            Value::Nil => Self::Absent,
            Value::Str(text) => Self::Text(text.as_str().into()),
            other => Self::Other(other.clone()),
        }
    }

    fn reads_as(&self, value: &Value) -> bool {
        match (self, value) {
            (Self::Absent, Value::Nil) => true,
            (Self::Absent, Value::Str(text)) => text.as_str().is_empty(),
            (Self::Text(text), Value::Str(read)) => **text == *read.as_str(),
            (Self::Other(stored), read) => stored == read,
            _ => false,
        }
    }
}

impl Model for Kv {
    type State = KvState;
    type Op = KvOp;

    fn initial(&self) -> KvState {
        KvState::Absent
    }

    fn step(&self, state: &KvState, op: &KvOp) -> Option<KvState> {
        match op {
            KvOp::Get(value) => state.reads_as(value).then(|| state.clone()),
            KvOp::Put(value) => Some(KvState::of(value)),
            KvOp::Append(text) => match state {
                KvState::Absent => Some(KvState::Text(text.as_str().into())),
                KvState::Text(before) => Some(KvState::Text(format!("{before}{text}").into())),
                KvState::Other(_) => None,
            },
            KvOp::Delete => Some(KvState::Absent),
            KvOp::Cas(expected, new) => state.reads_as(expected).then(|| KvState::of(new)),
            KvOp::CasRefused(expected) => (!state.reads_as(expected)).then(|| state.clone()),
        }
    }

    fn is_read_only(&self, op: &KvOp) -> bool {
        matches!(op, KvOp::Get(_) | KvOp::CasRefused(_))
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<KvOp>, HistoryError> {
        let effect = |kv_op: KvOp| Ok((op.outcome() != Outcome::Fail).then_some(kv_op));
        match op.f().as_str() {
            "get" => Ok((op.outcome() == Outcome::Ok).then(|| KvOp::Get(op.result().unwrap_or_default()))),
            "put" => effect(KvOp::Put(op.argument())),
            "delete" => effect(KvOp::Delete),
            "append" => match op.argument() {
                Value::Str(text) => effect(KvOp::Append(text)),
                other => Err(HistoryError::DoesNotFit {
                    index: op.call_index() as u64,
                    message: format!("the argument of append is a string, not {other}"),
                }),
            },
            "cas" => view_cas(op, fail_means, KvOp::Cas, KvOp::CasRefused),
            _ => Err(no_such_op(op, "kv", "get, put, append, delete, cas")),
        }
    }
}

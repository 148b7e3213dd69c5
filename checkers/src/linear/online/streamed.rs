//! What a model tells an engine that cannot look ahead. Everything has a default that is true of any model.

use super::super::engines::{Own, is_empty_text};
use crate::Value;
use crate::model::{Counter, CounterOp, Kv, KvOp, KvState, Lock, Micro, Model, MultiRegister, Register, RegisterOp};

/// A model that can be checked while its history grows.
pub(crate) trait Streamed: Model + 'static {
    /// Whether `op` is possible in every state and what it leaves behind does not depend on the state before: then an
    /// operation just before it leaves no trace.
    fn overwrites(&self, _op: &Self::Op) -> bool {
        false
    }

    /// Whether the order of the two never matters: in every state both orders are possible or neither is, and both lead
    /// to the same state.
    fn commutes(&self, _a: &Self::Op, _b: &Self::Op) -> bool {
        false
    }

    /// Whether [`Streamed::commutes`] is ever true.
    fn has_commuting(&self) -> bool {
        false
    }

    /// All states that `op` may lead to, where they are more than the one of [`Model::step`].
    fn outcomes(&self, state: &Self::State, op: &Self::Op) -> Vec<Self::State> {
        self.step(state, op).into_iter().collect()
    }

    /// Whether there are ever more than one.
    fn has_outcomes(&self) -> bool {
        false
    }

    /// The operation with its call and its end (`u64::MAX` while nobody has seen it), where they matter.
    fn dated(&self, op: &Self::Op, _call: u64, _end: u64) -> Self::Op {
        op.clone()
    }

    /// About how many bytes this state shares with those before it ([`Model::state_bytes`] counts the rest).
    fn shared_bytes(&self, _state: &Self::State) -> u64 {
        0
    }

    /// The operation as one of a register, where the object is a register as far as it goes.
    fn as_register(&self, _op: &Self::Op) -> Option<RegisterOp> {
        None
    }

    /// The reverse of [`Streamed::as_register`] for operations that change the value.
    fn of_register(&self, _op: RegisterOp) -> Option<Self::Op> {
        None
    }

    /// The state in which the register has this value.
    fn holding(&self, _value: &Value) -> Option<Self::State> {
        None
    }
}

impl<M: Model + 'static> Streamed for Own<M> {}
impl Streamed for Lock {}

impl Streamed for Register {
    fn overwrites(&self, op: &RegisterOp) -> bool {
        matches!(op, RegisterOp::Write(_))
    }

    fn as_register(&self, op: &RegisterOp) -> Option<RegisterOp> {
        Some(op.clone())
    }

    fn of_register(&self, op: RegisterOp) -> Option<RegisterOp> {
        Some(op)
    }

    fn holding(&self, value: &Value) -> Option<Value> {
        Some(value.clone())
    }
}

impl Streamed for Kv {
    fn overwrites(&self, op: &KvOp) -> bool {
        matches!(op, KvOp::Put(_) | KvOp::Delete)
    }

    /// A key that stores the empty string is no register: it reads like one that is not there, and yet is another state.
    fn as_register(&self, op: &KvOp) -> Option<RegisterOp> {
        let observed = |value: &Value| if is_empty_text(value) { Value::Nil } else { value.clone() };
        let stored = |value: &Value| (!is_empty_text(value)).then(|| value.clone());
        Some(match op {
            KvOp::Get(value) => RegisterOp::Read(observed(value)),
            KvOp::Put(value) => RegisterOp::Write(stored(value)?),
            KvOp::Delete => RegisterOp::Write(Value::Nil),
            KvOp::Cas(expected, new) => RegisterOp::Cas(observed(expected), stored(new)?),
            KvOp::CasRefused(value) => RegisterOp::CasRefused(observed(value)),
            KvOp::Append(_) => return None,
        })
    }

    fn of_register(&self, op: RegisterOp) -> Option<KvOp> {
        Some(match op {
            RegisterOp::Read(value) => KvOp::Get(value),
            RegisterOp::Write(value) => KvOp::Put(value),
            RegisterOp::Cas(expected, new) => KvOp::Cas(expected, new),
            RegisterOp::CasRefused(expected) => KvOp::CasRefused(expected),
        })
    }

    fn holding(&self, value: &Value) -> Option<KvState> {
        self.step(&self.initial(), &KvOp::Put(value.clone()))
    }
}

impl Streamed for Counter {
    fn commutes(&self, a: &CounterOp, b: &CounterOp) -> bool {
        match (a, b) {
            // In opposite directions one of the orders may leave the range of numbers.
            (CounterOp::Add(a), CounterOp::Add(b)) => a.signum() * b.signum() >= 0,
            _ => self.is_read_only(a) && self.is_read_only(b),
        }
    }

    fn has_commuting(&self) -> bool {
        true
    }
}

impl Streamed for MultiRegister {
    fn commutes(&self, a: &Vec<Micro>, b: &Vec<Micro>) -> bool {
        let key = |micro: &Micro| match micro {
            Micro::Read(key, _) | Micro::Write(key, _) => key.clone(),
        };
        let is_apart = || a.iter().all(|a| b.iter().all(|b| key(a) != key(b)));
        self.is_read_only(a) && self.is_read_only(b) || is_apart()
    }

    fn has_commuting(&self) -> bool {
        true
    }
}

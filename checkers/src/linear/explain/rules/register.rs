//! Registers.

use super::{Labels, Rules};
use crate::Value;
use crate::linear::explain::few::FewOp;
use crate::linear::problem::Item;
use crate::linear::relaxed;
use crate::linear::values::RegisterHistory;
use crate::model::{Register, RegisterOp};

/// A value that no operation observes.
pub(super) fn another_value() -> Value {
    Value::Map([(Value::str("squall"), Value::str("any other value"))].into())
}

/// In words.
pub(super) fn value_text(value: &Value) -> String {
    if *value == another_value() { "another value".to_owned() } else { value.to_string() }
}

impl Rules for Register {
    fn labels(&self, items: &[Item<RegisterOp>]) -> Labels {
        let labels = items.iter().map(|item| match &item.op {
            RegisterOp::Read(value) | RegisterOp::Write(value) => Some(vec![value.clone()]),
            RegisterOp::Cas(expected, new) => Some(vec![expected.clone(), new.clone()]),
            // "Not this value" could be true only because of an operation that is left out.
            RegisterOp::CasRefused(_) => None,
        });
        labels.collect::<Option<_>>().map_or(Labels::None, Labels::Tied)
    }

    fn weaker(&self, op: &RegisterOp) -> Option<RegisterOp> {
        if let RegisterOp::Cas(_, new) = op { Some(RegisterOp::Write(new.clone())) } else { None }
    }

    fn found_and_left(&self, op: &RegisterOp) -> Option<(Option<Value>, Option<Value>)> {
        match op {
            RegisterOp::Read(value) => Some((Some(value.clone()), None)),
            RegisterOp::Write(value) => Some((None, Some(value.clone()))),
            RegisterOp::Cas(expected, new) => Some((Some(expected.clone()), Some(new.clone()))),
            RegisterOp::CasRefused(_) => None,
        }
    }

    fn is_useful(&self, op: &RegisterOp, others: &[&RegisterOp]) -> bool {
        let (RegisterOp::Write(left) | RegisterOp::Cas(_, left)) = op else { return true };
        others.iter().any(|other| match other {
            RegisterOp::Read(value) | RegisterOp::Cas(value, _) => value == left,
            RegisterOp::CasRefused(_) => true,
            RegisterOp::Write(_) => false,
        })
    }

    /// A value is as good as any other when nobody observes it.
    fn any_state(&self, ops: &mut [FewOp<RegisterOp>]) -> Option<Vec<Value>> {
        let observed = ops.iter().filter_map(|op| match &op.op {
            RegisterOp::Read(value) | RegisterOp::Cas(value, _) | RegisterOp::CasRefused(value) => Some(value.clone()),
            RegisterOp::Write(_) => None,
        });
        let mut states: Vec<Value> = observed.chain([another_value()]).collect();
        states.sort_unstable();
        states.dedup();
        Some(states)
    }

    fn subject(&self) -> &'static str {
        "the register holds"
    }

    fn state_text(&self, state: &Value) -> String {
        value_text(state)
    }

    fn needs(&self, op: &RegisterOp) -> Option<String> {
        match op {
            RegisterOp::Read(value) | RegisterOp::Cas(value, _) => Some(value.to_string()),
            RegisterOp::CasRefused(value) => Some(format!("anything but {value}")),
            RegisterOp::Write(_) => None,
        }
    }

    fn contradiction(&self, items: &[Item<RegisterOp>]) -> Option<Vec<(usize, RegisterOp)>> {
        let members = relaxed::contradiction(&RegisterHistory::of_items(items))?.into_iter().map(|member| {
            let (at, op) = (member.at as usize, &items[member.at as usize].op);
            let op = if member.is_plain_write { self.weaker(op) } else { None }.unwrap_or_else(|| op.clone());
            (at, op)
        });
        Some(members.collect())
    }

    fn restricted_text(&self, _: &str, op: &RegisterOp, _: &[Value]) -> String {
        if let RegisterOp::Write(new) = op { format!("cas … -> {new}") } else { format!("{op:?}") }
    }
}

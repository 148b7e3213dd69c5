//! A key of a key-value store.

use super::register::{another_value, value_text};
use super::{Labels, Rules};
use crate::Value;
use crate::linear::engines::contradiction_of_key;
use crate::linear::explain::few::FewOp;
use crate::linear::problem::Item;
use crate::model::{Kv, KvOp, KvState};

/// Most states that stand for all.
const STATES_MAX: usize = 256;

/// A key that is not there reads like one with the empty string.
fn observed(value: &Value) -> Value {
    match value {
        Value::Str(text) if text.as_str().is_empty() => Value::Nil,
        other => other.clone(),
    }
}

impl Rules for Kv {
    /// As for a register. Texts that grow depend on all that was appended: no rule.
    fn labels(&self, items: &[Item<KvOp>]) -> Labels {
        let labels = items.iter().map(|item| match &item.op {
            KvOp::Get(value) | KvOp::Put(value) => Some(vec![observed(value)]),
            KvOp::Delete => Some(vec![Value::Nil]),
            KvOp::Cas(expected, new) => Some(vec![observed(expected), observed(new)]),
            KvOp::Append(_) | KvOp::CasRefused(_) => None,
        });
        labels.collect::<Option<_>>().map_or(Labels::None, Labels::Tied)
    }

    fn weaker(&self, op: &KvOp) -> Option<KvOp> {
        if let KvOp::Cas(_, new) = op { Some(KvOp::Put(new.clone())) } else { None }
    }

    fn found_and_left(&self, op: &KvOp) -> Option<(Option<Value>, Option<Value>)> {
        match op {
            KvOp::Get(value) => Some((Some(observed(value)), None)),
            KvOp::Put(value) => Some((None, Some(observed(value)))),
            KvOp::Delete => Some((None, Some(Value::Nil))),
            KvOp::Cas(expected, new) => Some((Some(observed(expected)), Some(observed(new)))),
            KvOp::Append(_) | KvOp::CasRefused(_) => None,
        }
    }

    fn is_useful(&self, op: &KvOp, others: &[&KvOp]) -> bool {
        let found = others.iter().filter_map(|other| match other {
            KvOp::Get(value) | KvOp::Cas(value, _) => Some(value),
            _ => None,
        });
        let mut texts = found.clone().map(|value| if let Value::Str(text) = value { text.as_str() } else { "" });
        // A text is found with all that was appended to it.
        match op {
            _ if others.iter().any(|other| matches!(other, KvOp::CasRefused(_))) => true,
            KvOp::Append(end) => texts.any(|text| text.contains(end.as_str())),
            KvOp::Put(Value::Str(begin)) | KvOp::Cas(_, Value::Str(begin)) => {
                texts.any(|text| text.starts_with(begin.as_str()))
            }
            KvOp::Put(Value::Nil) | KvOp::Cas(_, Value::Nil) | KvOp::Delete => true,
            KvOp::Put(left) | KvOp::Cas(_, left) => found.clone().any(|value| value == left),
            KvOp::Get(_) | KvOp::CasRefused(_) => true,
        }
    }

    /// What is observed; what becomes that by appending; nothing, the empty text, another text and another value.
    fn any_state(&self, ops: &mut [FewOp<KvOp>]) -> Option<Vec<KvState>> {
        let mut states = vec![KvState::Absent];
        let add = |state: KvState, states: &mut Vec<KvState>| {
            if !states.contains(&state) {
                states.push(state);
            }
        };
        for op in ops.iter() {
            if let KvOp::Get(value) | KvOp::Cas(value, _) | KvOp::CasRefused(value) = &op.op {
                match value {
                    Value::Nil => {}
                    Value::Str(text) => add(KvState::Text(text.as_str().into()), &mut states),
                    other => add(KvState::Other(other.clone()), &mut states),
                }
            }
        }
        let mut at = 0;
        while at < states.len() {
            if let KvState::Text(text) = states[at].clone() {
                for op in ops.iter() {
                    if let KvOp::Append(end) = &op.op
                        && !end.as_str().is_empty()
                        && let Some(before) = text.strip_suffix(end.as_str())
                    {
                        add(KvState::Text(before.into()), &mut states);
                    }
                }
            }
            if states.len() > STATES_MAX {
                return None;
            }
            at += 1;
        }
        add(KvState::Text("".into()), &mut states);
        // A text that is longer than any observed one never becomes one of them.
        let longest = states.iter().map(|state| if let KvState::Text(text) = state { text.len() } else { 0 }).max();
        add(KvState::Text("?".repeat(longest.unwrap_or(0) + 1).into()), &mut states);
        add(KvState::Other(another_value()), &mut states);
        Some(states)
    }

    fn subject(&self) -> &'static str {
        "the key holds"
    }

    fn state_text(&self, state: &KvState) -> String {
        match state {
            KvState::Absent => "nothing".to_owned(),
            KvState::Text(text) if text.is_empty() => "the empty text".to_owned(),
            KvState::Text(text) if text.chars().all(|c| c == '?') => "another text".to_owned(),
            KvState::Text(text) => text.to_string(),
            KvState::Other(value) => value_text(value),
        }
    }

    fn needs(&self, op: &KvOp) -> Option<String> {
        let shown = |value: &Value| match observed(value) {
            Value::Nil => "nothing there".to_owned(),
            other => other.to_string(),
        };
        match op {
            KvOp::Get(value) | KvOp::Cas(value, _) => Some(shown(value)),
            KvOp::CasRefused(value) => Some(format!("anything but {}", shown(value))),
            KvOp::Append(_) => Some("a text".to_owned()),
            KvOp::Put(_) | KvOp::Delete => None,
        }
    }

    fn contradiction(&self, items: &[Item<KvOp>]) -> Option<Vec<(usize, KvOp)>> {
        let members = contradiction_of_key(items)?.into_iter().map(|member| {
            let (at, op) = (member.at as usize, &items[member.at as usize].op);
            let plain = || match op {
                KvOp::Append(begin) => Some(KvOp::Put(Value::Str(*begin))),
                other => self.weaker(other),
            };
            let op = if member.is_plain_write { plain() } else { None }.unwrap_or_else(|| op.clone());
            (at, op)
        });
        Some(members.collect())
    }

    fn restricted_text(&self, f: &str, op: &KvOp, _: &[Value]) -> String {
        if let KvOp::Put(new) = op { format!("{f} … -> {new}") } else { format!("{op:?}") }
    }
}

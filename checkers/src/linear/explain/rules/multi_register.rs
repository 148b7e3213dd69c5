//! Registers that are read and written together.

use super::{Labels, Rules};
use crate::Value;
use crate::linear::problem::Item;
use crate::model::{Micro, MultiRegister};
use std::collections::{BTreeMap, BTreeSet};

/// A value of a key.
fn label(key: &Value, value: &Value) -> Value {
    Value::list([key.clone(), value.clone()])
}

fn label_of(micro: &Micro) -> Option<Value> {
    match micro {
        Micro::Read(key, Some(value)) | Micro::Write(key, value) => Some(label(key, value)),
        Micro::Read(_, None) => None,
    }
}

impl Rules for MultiRegister {
    fn labels(&self, items: &[Item<Vec<Micro>>]) -> Labels {
        let labels: BTreeSet<Value> = items.iter().flat_map(|item| &item.op).filter_map(label_of).collect();
        Labels::Apart(labels.into_iter().collect())
    }

    /// Steps whose answer nobody knows say nothing, and leave with the rest.
    fn restricted(&self, op: &Vec<Micro>, stays: &dyn Fn(&Value) -> bool) -> Option<Vec<Micro>> {
        let stays = |micro: &&Micro| label_of(micro).is_some_and(|label| stays(&label));
        let rest: Vec<Micro> = op.iter().filter(stays).cloned().collect();
        (!rest.is_empty()).then_some(rest)
    }

    fn subject(&self) -> &'static str {
        "the registers hold"
    }

    fn state_text(&self, state: &BTreeMap<Value, Value>) -> String {
        let written: Vec<String> = state.iter().map(|(key, value)| format!("{key}={value}")).collect();
        let rest = format!("{} elsewhere", self.initial);
        if written.is_empty() {
            format!("{} everywhere", self.initial)
        } else {
            format!("{}, {rest}", written.join(" "))
        }
    }

    fn needs(&self, op: &Vec<Micro>) -> Option<String> {
        let mut written = BTreeSet::new();
        let mut needs = Vec::new();
        for micro in op {
            match micro {
                Micro::Write(key, _) => {
                    written.insert(key);
                }
                // What the transaction itself wrote needs nothing from before.
                Micro::Read(key, Some(value)) if !written.contains(key) => needs.push(format!("{key}={value}")),
                Micro::Read(..) => {}
            }
        }
        (!needs.is_empty()).then(|| needs.join(" and "))
    }

    fn restricted_text(&self, _: &str, op: &Vec<Micro>, _: &[Value]) -> String {
        let steps: Vec<String> = op
            .iter()
            .map(|micro| match micro {
                Micro::Read(key, Some(value)) => format!("read {key} -> {value}"),
                Micro::Read(key, None) => format!("read {key}"),
                Micro::Write(key, value) => format!("write {key} {value}"),
            })
            .collect();
        format!("txn … {}", steps.join(", "))
    }
}

//! Sets: elements are independent of each other.

use super::{Labels, Rules, contents};
use crate::Value;
use crate::linear::explain::few::FewOp;
use crate::linear::problem::Item;
use crate::model::{Set, SetOp};
use std::collections::BTreeSet;

/// Elements named in a text, at most.
const NAMED_MAX: usize = 6;

/// Elements of which every choice is tried, at most.
const ELEMENTS_MAX: usize = 6;

impl Rules for Set {
    fn labels(&self, items: &[Item<SetOp>]) -> Labels {
        let mut elements: BTreeSet<&Value> = BTreeSet::new();
        for item in items {
            match &item.op {
                SetOp::Add(value) | SetOp::Remove(value) | SetOp::Contains(value, _) => {
                    elements.insert(value);
                }
                SetOp::Read(all) => elements.extend(all),
            }
        }
        Labels::Apart(elements.into_iter().cloned().collect())
    }

    /// A read says of each element whether it is inside; also of those that it does not name.
    fn restricted(&self, op: &SetOp, stays: &dyn Fn(&Value) -> bool) -> Option<SetOp> {
        match op {
            SetOp::Add(value) | SetOp::Remove(value) | SetOp::Contains(value, _) => stays(value).then(|| op.clone()),
            SetOp::Read(all) => Some(SetOp::Read(all.iter().filter(|value| stays(value)).cloned().collect())),
        }
    }

    /// Any choice of the few elements that are spoken of: no other one comes or goes.
    fn any_state(&self, ops: &mut [FewOp<SetOp>]) -> Option<Vec<BTreeSet<Value>>> {
        let mut elements: BTreeSet<&Value> = BTreeSet::new();
        for op in ops.iter() {
            match &op.op {
                SetOp::Add(value) | SetOp::Remove(value) | SetOp::Contains(value, _) => drop(elements.insert(value)),
                SetOp::Read(all) => elements.extend(all),
            }
        }
        let chosen = |choice: usize| {
            let is_chosen = |(at, _): &(usize, &&Value)| choice >> at & 1 != 0;
            elements.iter().enumerate().filter(is_chosen).map(|(_, value)| (*value).clone()).collect()
        };
        (elements.len() <= ELEMENTS_MAX).then(|| (0..1 << elements.len()).map(chosen).collect())
    }

    fn subject(&self) -> &'static str {
        "the set holds"
    }

    fn state_text(&self, state: &BTreeSet<Value>) -> String {
        contents(state)
    }

    fn needs(&self, op: &SetOp) -> Option<String> {
        match op {
            SetOp::Add(_) | SetOp::Remove(_) => None,
            SetOp::Contains(value, true) => Some(format!("{value} inside")),
            SetOp::Contains(value, false) => Some(format!("{value} not inside")),
            SetOp::Read(all) => Some(contents(all)),
        }
    }

    fn restricted_text(&self, _: &str, op: &SetOp, labels: &[Value]) -> String {
        let SetOp::Read(all) = op else { return format!("{op:?}") };
        let (with, without): (Vec<&Value>, Vec<&Value>) = labels.iter().partition(|label| all.contains(label));
        let some = |values: &[&Value]| {
            let named: Vec<String> = values.iter().take(NAMED_MAX).map(ToString::to_string).collect();
            format!("{}{}", named.join(" "), if values.len() > NAMED_MAX { " …" } else { "" })
        };
        match (&*with, &*without) {
            ([], []) => "read".to_owned(),
            (with, []) => format!("read -> with {}", some(with)),
            ([], without) => format!("read -> without {}", some(without)),
            (with, without) => format!("read -> with {}, without {}", some(with), some(without)),
        }
    }
}

//! Locks.

use super::{Labels, Rules};
use crate::Value;
use crate::linear::problem::{FastMap, Item};
use crate::model::{Holders, Lock, LockOp};

impl Rules for Lock {
    /// A hold is an acquire and the release that ends it. A process does one thing at a time, so in the order of its calls
    /// each release ends its latest hold; without both, a hold lasts, or ends nothing, and then it is one of its own.
    ///
    /// Only where processes do: an acquire that may come after the release that is told to end it would be no pair.
    fn labels(&self, items: &[Item<LockOp>]) -> Labels {
        let mut order: Vec<usize> = (0..items.len()).collect();
        order.sort_unstable_by_key(|&at| items[at].call);
        let mut labels = vec![Vec::new(); items.len()];
        let mut held: FastMap<u32, Vec<i64>> = FastMap::default();
        let mut until: FastMap<u32, u32> = FastMap::default();
        for at in order {
            let (LockOp::Acquire(process, _) | LockOp::Release(process)) = items[at].op;
            let until = until.entry(process).or_insert(0);
            if *until > items[at].call {
                return Labels::None;
            }
            *until = items[at].ret;
            let held = held.entry(process).or_default();
            let hold = match items[at].op {
                LockOp::Acquire(..) => {
                    held.push(at as i64);
                    at as i64
                }
                LockOp::Release(_) => held.pop().unwrap_or(at as i64),
            };
            labels[at].push(Value::Int(hold));
        }
        Labels::Tied(labels)
    }

    fn subject(&self) -> &'static str {
        if self.permits == 1 { "the lock is" } else { "the permits are" }
    }

    fn state_text(&self, state: &Holders) -> String {
        state.to_string()
    }

    fn needs(&self, op: &LockOp) -> Option<String> {
        Some(match *op {
            LockOp::Acquire(_, Some(token)) if self.fencing => format!("a free lock and no token from {token} on"),
            LockOp::Acquire(..) if self.permits == 1 => "a free lock".to_owned(),
            LockOp::Acquire(..) => format!("fewer than {} permits taken", self.permits),
            LockOp::Release(process) => format!("to be held by process {process}"),
        })
    }
}

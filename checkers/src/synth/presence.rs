//! Which value a place certainly does not hold any more.
//!
//! A value is gone for certain when everything that ever produced it had returned before another value's operation was
//! invoked, and that one had returned, too, before the question was asked. Books are kept about the last operations only.

use crate::Value;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, VecDeque};

/// So many finished operations are remembered.
const REMEMBERED: usize = 64;

struct Produced {
    value: Value,
    call: u64,
    end: u64,
}

/// The books about one place.
pub(super) struct Presence {
    /// In the order of their ends.
    finished: VecDeque<Produced>,
    /// Value -> operations that may yet produce it: open ones, and unanswered ones for ever.
    pending: BTreeMap<Value, u32>,
}

impl Presence {
    pub(super) fn new(initial: Value) -> Self {
        Self { finished: VecDeque::from([Produced { value: initial, call: 0, end: 0 }]), pending: BTreeMap::new() }
    }

    pub(super) fn called(&mut self, value: &Value) {
        *self.pending.entry(value.clone()).or_default() += 1;
    }

    /// It took effect and returned, or (without an end) had none.
    pub(super) fn ended(&mut self, value: &Value, call: u64, end: Option<u64>) {
        if let Some(count) = self.pending.get_mut(value) {
            *count -= 1;
            if *count == 0 {
                self.pending.remove(value);
            }
        }
        if let Some(end) = end {
            self.finished.push_back(Produced { value: value.clone(), call, end });
            if self.finished.len() > REMEMBERED {
                self.finished.pop_front();
            }
        }
    }

    /// A value that was there once and is gone for whatever is invoked at `call`, provided that nothing which produces
    /// it is invoked before that returns: ask when it does. One of the last few.
    pub(super) fn gone(&self, call: u64, rng: &mut ChaCha8Rng) -> Option<Value> {
        let is_gone = |at: usize| {
            let value = &self.finished[at].value;
            let last_end = self.finished.iter().filter(|other| other.value == *value).map(|other| other.end).max();
            let over = |other: &Produced| Some(other.call) > last_end && other.end < call && other.value != *value;
            !self.pending.contains_key(value) && self.finished.iter().any(over)
        };
        let candidates: Vec<usize> = (0..self.finished.len()).rev().filter(|&at| is_gone(at)).take(3).collect();
        let chosen = (!candidates.is_empty()).then(|| candidates[rng.random_range(0..candidates.len())]);
        chosen.map(|at| self.finished[at].value.clone())
    }
}

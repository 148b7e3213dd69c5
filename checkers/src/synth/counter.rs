//! A counter; the wrong answer lies one beyond what any order could give.

use super::{Call, Effect, End, Object, Values};
use crate::Value;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// What was added: upwards, downwards.
#[derive(Clone, Copy, Default)]
struct Sums {
    up: i64,
    down: i64,
}

impl Sums {
    fn add(&mut self, n: i64) {
        self.up += n.max(0);
        self.down += n.min(0);
    }
}

pub(super) struct CounterObject {
    value: i64,
    step_max: i64,
    both_signs: bool,
    /// By everything invoked that has not failed.
    invoked: Sums,
    /// By everything that returned.
    finished: Sums,
    /// Invocation -> what had returned by then.
    finished_at: BTreeMap<u64, Sums>,
}

impl CounterObject {
    pub(super) fn new(values: Values, rich: bool) -> Self {
        let step_max = match values {
            Values::Unique => 1,
            Values::Distinct(count) => i64::from(count.max(1)),
        };
        Self {
            value: 0,
            step_max,
            both_signs: rich,
            invoked: Sums::default(),
            finished: Sums::default(),
            finished_at: BTreeMap::new(),
        }
    }
}

fn added(call: &Call) -> i64 {
    if call.f == "read" { 0 } else { call.argument.as_int().unwrap_or_default() }
}

impl Object for CounterObject {
    fn propose(&mut self, _client: usize, rng: &mut ChaCha8Rng) -> (&'static str, Value) {
        let step = rng.random_range(1..=self.step_max);
        let step = if self.both_signs && rng.random() { -step } else { step };
        match rng.random_range(0..3) {
            0 => ("add", Value::Int(step)),
            1 => ("fetch-add", Value::Int(step)),
            _ => ("read", Value::Nil),
        }
    }

    fn apply(&mut self, call: &Call, _rng: &mut ChaCha8Rng) -> Effect {
        let before = self.value;
        self.value += added(call);
        Effect::Done(if call.f == "add" { call.argument.clone() } else { Value::Int(before) })
    }

    fn called(&mut self, call: &Call) {
        self.invoked.add(added(call));
        self.finished_at.insert(call.at, self.finished);
    }

    fn ended(&mut self, call: &Call, _at: u64, end: End<'_>) {
        self.finished_at.remove(&call.at);
        match end {
            End::Ok(_) => self.finished.add(added(call)),
            End::Fail => {
                let (up, down) = (added(call).max(0), added(call).min(0));
                self.invoked = Sums { up: self.invoked.up - up, down: self.invoked.down - down };
            }
            End::Unfinished => {}
        }
    }

    fn lie(&mut self, call: &Call, _at: u64, _right: Option<&Value>, rng: &mut ChaCha8Rng) -> Option<Value> {
        if call.f == "add" {
            return None;
        }
        let before = self.finished_at.get(&call.at)?;
        let own = added(call);
        let least = before.up + self.invoked.down - own.min(0);
        let most = self.invoked.up - own.max(0) + before.down;
        Some(Value::Int(if rng.random() { least - 1 } else { most + 1 }))
    }

    fn absurd(&mut self) -> (&'static str, Value, Value) {
        ("read", Value::Nil, Value::Int(self.invoked.up + 1))
    }
}

//! Locks; the wrong answer is a permit too many, or a token that does not grow.

use super::{Call, Effect, End, Object, Unanswered};
use crate::Value;
use crate::model::Lock;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// A process takes a lock that it holds at most so often.
const HOLDS_MAX: u32 = 3;

/// No process.
const NOBODY: u32 = u32::MAX;

pub(super) struct LockObject {
    lock: Lock,
    /// Whether a process takes again what it holds.
    again: bool,
    /// Process -> holds, as the lock sees it.
    holders: BTreeMap<u32, u32>,
    /// Process -> holds whose `acquire` returned and whose `release` is not invoked: as everybody sees it.
    certain: BTreeMap<u32, u32>,
    /// Client -> holds, as it knows.
    known: BTreeMap<usize, u32>,
    token: i64,
    /// The largest token that was answered; by invocation, as of then.
    token_answered: Option<i64>,
    tokens_at: BTreeMap<u64, Option<i64>>,
}

impl LockObject {
    pub(super) fn new(lock: Lock, rich: bool) -> Self {
        Self {
            again: rich && (lock.reentrant || lock.permits > 1),
            lock,
            holders: BTreeMap::new(),
            certain: BTreeMap::new(),
            known: BTreeMap::new(),
            token: 0,
            token_answered: None,
            tokens_at: BTreeMap::new(),
        }
    }

    pub(super) fn with_tokens(first: i64) -> Self {
        Self { token: first, ..Self::new(Lock::FENCING, false) }
    }

    /// Holds that are in the way of this process.
    fn in_the_way(&self, holders: &BTreeMap<u32, u32>, process: u32) -> u32 {
        let others = holders.iter().filter(|(holder, _)| !self.lock.reentrant || **holder != process);
        others.map(|(_, holds)| holds).sum()
    }

    fn acquired(&self) -> Value {
        if self.lock.fencing { Value::Int(self.token) } else { Value::Nil }
    }

    fn take(&mut self, process: u32) -> Value {
        *self.holders.entry(process).or_default() += 1;
        self.token += 1;
        self.acquired()
    }
}

fn less<K: Ord>(holds: &mut BTreeMap<K, u32>, who: K) {
    if let Some(count) = holds.get_mut(&who) {
        *count -= 1;
        if *count == 0 {
            holds.remove(&who);
        }
    }
}

impl Object for LockObject {
    fn propose(&mut self, client: usize, rng: &mut ChaCha8Rng) -> (&'static str, Value) {
        let holds = self.known.get(&client).copied().unwrap_or(0);
        let more = match self.lock.reentrant {
            // After a permit too many, those who hold it must not wait for each other.
            true => self.holders.len() == 1 && holds < HOLDS_MAX && rng.random_range(0..3) == 0,
            // Whoever took the last permit gives one back, or all might wait for each other.
            false => self.in_the_way(&self.holders, NOBODY) + 1 < self.lock.permits,
        };
        (if holds == 0 || self.again && more { "acquire" } else { "release" }, Value::Nil)
    }

    fn apply(&mut self, call: &Call, _rng: &mut ChaCha8Rng) -> Effect {
        if call.f == "release" {
            less(&mut self.holders, call.process);
            return Effect::Done(Value::Nil);
        }
        if self.in_the_way(&self.holders, call.process) >= self.lock.permits {
            return Effect::Wait;
        }
        Effect::Done(self.take(call.process))
    }

    /// What a process that is never heard of again holds is held for good: then it must hold nothing.
    fn unanswered(&self, client: usize, f: &str) -> Unanswered {
        match (f, self.known.get(&client)) {
            ("acquire", None) => Unanswered::Lost,
            ("release", Some(1)) => Unanswered::Done,
            _ => Unanswered::Never,
        }
    }

    fn holds(&self, client: usize) -> bool {
        self.known.contains_key(&client)
    }

    fn called(&mut self, call: &Call) {
        if call.f == "release" {
            less(&mut self.certain, call.process);
        } else if self.lock.fencing {
            self.tokens_at.insert(call.at, self.token_answered);
        }
    }

    fn ended(&mut self, call: &Call, _at: u64, end: End<'_>) {
        self.tokens_at.remove(&call.at);
        match (call.f, end) {
            ("acquire", End::Ok(_)) => {
                *self.certain.entry(call.process).or_default() += 1;
                *self.known.entry(call.client).or_default() += 1;
                self.token_answered = self.lock.fencing.then_some(self.token);
            }
            ("release", End::Ok(_)) => less(&mut self.known, call.client),
            ("release", End::Fail) => *self.certain.entry(call.process).or_default() += 1,
            (_, End::Unfinished) => {
                self.known.remove(&call.client);
            }
            _ => {}
        }
    }

    fn lie(&mut self, call: &Call, _at: u64, right: Option<&Value>, _rng: &mut ChaCha8Rng) -> Option<Value> {
        match (call.f, right) {
            ("acquire", Some(_)) => {
                let old = (*self.tokens_at.get(&call.at)?)?;
                Some(Value::Int(old))
            }
            ("acquire", None) if self.in_the_way(&self.certain, call.process) >= self.lock.permits => {
                Some(self.take(call.process))
            }
            _ => None,
        }
    }

    fn absurd(&mut self) -> (&'static str, Value, Value) {
        ("release", Value::Nil, Value::Nil)
    }
}

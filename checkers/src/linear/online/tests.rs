//! Event by event against [`check`] on every prefix: the same verdict, and the first event that no order survives.
//!
//! `SQUALL_CASES=1000000 cargo test --release -p squall-checkers online_` runs as many as one likes; `SQUALL_SEED=N`
//! repeats.

use super::*;
use crate::linear::{CheckOptions, check};
use crate::{EventKind, History, Sym, Verdict, export_jsonl};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// What really happens inside, however it is recorded.
#[derive(Default)]
struct Object {
    value: Value,
    items: Vec<Value>,
    held: BTreeMap<u32, u32>,
    number: i64,
    many: BTreeMap<Value, Value>,
}

/// An operation under way: object, name, argument, and its answer (or refusal) once it took effect.
type Doing = (usize, &'static str, Value, Option<Option<Value>>);

/// Makes histories of one kind of object, with mostly right answers.
struct Maker {
    rng: ChaCha8Rng,
    kind: ModelKind,
    /// Whether values come only once.
    unique: bool,
    fresh: i64,
    /// One answer in so many is wrong.
    wrong_every: u32,
}

impl Maker {
    fn small(&mut self) -> Value {
        Value::Int(self.rng.random_range(1..4))
    }

    /// A value to put somewhere.
    fn new_value(&mut self) -> Value {
        self.fresh += 1;
        if self.unique { Value::Int(self.fresh) } else { self.small() }
    }

    /// A value that may well be there.
    fn old_value(&mut self, object: &Object) -> Value {
        match self.rng.random_range(0..8) {
            0 => Value::Nil,
            1 => Value::Int(self.rng.random_range(1..self.fresh.max(3) + 1)),
            _ => object.value.clone(),
        }
    }

    fn text(&mut self) -> Value {
        Value::str(["", "a", "b", "ab", "ba", "aa"][self.rng.random_range(0..6)])
    }

    fn op(&mut self, object: &Object) -> (&'static str, Value) {
        let dice = self.rng.random_range(0..8);
        let (put, take) = match self.kind {
            ModelKind::Stack => ("push", "pop"),
            ModelKind::PriorityQueue => ("insert", "delete-min"),
            _ => ("enqueue", "dequeue"),
        };
        match self.kind {
            ModelKind::Register if dice < 4 => ("read", Value::Nil),
            ModelKind::Register => ("write", self.new_value()),
            ModelKind::CasRegister => match dice {
                0..3 => ("read", Value::Nil),
                3..6 => ("cas", Value::list([self.old_value(object), self.new_value()])),
                6 if !self.unique && self.rng.random_range(0..4) == 0 => ("write", Value::Nil),
                _ => ("write", self.new_value()),
            },
            ModelKind::Kv if self.unique => match dice {
                0..3 => ("get", Value::Nil),
                3 => ("delete", Value::Nil),
                4 | 5 => ("cas", Value::list([self.old_value(object), self.new_value()])),
                _ => ("put", self.new_value()),
            },
            ModelKind::Kv => match dice {
                0..3 => ("get", Value::Nil),
                3 => ("delete", Value::Nil),
                4 => ("cas", Value::list([self.text(), self.text()])),
                5 | 6 => ("append", Value::str(["a", "b"][self.rng.random_range(0..2)])),
                _ => ("put", self.text()),
            },
            ModelKind::MultiRegister(_) => {
                let steps = (0..self.rng.random_range(1..3)).map(|_| {
                    let key = Value::Int(self.rng.random_range(0..2));
                    match self.rng.random_range(0..2) {
                        0 => Value::list(["read".into(), key, Value::Nil]),
                        _ => Value::list(["write".into(), key, Value::Int(self.rng.random_range(1..4))]),
                    }
                });
                ("txn", Value::list(steps.collect::<Vec<_>>()))
            }
            ModelKind::Queue(_) | ModelKind::UnorderedQueue | ModelKind::Stack | ModelKind::PriorityQueue => match dice
            {
                0..4 => (put, self.new_value()),
                _ => (take, Value::Nil),
            },
            ModelKind::Set => match dice {
                0..3 => ("add", self.small()),
                3 => ("remove", self.small()),
                4 | 5 => ("contains", self.small()),
                _ => ("read", Value::Nil),
            },
            ModelKind::Counter => match dice {
                0..3 => ("add", Value::Int(self.rng.random_range(-1..3))),
                3 | 4 => ("fetch-add", Value::Int(self.rng.random_range(-1..3))),
                _ => ("read", Value::Nil),
            },
            _ if dice < 4 => ("acquire", Value::Nil),
            _ => ("release", Value::Nil),
        }
    }

    /// What a wrong answer may look like.
    fn wrong(&mut self, f: &str, argument: &Value) -> Value {
        match (self.kind, f) {
            (_, "contains") => Value::Bool(self.rng.random_range(0..2) == 0),
            (ModelKind::Set, "read") => Value::list([self.small()]),
            (ModelKind::Counter, _) => Value::Int(self.rng.random_range(-1..4)),
            (ModelKind::Kv, "get") if !self.unique => self.text(),
            (ModelKind::MultiRegister(_), _) => {
                let steps = argument.as_list().unwrap_or_default().iter().map(|step| match step.as_list() {
                    Some([f, key, _]) if *f == "read".into() => Value::list([f.clone(), key.clone(), self.small()]),
                    _ => step.clone(),
                });
                Value::list(steps.collect::<Vec<_>>())
            }
            // A little stale.
            _ if self.unique => Value::Int(self.fresh - self.rng.random_range(0..8)),
            _ => Value::Int(self.rng.random_range(0..self.fresh.max(3) + 1)),
        }
    }

    /// A history of so many steps.
    fn history(&mut self, steps: usize, keys: i64) -> Vec<Event> {
        let processes = self.rng.random_range(2..6u32);
        let mut objects: Vec<Object> = (0..keys).map(|_| Object::default()).collect();
        let mut names: Vec<u32> = (0..processes).collect();
        let mut open: Vec<Option<Doing>> = vec![None; names.len()];
        let mut events: Vec<Event> = Vec::new();
        for _ in 0..steps {
            let at = self.rng.random_range(0..names.len());
            let mut record = |kind, process, f: &str, key: usize, value| {
                events.push(Event {
                    index: events.len() as u64,
                    time_ns: events.len() as u64,
                    kind,
                    process,
                    f: Sym::new(f),
                    key: if keys == 1 { Value::Nil } else { Value::Int(key as i64) },
                    value,
                    node: None,
                    intended_ns: None,
                    error: None,
                });
            };
            match open[at].take() {
                None => {
                    let key = self.rng.random_range(0..objects.len());
                    let (f, argument) = self.op(&objects[key]);
                    record(EventKind::Invoke, names[at], f, key, argument.clone());
                    open[at] = Some((key, f, argument, None));
                }
                Some((key, f, argument, None)) if self.rng.random_range(0..2) == 0 => {
                    let answer = objects[key].perform(self.kind, names[at], f, &argument);
                    open[at] = Some((key, f, argument, Some(answer)));
                }
                Some((key, f, argument, answer)) => {
                    let dice = self.rng.random_range(0..20);
                    if dice < 3 {
                        record(EventKind::Info, names[at], f, key, argument);
                        names[at] += processes;
                        continue;
                    }
                    if dice == 3 && answer.is_none() || dice == 4 {
                        record(EventKind::Fail, names[at], f, key, argument);
                        continue;
                    }
                    let answer = answer.unwrap_or_else(|| objects[key].perform(self.kind, names[at], f, &argument));
                    match answer {
                        Some(_) if self.rng.random_range(0..self.wrong_every) == 0 => {
                            let wrong = self.wrong(f, &argument);
                            record(EventKind::Ok, names[at], f, key, wrong);
                        }
                        Some(value) => record(EventKind::Ok, names[at], f, key, value),
                        None => record(EventKind::Fail, names[at], f, key, argument),
                    }
                }
            }
        }
        events
    }
}

impl Object {
    /// The answer; `None` for a refusal.
    fn perform(&mut self, kind: ModelKind, process: u32, f: &str, argument: &Value) -> Option<Value> {
        let text = |value: &Value| match value {
            Value::Str(text) => text.to_string(),
            _ => String::new(),
        };
        Some(match (kind, f) {
            (ModelKind::Set, "read") => Value::list(self.items.clone()),
            (ModelKind::Counter, "read") => Value::Int(self.number),
            (ModelKind::Counter, _) => {
                let before = self.number;
                self.number += argument.as_int().unwrap_or(0);
                Value::Int(before)
            }
            (_, "read" | "get") => self.value.clone(),
            (_, "write" | "put") => std::mem::replace(&mut self.value, argument.clone()),
            (_, "delete") => std::mem::take(&mut self.value),
            (_, "append") => {
                self.value = Value::str(&(text(&self.value) + &text(argument)));
                Value::Nil
            }
            (_, "cas") => {
                let [expected, new] = argument.as_list()? else { return None };
                let is_empty = |value: &Value| value.is_nil() || *value == Value::str("");
                if self.value != *expected && !(is_empty(&self.value) && is_empty(expected)) {
                    return None;
                }
                self.value = new.clone();
                argument.clone()
            }
            (_, "txn") => {
                let steps = argument.as_list()?.iter().map(|step| match step.as_list() {
                    Some([f, key, value]) if *f == "write".into() => {
                        self.many.insert(key.clone(), value.clone());
                        step.clone()
                    }
                    Some([f, key, _]) => {
                        Value::list([f.clone(), key.clone(), self.many.get(key).cloned().unwrap_or_default()])
                    }
                    _ => step.clone(),
                });
                Value::list(steps.collect::<Vec<_>>())
            }
            (ModelKind::Set, "add") => {
                if !self.items.contains(argument) {
                    self.items.push(argument.clone());
                }
                Value::Nil
            }
            (_, "remove") => {
                self.items.retain(|item| item != argument);
                Value::Nil
            }
            (_, "contains") => Value::Bool(self.items.contains(argument)),
            (ModelKind::Queue(Some(capacity)), "enqueue") if self.items.len() >= capacity => return None,
            (_, "enqueue" | "push" | "insert") => {
                self.items.push(argument.clone());
                Value::Nil
            }
            (_, "dequeue" | "pop" | "delete-min") if self.items.is_empty() => Value::Nil,
            (_, "dequeue") => self.items.remove(0),
            (_, "pop") => self.items.pop().unwrap_or_default(),
            (_, "delete-min") => {
                self.items.sort_unstable();
                self.items.remove(0)
            }
            (_, "acquire") => {
                let permits = if let ModelKind::Semaphore(permits) = kind { permits } else { 1 };
                let others: u32 = self.held.iter().filter(|(who, _)| **who != process).map(|(_, n)| *n).sum();
                let own = self.held.get(&process).copied().unwrap_or(0);
                let counted = if kind == ModelKind::ReentrantMutex { others } else { others + own };
                if counted >= permits {
                    return None;
                }
                *self.held.entry(process).or_default() += 1;
                self.number += 1;
                Value::Int(self.number)
            }
            (_, "release") => {
                let own = self.held.get_mut(&process).filter(|own| **own > 0)?;
                *own -= 1;
                Value::Nil
            }
            _ => unreachable!("{f}"),
        })
    }
}

fn cases() -> u64 {
    std::env::var("SQUALL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000)
}

fn seed() -> u64 {
    let given = std::env::var("SQUALL_SEED").ok().and_then(|text| text.parse().ok());
    let now = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH).unwrap_or_default();
    let seed = given.unwrap_or(now.as_nanos() as u64 & 0xffff_ffff);
    println!("SQUALL_SEED={seed}");
    seed
}

/// What came of a history.
#[derive(PartialEq)]
enum Seen {
    Valid,
    Invalid,
    GaveUp,
}

fn assert_agrees(events: &[Event], kind: ModelKind, fail_means: FailMeans, seed: u64) -> Seen {
    // Now and then a search through a long one would take for ever: then it says nothing.
    let memory_max = 64 << 20;
    let options =
        CheckOptions { deadline: None, memory_max, threads: 1, fail_means, explain: false, ..CheckOptions::default() };
    let verdict = |events: &[Event]| {
        let history = History::from_events(events.iter().cloned()).unwrap();
        check(&history, kind, &options).verdict
    };
    let history = History::from_events(events.iter().cloned()).unwrap();
    let expected = verdict(events);
    let mut online = Online::new(kind, OnlineOptions { fail_means, ..OnlineOptions::default() });
    let (mut found, mut gave_up) = (None, false);
    for event in events {
        match online.push(event).unwrap() {
            Some(Finding::Violation(violation)) => found = found.or(Some(violation.index)),
            Some(Finding::GaveUp { .. }) => gave_up = true,
            None => {}
        }
    }
    let shown = || {
        let mut text = Vec::new();
        export_jsonl(&history, &mut text).unwrap();
        String::from_utf8(text).unwrap()
    };
    let result = online.finish();
    if gave_up {
        assert!(
            result.verdict == Verdict::Unknown || expected == Verdict::Invalid,
            "seed {seed}, {kind:?}\n{}",
            shown()
        );
        return Seen::GaveUp;
    }
    if let Some(found) = found {
        let found = found as usize;
        assert_ne!(verdict(&events[..found]), Verdict::Invalid, "seed {seed}, {kind:?}, before {found}\n{}", shown());
        assert_ne!(verdict(&events[..=found]), Verdict::Valid, "seed {seed}, {kind:?}, with {found}\n{}", shown());
    }
    // Without any success a history is unknown for both.
    let is_known = expected != Verdict::Unknown || result.stats.ops_ok == 0;
    assert!(!is_known || result.verdict == expected, "seed {seed}, {kind:?}: {}\n{}", result.reason, shown());
    if expected == Verdict::Invalid { Seen::Invalid } else { Seen::Valid }
}

fn fuzz(kind: ModelKind) {
    let first = seed();
    let (mut invalid, mut gave_up, mut all) = (0, 0, 0);
    for seed in first..first + cases() {
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let (unique, keys) = (rng.random_range(0..2) == 0, rng.random_range(1..4i64).min(2));
        let fail_means = [FailMeans::NoEffect, FailMeans::AnsweredNo][rng.random_range(0..4usize) / 3];
        // Long ones are for what is forgotten on the way; a search through many of them would take too long.
        let is_register = matches!(kind, ModelKind::Register | ModelKind::CasRegister | ModelKind::Kv);
        let long = match kind {
            _ if is_register && unique => 400,
            ModelKind::Stack | ModelKind::UnorderedQueue | ModelKind::Queue(Some(_)) => 48,
            _ => 100,
        };
        let (steps_max, wrong_every) = if rng.random_range(0..4) == 0 { (long, long as u32) } else { (48, 16) };
        let steps = rng.random_range(4..steps_max);
        let events = Maker { rng, kind, unique, fresh: 0, wrong_every }.history(steps, keys);
        let seen = assert_agrees(&events, kind, fail_means, seed);
        invalid += u64::from(seen == Seen::Invalid);
        gave_up += u64::from(seen == Seen::GaveUp);
        all += 1;
    }
    println!("{}: {all} histories, {invalid} of them invalid, {gave_up} given up", kind.as_str());
    assert!(invalid > 0 && invalid < all && gave_up * 100 < all);
}

macro_rules! fuzz {
    ($($name:ident: $kind:expr,)*) => {
        $(
            #[test]
            fn $name() {
                fuzz($kind);
            }
        )*
    };
}

fuzz! {
    online_register: ModelKind::Register,
    online_cas_register: ModelKind::CasRegister,
    online_multi_register: ModelKind::MultiRegister(None),
    online_kv: ModelKind::Kv,
    online_queue: ModelKind::Queue(None),
    online_bounded_queue: ModelKind::Queue(Some(2)),
    online_unordered_queue: ModelKind::UnorderedQueue,
    online_stack: ModelKind::Stack,
    online_priority_queue: ModelKind::PriorityQueue,
    online_set: ModelKind::Set,
    online_counter: ModelKind::Counter,
    online_mutex: ModelKind::Mutex,
    online_reentrant_mutex: ModelKind::ReentrantMutex,
    online_fencing_lock: ModelKind::FencingLock,
    online_semaphore: ModelKind::Semaphore(2),
}

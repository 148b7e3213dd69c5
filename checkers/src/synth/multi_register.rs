//! Registers that are read and written together; the wrong answer is one old value among those read.

use super::presence::Presence;
use super::{Call, Effect, End, NEVER_WRITTEN, Object, Source, Values};
use crate::Value;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// How many registers there are.
const REGISTERS: usize = 3;

pub(super) struct MultiRegisterObject {
    values: [Value; REGISTERS],
    source: Source,
    steps_max: usize,
    books: Option<[Presence; REGISTERS]>,
}

impl MultiRegisterObject {
    pub(super) fn new(initial: Option<i64>, values: Values, rich: bool, books: bool) -> Self {
        let initial = initial.map_or(Value::Nil, Value::Int);
        Self {
            books: books.then(|| std::array::from_fn(|_| Presence::new(initial.clone()))),
            values: std::array::from_fn(|_| initial.clone()),
            source: Source::new(values),
            steps_max: if rich { 4 } else { 2 },
        }
    }
}

/// (whether it writes, register, value) of each step.
fn steps(argument: &Value) -> impl DoubleEndedIterator<Item = (bool, usize, &Value)> {
    argument.as_list().unwrap_or_default().iter().filter_map(|step| match step.as_list()? {
        [f, key, value] => Some((*f == Value::str("write"), key.as_int()? as usize, value)),
        _ => None,
    })
}

/// The value that each written register is left with: what a transaction writes and overwrites nobody sees.
fn written(argument: &Value) -> Vec<(usize, &Value)> {
    let mut last: Vec<(usize, &Value)> = Vec::new();
    for (_, key, value) in steps(argument).rev().filter(|(writes, ..)| *writes) {
        if last.iter().all(|(other, _)| *other != key) {
            last.push((key, value));
        }
    }
    last
}

fn step(writes: bool, key: usize, value: Value) -> Value {
    Value::list([Value::str(if writes { "write" } else { "read" }), Value::Int(key as i64), value])
}

impl Object for MultiRegisterObject {
    fn propose(&mut self, _client: usize, rng: &mut ChaCha8Rng) -> (&'static str, Value) {
        let count = rng.random_range(1..=self.steps_max);
        let only_reads = rng.random_range(0..3) == 0;
        let steps = (0..count).map(|_| {
            let writes = !only_reads && rng.random();
            let value = if writes { Value::Int(self.source.fresh(rng)) } else { Value::Nil };
            step(writes, rng.random_range(0..REGISTERS), value)
        });
        ("txn", Value::list(steps.collect::<Vec<_>>()))
    }

    fn apply(&mut self, call: &Call, _rng: &mut ChaCha8Rng) -> Effect {
        let done = steps(&call.argument).map(|(writes, key, value)| {
            if writes {
                self.values[key] = value.clone();
            }
            step(writes, key, self.values[key].clone())
        });
        Effect::Done(Value::list(done.collect::<Vec<_>>()))
    }

    fn called(&mut self, call: &Call) {
        if let Some(books) = &mut self.books {
            for (key, value) in written(&call.argument) {
                books[key].called(value);
            }
        }
    }

    fn ended(&mut self, call: &Call, at: u64, end: End<'_>) {
        if let Some(books) = self.books.as_mut().filter(|_| end != End::Unfinished) {
            for (key, value) in written(&call.argument) {
                books[key].ended(value, call.at, matches!(end, End::Ok(_)).then_some(at));
            }
        }
    }

    fn lie(&mut self, call: &Call, _at: u64, right: Option<&Value>, rng: &mut ChaCha8Rng) -> Option<Value> {
        let books = self.books.as_ref()?;
        let mut done: Vec<Value> = right?.as_list()?.to_vec();
        for (at, (writes, key, _)) in steps(&call.argument).enumerate() {
            // What the transaction itself wrote before is no question of the past.
            let own = steps(&call.argument).take(at).any(|(writes, other, _)| writes && other == key);
            if let (false, false, Some(old)) = (writes, own, books[key].gone(call.at, rng)) {
                done[at] = step(false, key, old);
                return Some(Value::list(done));
            }
        }
        None
    }

    fn absurd(&mut self) -> (&'static str, Value, Value) {
        let read = |value| Value::list([step(false, 0, value)]);
        ("txn", read(Value::Nil), read(Value::Int(NEVER_WRITTEN)))
    }
}

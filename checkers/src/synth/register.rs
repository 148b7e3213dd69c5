//! Registers; the wrong answer is an old value.

use super::presence::Presence;
use super::simulation::says_nothing;
use super::{Call, Effect, End, NEVER_WRITTEN, Object, Source, Values};
use crate::Value;
use crate::model::FailMeans;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

pub(super) struct RegisterObject {
    cas: bool,
    value: Value,
    source: Source,
    books: Option<Presence>,
}

impl RegisterObject {
    pub(super) fn new(cas: bool, values: Values, books: bool) -> Self {
        let books = books.then(|| Presence::new(Value::Nil));
        Self { cas, value: Value::Nil, source: Source::new(values), books }
    }
}

/// What a write or compare-and-set leaves behind.
pub(super) fn produced(call: &Call) -> Option<&Value> {
    match (call.f, call.argument.as_list()) {
        ("cas", Some([_, new])) => Some(new),
        ("write" | "put" | "delete", _) => Some(&call.argument),
        _ => None,
    }
}

/// `[expected, new]`: mostly what is there, or what may be there.
pub(super) fn cas_argument(current: &Value, source: &mut Source, rng: &mut ChaCha8Rng) -> Value {
    let expected = match source.values {
        Values::Unique if rng.random_range(0..8) > 0 => current.clone(),
        _ => Value::Int(source.known(rng)),
    };
    Value::list([expected, Value::Int(source.fresh(rng))])
}

impl Object for RegisterObject {
    fn propose(&mut self, _client: usize, rng: &mut ChaCha8Rng) -> (&'static str, Value) {
        match rng.random_range(0..4) {
            0 => ("write", Value::Int(self.source.fresh(rng))),
            1 if self.cas => ("cas", cas_argument(&self.value, &mut self.source, rng)),
            1 => ("write", Value::Int(self.source.fresh(rng))),
            _ => ("read", Value::Nil),
        }
    }

    fn apply(&mut self, call: &Call, _rng: &mut ChaCha8Rng) -> Effect {
        match (call.f, call.argument.as_list()) {
            ("read", _) => return Effect::Done(self.value.clone()),
            ("cas", Some([expected, _])) if *expected != self.value => return Effect::Refused,
            ("cas", Some([_, new])) => self.value = new.clone(),
            _ => self.value = call.argument.clone(),
        }
        Effect::Done(call.argument.clone())
    }

    fn may_fail(&self, f: &str, fail_means: FailMeans) -> bool {
        f != "cas" || says_nothing(fail_means)
    }

    fn called(&mut self, call: &Call) {
        if let (Some(books), Some(value)) = (&mut self.books, produced(call)) {
            books.called(value);
        }
    }

    fn ended(&mut self, call: &Call, at: u64, end: End<'_>) {
        if let (Some(books), Some(value)) = (&mut self.books, produced(call))
            && end != End::Unfinished
        {
            books.ended(value, call.at, matches!(end, End::Ok(_)).then_some(at));
        }
    }

    fn lie(&mut self, call: &Call, _at: u64, _right: Option<&Value>, rng: &mut ChaCha8Rng) -> Option<Value> {
        if call.f != "read" {
            return None;
        }
        self.books.as_ref()?.gone(call.at, rng)
    }

    fn absurd(&mut self) -> (&'static str, Value, Value) {
        ("read", Value::Nil, Value::Int(NEVER_WRITTEN))
    }
}

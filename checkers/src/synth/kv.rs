//! One key of a key-value store; the wrong answer is an old value.
//!
//! Plain values are numbers, which cost nothing to keep; texts that grow are the rich flavour. There an old text is gone
//! for certain only when no piece is ever appended twice.

use super::presence::Presence;
use super::register::{cas_argument, produced};
use super::simulation::says_nothing;
use super::{Call, Effect, End, NEVER_WRITTEN, Object, Source, Values};
use crate::Value;
use crate::model::FailMeans;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;

/// A text that would grow beyond this is replaced instead (bytes): every text ever read is kept (see [`crate::Sym`]).
const TEXT_LEN_MAX: usize = 64;

pub(super) struct KvObject {
    value: Value,
    source: Source,
    texts: bool,
    books: Option<Presence>,
    /// Invocation -> the text that an append left behind.
    grown: BTreeMap<u64, Value>,
}

impl KvObject {
    pub(super) fn new(values: Values, rich: bool, books: bool) -> Self {
        // With pieces that come again, a text may, too.
        let books = (books && (!rich || values == Values::Unique)).then(|| Presence::new(Value::Nil));
        Self { value: Value::Nil, source: Source::new(values), texts: rich, books, grown: BTreeMap::new() }
    }

    fn piece(&mut self, rng: &mut ChaCha8Rng) -> Value {
        let n = self.source.fresh(rng);
        match self.source.values {
            Values::Unique => Value::str(&format!("x{n} ")),
            // So that different ones make the same text.
            Values::Distinct(_) => Value::str(["a", "b", "ab", "ba", "c"][n as usize % 5]),
        }
    }
}

impl Object for KvObject {
    fn propose(&mut self, _client: usize, rng: &mut ChaCha8Rng) -> (&'static str, Value) {
        if self.texts {
            let long = matches!(&self.value, Value::Str(text) if text.as_str().len() >= TEXT_LEN_MAX);
            return match rng.random_range(0..8) {
                0 => ("put", self.piece(rng)),
                1 if rng.random_range(0..4) == 0 => ("delete", Value::Nil),
                1..4 if !long => ("append", self.piece(rng)),
                1..4 => ("put", self.piece(rng)),
                _ => ("get", Value::Nil),
            };
        }
        match rng.random_range(0..8) {
            0..3 => ("put", Value::Int(self.source.fresh(rng))),
            3 if rng.random_range(0..4) == 0 => ("delete", Value::Nil),
            3 => ("cas", cas_argument(&self.value, &mut self.source, rng)),
            _ => ("get", Value::Nil),
        }
    }

    fn apply(&mut self, call: &Call, _rng: &mut ChaCha8Rng) -> Effect {
        match (call.f, call.argument.as_list()) {
            ("get", _) => return Effect::Done(self.value.clone()),
            ("cas", Some([expected, _])) if *expected != self.value => return Effect::Refused,
            ("cas", Some([_, new])) => self.value = new.clone(),
            ("append", _) => {
                if let (Value::Str(before), Value::Str(more)) = (&self.value, &call.argument) {
                    self.value = Value::str(&format!("{before}{more}"));
                } else {
                    self.value = call.argument.clone();
                }
                if self.books.is_some() && call.finishes {
                    self.grown.insert(call.at, self.value.clone());
                }
            }
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
        // What an unanswered append would have made is made by no other one, and read by none but those that saw it.
        let grown = self.grown.remove(&call.at);
        if let (Some(books), Some(value)) = (&mut self.books, grown.as_ref().or(produced(call)))
            && end != End::Unfinished
        {
            books.ended(value, call.at, matches!(end, End::Ok(_)).then_some(at));
        }
    }

    fn lie(&mut self, call: &Call, _at: u64, _right: Option<&Value>, rng: &mut ChaCha8Rng) -> Option<Value> {
        if call.f != "get" {
            return None;
        }
        self.books.as_ref()?.gone(call.at, rng)
    }

    fn absurd(&mut self) -> (&'static str, Value, Value) {
        let never = if self.texts { Value::str("never written") } else { Value::Int(NEVER_WRITTEN) };
        ("get", Value::Nil, never)
    }
}

//! A set; the wrong answer is about an element that is certainly there, or certainly not.

use super::presence::Presence;
use super::{Call, Effect, End, NEVER_WRITTEN, Object, Source, Values};
use crate::Value;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};

pub(super) struct SetObject {
    contents: BTreeSet<i64>,
    source: Source,
    reads_all: bool,
    /// Element -> whether it is there.
    books: Option<BTreeMap<i64, Presence>>,
}

impl SetObject {
    pub(super) fn new(values: Values, rich: bool, books: bool) -> Self {
        let books = books.then(BTreeMap::new);
        Self { contents: BTreeSet::new(), source: Source::new(values), reads_all: rich, books }
    }

    fn removes(&self) -> bool {
        !self.reads_all || self.source.values != Values::Unique
    }
}

fn element(call: &Call) -> i64 {
    call.argument.as_int().unwrap_or_default()
}

/// Whether the element is there afterwards, if the operation says so.
fn leaves(call: &Call) -> Option<Value> {
    matches!(call.f, "add" | "remove").then(|| Value::Bool(call.f == "add"))
}

impl Object for SetObject {
    fn propose(&mut self, _client: usize, rng: &mut ChaCha8Rng) -> (&'static str, Value) {
        match rng.random_range(0..8) {
            0 | 1 if self.removes() => ("remove", Value::Int(self.source.known(rng))),
            0 if self.reads_all => ("read", Value::Nil),
            7 if self.reads_all => ("read", Value::Nil),
            0..4 => ("add", Value::Int(self.source.fresh(rng))),
            _ => ("contains", Value::Int(self.source.known(rng))),
        }
    }

    fn apply(&mut self, call: &Call, _rng: &mut ChaCha8Rng) -> Effect {
        let element = element(call);
        Effect::Done(match call.f {
            "contains" => Value::Bool(self.contents.contains(&element)),
            "read" => Value::list(self.contents.iter().map(|&element| Value::Int(element))),
            "add" => {
                self.contents.insert(element);
                call.argument.clone()
            }
            _ => {
                self.contents.remove(&element);
                call.argument.clone()
            }
        })
    }

    fn called(&mut self, call: &Call) {
        if let (Some(books), Some(there)) = (&mut self.books, leaves(call)) {
            books.entry(element(call)).or_insert_with(|| Presence::new(Value::Bool(false))).called(&there);
        }
    }

    fn ended(&mut self, call: &Call, at: u64, end: End<'_>) {
        if let (Some(books), Some(there)) = (&mut self.books, leaves(call))
            && end != End::Unfinished
            && let Some(book) = books.get_mut(&element(call))
        {
            book.ended(&there, call.at, matches!(end, End::Ok(_)).then_some(at));
        }
    }

    fn lie(&mut self, call: &Call, _at: u64, right: Option<&Value>, rng: &mut ChaCha8Rng) -> Option<Value> {
        let books = self.books.as_ref()?;
        match call.f {
            "contains" => match books.get(&element(call)) {
                Some(book) => book.gone(call.at, rng),
                None => Some(Value::Bool(true)),
            },
            "read" => {
                let (&element, gone) =
                    books.iter().rev().find_map(|(element, book)| Some((element, book.gone(call.at, rng)?)))?;
                let mut all: BTreeSet<Value> = right?.as_list()?.iter().cloned().collect();
                if gone == Value::Bool(true) {
                    all.insert(Value::Int(element));
                } else {
                    all.remove(&Value::Int(element));
                }
                Some(Value::list(all))
            }
            _ => None,
        }
    }

    fn absurd(&mut self) -> (&'static str, Value, Value) {
        ("contains", Value::Int(NEVER_WRITTEN), Value::Bool(true))
    }
}

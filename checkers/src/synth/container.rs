//! Queues, stacks, priority queues and bags; the wrong answer is an element out of turn, one that comes twice, or
//! "nothing" where something is.
//!
//! An element `x` that a `take` should have got, and did not get, is handed to one that is invoked only after the first
//! returned. So `x` was there all the while, whatever unanswered operations did, and the first answer was wrong.

use super::simulation::says_nothing;
use super::{Call, Effect, End, NEVER_WRITTEN, Object, Source, Values};
use crate::Value;
use crate::model::FailMeans;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use std::cmp::Reverse;
use std::collections::{BTreeMap, BinaryHeap, VecDeque};

/// So many elements that were taken are remembered.
const REMEMBERED: usize = 16;

/// What is inside, and which element comes next.
pub(super) enum Contents {
    Fifo(VecDeque<i64>),
    Lifo(Vec<i64>),
    Smallest(BinaryHeap<Reverse<i64>>),
    Any(Vec<i64>),
}

impl Contents {
    fn len(&self) -> usize {
        match self {
            Self::Fifo(queue) => queue.len(),
            Self::Lifo(stack) => stack.len(),
            Self::Smallest(heap) => heap.len(),
            Self::Any(bag) => bag.len(),
        }
    }

    fn put(&mut self, value: i64) {
        match self {
            Self::Fifo(queue) => queue.push_back(value),
            Self::Lifo(stack) => stack.push(value),
            Self::Smallest(heap) => heap.push(Reverse(value)),
            Self::Any(bag) => bag.push(value),
        }
    }

    fn peek(&self) -> Option<i64> {
        match self {
            Self::Fifo(queue) => queue.front().copied(),
            Self::Lifo(stack) => stack.last().copied(),
            Self::Smallest(heap) => heap.peek().map(|Reverse(value)| *value),
            Self::Any(bag) => bag.last().copied(),
        }
    }

    fn take(&mut self, rng: &mut ChaCha8Rng) -> Option<i64> {
        match self {
            Self::Fifo(queue) => queue.pop_front(),
            Self::Lifo(stack) => stack.pop(),
            Self::Smallest(heap) => heap.pop().map(|Reverse(value)| value),
            Self::Any(bag) if bag.is_empty() => None,
            Self::Any(bag) => Some(bag.swap_remove(rng.random_range(0..bag.len()))),
        }
    }

    /// Whether `x`, which is inside, has to come before `y`, given when they were put in.
    fn before(&self, (x, x_put): (i64, Put), (y, y_put): (i64, Put)) -> bool {
        match self {
            Self::Fifo(_) => x_put.end < y_put.call,
            Self::Lifo(_) => y_put.end < x_put.call,
            Self::Smallest(_) => x < y,
            Self::Any(_) => false,
        }
    }
}

/// When an element was put in; without an end, nobody knows yet.
#[derive(Clone, Copy)]
struct Put {
    call: u64,
    end: u64,
}

/// What a violation needs to know.
#[derive(Default)]
struct Books {
    /// Elements that are inside.
    puts: BTreeMap<i64, Put>,
    /// Value -> how often it may have been put in, less how often it certainly came out.
    left: BTreeMap<i64, i64>,
    taken: VecDeque<i64>,
    /// An element that nobody may get who was invoked before this time.
    owed: Option<(i64, u64)>,
}

impl Books {
    fn one_less(&mut self, value: i64) {
        let left = self.left.entry(value).or_default();
        *left -= 1;
        if *left == 0 {
            self.left.remove(&value);
        }
    }
}

pub(super) struct ContainerObject {
    contents: Contents,
    /// Names of put and take.
    names: [&'static str; 2],
    capacity: Option<usize>,
    source: Source,
    puts_in_100: u32,
    books: Option<Books>,
}

impl ContainerObject {
    pub(super) fn new(
        contents: Contents,
        names: [&'static str; 2],
        capacity: Option<usize>,
        values: Values,
        rich: bool,
        books: bool,
    ) -> Self {
        let books = books.then(Books::default);
        // A little more comes than goes, or goes than comes.
        let puts_in_100 = if rich { 46 } else { 52 };
        Self { contents, names, capacity, source: Source::new(values), puts_in_100, books }
    }

    fn fresh(&mut self, rng: &mut ChaCha8Rng) -> i64 {
        let value = self.source.fresh(rng);
        match (&self.contents, self.source.values) {
            // Each once, and yet in no order: an odd factor permutes the numbers below a power of two.
            (Contents::Smallest(_), Values::Unique) => (value.wrapping_mul(0x9E37_79B1) & 0xFF_FFFF_FFFF) + 1,
            _ => value,
        }
    }

    /// Answers `lie` where `right` is due, and owes `right`.
    fn withhold(&mut self, right: i64, at: u64, lie: Value) -> Option<Value> {
        let books = self.books.as_mut()?;
        books.owed = Some((right, at));
        Some(lie)
    }

    /// The wrong element, or none at all.
    fn out_of_turn(&mut self, call: &Call, at: u64, right: i64, rng: &mut ChaCha8Rng) -> Option<Value> {
        let books = self.books.as_ref()?;
        let put = *books.puts.get(&right).filter(|put| put.end < call.at)?;
        let next = self.contents.peek().and_then(|next| Some((next, *books.puts.get(&next)?)));
        if let Some((next, _)) = next.filter(|next| self.contents.before((right, put), *next)) {
            self.contents.take(rng);
            return self.withhold(right, at, Value::Int(next));
        }
        self.withhold(right, at, Value::Nil)
    }

    /// An element more often than it was put in.
    fn once_more(&self, rng: &mut ChaCha8Rng) -> Option<Value> {
        let books = self.books.as_ref()?;
        let gone = |value: &&i64| books.left.get(value).is_none_or(|left| *left <= 0);
        let all: Vec<&i64> = books.taken.iter().filter(gone).collect();
        (!all.is_empty()).then(|| Value::Int(*all[rng.random_range(0..all.len())]))
    }
}

impl Object for ContainerObject {
    fn propose(&mut self, _client: usize, rng: &mut ChaCha8Rng) -> (&'static str, Value) {
        if rng.random_range(0..100) < self.puts_in_100 {
            (self.names[0], Value::Int(self.fresh(rng)))
        } else {
            (self.names[1], Value::Nil)
        }
    }

    fn apply(&mut self, call: &Call, rng: &mut ChaCha8Rng) -> Effect {
        if call.f == self.names[0] {
            if self.capacity.is_some_and(|capacity| self.contents.len() >= capacity) {
                return Effect::Refused;
            }
            self.contents.put(call.argument.as_int().unwrap_or_default());
            return Effect::Done(call.argument.clone());
        }
        let owed = self.books.as_mut().and_then(|books| books.owed.take_if(|owed| owed.1 < call.at && call.finishes));
        let taken = owed.map(|(value, _)| value).or_else(|| self.contents.take(rng));
        Effect::Done(taken.map_or(Value::Nil, Value::Int))
    }

    fn may_fail(&self, _f: &str, fail_means: FailMeans) -> bool {
        says_nothing(fail_means)
    }

    fn called(&mut self, call: &Call) {
        if let (Some(books), Value::Int(value)) = (&mut self.books, &call.argument) {
            books.puts.insert(*value, Put { call: call.at, end: u64::MAX });
            *books.left.entry(*value).or_default() += 1;
        }
    }

    fn ended(&mut self, call: &Call, at: u64, end: End<'_>) {
        let Some(books) = &mut self.books else { return };
        match (&call.argument, end) {
            (Value::Int(value), End::Ok(_)) => {
                if let Some(put) = books.puts.get_mut(value) {
                    put.end = at;
                }
            }
            (Value::Int(value), End::Fail) => books.one_less(*value),
            (Value::Nil, End::Ok(Value::Int(value))) => {
                books.one_less(*value);
                books.puts.remove(value);
                books.taken.push_back(*value);
                if books.taken.len() > REMEMBERED {
                    books.taken.pop_front();
                }
            }
            _ => {}
        }
    }

    fn lie(&mut self, call: &Call, at: u64, right: Option<&Value>, rng: &mut ChaCha8Rng) -> Option<Value> {
        if call.f != self.names[1] {
            return None;
        }
        let right = right.and_then(Value::as_int);
        let twice = self.once_more(rng);
        let unique = self.source.values == Values::Unique;
        match right.filter(|_| unique && (twice.is_none() || rng.random_range(0..3) > 0)) {
            Some(right) => self.out_of_turn(call, at, right, rng).or(twice),
            None => twice,
        }
    }

    fn is_certain(&self) -> bool {
        self.books.as_ref().is_none_or(|books| books.owed.is_none())
    }

    fn absurd(&mut self) -> (&'static str, Value, Value) {
        let owed = self.books.as_mut().and_then(|books| books.owed.take());
        (self.names[1], Value::Nil, Value::Int(owed.map_or(NEVER_WRITTEN, |(value, _)| value)))
    }
}

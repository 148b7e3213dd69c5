//! Synthetic histories: an object of some model under concurrent clients, as a recorder would have written it down.
//!
//! Every operation takes effect at one random moment between its ends, so a history is linearizable by construction;
//! unless a violation is asked for: then the object gives one wrong answer, of which it is certain from what had returned
//! before that no order allows it. The same [`Load`] gives the same events, on every machine.
//!
//! ```
//! use squall_checkers::synth::{Load, Place};
//! use squall_checkers::{CheckOptions, ModelKind, Verdict, linear};
//!
//! let good = Load { ops: 500, clients: 5, unfinished: 0.02, ..Load::new(ModelKind::Queue(None)) };
//! let bad = Load { violation: Some(Place::At(0.5)), ..good.clone() };
//! for (load, verdict) in [(good, Verdict::Valid), (bad, Verdict::Invalid)] {
//!     let history = load.history();
//!     assert_eq!(linear::check(&history, load.model, &CheckOptions::default()).verdict, verdict);
//! }
//! ```
//!
//! | model | plain | rich |
//! |---|---|---|
//! | registers | reads and writes, `cas` where there is one | the same |
//! | multi-register | transactions of one or two steps on three registers | up to four steps |
//! | kv | `get`, `put`, `delete`, `cas` of numbers | texts and `append` |
//! | containers | a little more comes than goes | a little more goes: takes that find nothing |
//! | set | `add`, `remove`, `contains` | also `read` of everything; no `remove` when values are unique |
//! | counter | steps of one sign | of both |
//! | locks | one hold a process | a semaphore's process may hold several permits, a reentrant lock's up to three |
//!
//! A counter's values are its steps: all 1 when unique. An unanswered `acquire` never takes effect and an unanswered
//! `release` always does: otherwise a lock would soon be held for good.

mod container;
mod counter;
mod kv;
mod lock;
mod multi_register;
mod presence;
mod register;
mod set;
mod simulation;
#[cfg(test)]
mod tests;

pub use simulation::Simulation;

use crate::model::{FailMeans, ModelKind};
use crate::{History, Value};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;

/// What to simulate.
#[derive(Clone, Debug, PartialEq)]
pub struct Load {
    /// The kind of object.
    pub model: ModelKind,
    /// How many operations are invoked. A violation may take one more.
    pub ops: usize,
    /// How many of them may be open at a time.
    pub clients: usize,
    /// Independent objects. With one, events have no key.
    pub keys: usize,
    /// What is written, put in or added.
    pub values: Values,
    /// Fraction of operations that are never answered, from 0 to 1. Half of them take effect, now or much later.
    pub unfinished: f64,
    /// Fraction of operations that fail without effect, from 0 to 1, beside those that the object refuses.
    pub failed: f64,
    /// How `fail` will be read. With [`FailMeans::AnsweredNo`] only the object itself refuses.
    pub fail_means: FailMeans,
    /// The more expensive flavour of the model; see the table of the module.
    pub rich: bool,
    /// Where the one wrong answer is given, if anywhere.
    pub violation: Option<Place>,
    /// The root of everything random.
    pub seed: u64,
}

/// Which values there are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Values {
    /// None twice under a key.
    Unique,
    /// So many different ones, at random.
    Distinct(u32),
}

/// Where a violation is planted: at the first opportunity from there on.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Place {
    /// After this fraction of the operations, from 0 to 1.
    At(f64),
    /// Anywhere.
    Random,
}

impl Load {
    /// A thousand operations by ten clients on one object, unique values, everything answered, valid.
    pub fn new(model: ModelKind) -> Self {
        Self {
            model,
            ops: 1000,
            clients: 10,
            keys: 1,
            values: Values::Unique,
            unfinished: 0.0,
            failed: 0.0,
            fail_means: FailMeans::NoEffect,
            rich: false,
            violation: None,
            seed: 1,
        }
    }

    /// The events one by one, in memory bounded by what is open and what the objects hold.
    pub fn simulate(&self) -> Simulation {
        Simulation::new(self)
    }

    /// All events.
    ///
    /// # Panics
    /// When there are more than a history can hold (four billion).
    pub fn history(&self) -> History {
        History::from_events(self.simulate()).expect("indexes are dense")
    }
}

/// Where values of one object come from.
struct Source {
    values: Values,
    used: i64,
}

impl Source {
    fn new(values: Values) -> Self {
        Self { values, used: 0 }
    }

    /// From 1 on.
    fn fresh(&mut self, rng: &mut ChaCha8Rng) -> i64 {
        match self.values {
            Values::Unique => {
                self.used += 1;
                self.used
            }
            Values::Distinct(count) => rng.random_range(1..=i64::from(count.max(1))),
        }
    }

    /// One that was given out, or may be soon.
    fn known(&self, rng: &mut ChaCha8Rng) -> i64 {
        match self.values {
            Values::Unique => rng.random_range(1..=self.used + 1),
            Values::Distinct(count) => rng.random_range(1..=i64::from(count.max(1))),
        }
    }
}

/// What nobody ever writes.
const NEVER_WRITTEN: i64 = -7;

/// An operation on one object.
#[derive(Clone, Debug)]
struct Call {
    client: usize,
    process: u32,
    f: &'static str,
    argument: Value,
    /// When it was invoked (event index + 1, so that 0 is before everything).
    at: u64,
    /// Whether it will end `ok`, unless the object refuses.
    finishes: bool,
}

/// What an operation came to.
enum Effect {
    /// It took effect and answers this.
    Done(Value),
    /// It changes nothing: `fail`.
    Refused,
    /// It has to wait for another one.
    Wait,
}

/// How an operation ended, for those who keep books.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum End<'a> {
    /// With this answer.
    Ok(&'a Value),
    Fail,
    /// Nobody will know.
    Unfinished,
}

/// What may become of an operation that is not answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Unanswered {
    /// As chance has it.
    Either,
    /// It takes no effect.
    Lost,
    /// It takes effect.
    Done,
    /// This one is always answered.
    Never,
}

/// One object. Times are event index + 1.
trait Object {
    /// What a client does next: operation and argument.
    fn propose(&mut self, client: usize, rng: &mut ChaCha8Rng) -> (&'static str, Value);

    /// The moment at which it takes effect.
    fn apply(&mut self, call: &Call, rng: &mut ChaCha8Rng) -> Effect;

    /// Whether a `fail` of this says nothing but that it had no effect.
    fn may_fail(&self, _f: &str, _fail_means: FailMeans) -> bool {
        true
    }

    /// What may become of this operation of this client when it is not answered.
    fn unanswered(&self, _client: usize, _f: &str) -> Unanswered {
        Unanswered::Either
    }

    /// Whether this client had better come back to this object.
    fn holds(&self, _client: usize) -> bool {
        false
    }

    /// Keeps books about what was invoked.
    fn called(&mut self, _call: &Call) {}

    /// Keeps books about what ended.
    fn ended(&mut self, _call: &Call, _at: u64, _end: End<'_>) {}

    /// An answer, given at this time, that no order allows; `right` is the right one, `None` while there is none.
    fn lie(&mut self, call: &Call, at: u64, right: Option<&Value>, rng: &mut ChaCha8Rng) -> Option<Value>;

    /// Whether what [`Object::lie`] began is complete: until then it is not yet certain.
    fn is_certain(&self) -> bool {
        true
    }

    /// An operation, its argument, and an answer that is wrong whatever happened before.
    fn absurd(&mut self) -> (&'static str, Value, Value);
}

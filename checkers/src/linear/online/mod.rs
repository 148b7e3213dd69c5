//! The same question while the history still grows: one event after the other, in bounded memory.
//!
//! Events go in one by one; the first event after which no order exists is known when it goes in. Per key only the
//! window of open operations is kept, and what a later operation may still depend on. Engines:
//!
//! | engine | for | cost |
//! |---|---|---|
//! | `online zones` | registers, compare-and-set registers, keys without `append`, where no value is written twice while it could still be observed | O(c log c) an operation, c: open at once |
//! | `online levels` | every model, and what `zones` cannot go on with | exponential at worst, in what is open at once and what the answers leave undetermined |
//!
//! A key that would take more than its limits is `unknown` from there on. What grows with the history and not with what
//! is open: unfinished operations (each may take effect at any time, for ever), keys (each is some state), and different
//! texts (interned; numbers are not). All of it counts against the memory limit.
//!
//! What it does not do: look ahead. Where a model leaves much undetermined for long (a stack or a bounded queue of
//! elements that came in concurrently), [`super::check`] decides what this cannot. Unbounded queues have states of
//! their own that leave the order open (`fifo`, `bag`); those of sets and containers share their contents.
//!
//! ```
//! use squall_checkers::linear::online::{Finding, Online, OnlineOptions};
//! use squall_checkers::{ModelKind, Verdict, read_text};
//!
//! let text = r#"{"index":0,"time":0,"type":"invoke","process":0,"f":"write","value":1}
//! {"index":1,"time":1,"type":"ok","process":0,"f":"write","value":1}
//! {"index":2,"time":2,"type":"invoke","process":1,"f":"read","value":null}
//! {"index":3,"time":3,"type":"ok","process":1,"f":"read","value":7}
//! {"index":4,"time":4,"type":"invoke","process":1,"f":"read","value":null}"#;
//! let history = read_text(text.as_bytes(), &Default::default()).unwrap();
//! let mut online = Online::new(ModelKind::Register, OnlineOptions::default());
//! let mut found = Vec::new();
//! for event in history.iter() {
//!     found.extend(online.push(&event).unwrap());
//! }
//! assert!(matches!(&found[..], [Finding::Violation(violation)] if violation.index == 3));
//! assert_eq!(online.finish().verdict, Verdict::Invalid);
//! ```

mod bag;
mod configuration;
mod digest;
mod fifo;
mod front;
mod key;
mod levels;
mod persistent;
mod states;
mod steps;
mod streamed;
#[cfg(test)]
mod tests;
mod zones;

use super::engines::Own;
use crate::model::{Container, Counter, FailMeans, Kv, Lock, Model, ModelKind, MultiRegister, Order, Register};
use crate::verdict::{CheckResult, OpLine, seconds};
use crate::{Event, HistoryError, Value};
pub(super) use bag::Bag;
use fifo::LazyQueue;
use front::{Feed, Front};
use persistent::{SharedContainer, SharedSet};
use std::fmt;
pub(super) use streamed::Streamed;

/// Limits and readings of an online check.
#[derive(Clone, Copy, Debug)]
pub struct OnlineOptions {
    /// What a `fail` completion of a compare-and-set says.
    pub fail_means: FailMeans,
    /// What all keys together may hold (bytes).
    pub memory_max: u64,
    /// Configurations looked at for one event.
    pub configurations_max: u64,
}

impl Default for OnlineOptions {
    /// Failed operations had no effect, 1 GiB, 100,000 configurations (a fraction of a second).
    fn default() -> Self {
        Self { fail_means: FailMeans::NoEffect, memory_max: 1 << 30, configurations_max: 100_000 }
    }
}

/// What an event brought to light.
#[derive(Clone, Debug)]
pub enum Finding {
    /// From this event on no order exists.
    Violation(Violation),
    /// A key is not decided from this event on.
    GaveUp {
        /// As a person would write it.
        key: String,
        /// The event.
        index: u64,
        /// Why.
        reason: String,
    },
}

/// The moment at which a key stopped being linearizable.
#[derive(Clone, Debug)]
pub struct Violation {
    /// As a person would write it; `nil` when the history has only one object.
    pub key: String,
    /// The history up to this event is the shortest prefix without an order (index of an event).
    pub index: u64,
    /// When that was (nanoseconds since the run's start).
    pub time_ns: u64,
    /// The last operations on this key, in the order of their calls: those that ended last, and those that are open.
    pub ops: Vec<OpLine>,
    /// Which of `ops` ended with this event.
    pub culprit: usize,
}

impl fmt::Display for Violation {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = if self.key == "nil" { "the history".to_owned() } else { format!("key {}", self.key) };
        write!(f, "{name} is not linearizable from event {} on ({} s)", self.index, seconds(self.time_ns))?;
        match self.ops.get(self.culprit) {
            Some(op) => write!(f, ": `{}` ({}) fits nowhere", op.text, op.outcome),
            None => Ok(()),
        }
    }
}

/// Checks a history while it grows.
pub struct Online {
    front: Box<dyn Feed>,
}

impl Online {
    /// A check of an empty history against a model.
    pub fn new(kind: ModelKind, options: OnlineOptions) -> Self {
        let name = kind.as_str();
        let container = |order, capacity| SharedContainer(Container { order, capacity });
        match kind {
            ModelKind::Register => Self::of(name, Register { cas: false }, options),
            ModelKind::CasRegister => Self::of(name, Register { cas: true }, options),
            ModelKind::Kv => Self::of(name, Kv, options),
            ModelKind::MultiRegister(initial) => {
                Self::of(name, MultiRegister { initial: initial.map_or(Value::Nil, Value::Int) }, options)
            }
            ModelKind::Queue(None) => Self::of(name, LazyQueue, options),
            ModelKind::Queue(capacity) => Self::of(name, container(Order::Fifo, capacity), options),
            ModelKind::UnorderedQueue => Self::of(name, Bag, options),
            ModelKind::Stack => Self::of(name, container(Order::Lifo, None), options),
            ModelKind::PriorityQueue => Self::of(name, container(Order::Smallest, None), options),
            ModelKind::Set => Self::of(name, SharedSet, options),
            ModelKind::Counter => Self::of(name, Counter, options),
            ModelKind::Mutex => Self::of(name, Lock::MUTEX, options),
            ModelKind::ReentrantMutex => Self::of(name, Lock::REENTRANT, options),
            ModelKind::FencingLock => Self::of(name, Lock::FENCING, options),
            ModelKind::Semaphore(permits) => Self::of(name, Lock::semaphore(permits), options),
        }
    }

    /// A check against a model of one's own.
    pub fn with_model<M: Model + 'static>(model: M, options: OnlineOptions) -> Self {
        Self::of("the given model", Own(model), options)
    }

    fn of<M: Streamed>(name: &'static str, model: M, options: OnlineOptions) -> Self {
        Self { front: Box::new(Front::new(name, model, options)) }
    }

    /// Takes the next event. A violation is returned with the first event after which no order exists, once a key.
    ///
    /// # Errors
    /// When the event does not pair with those before, or does not fit the model: from then on nothing is checked.
    pub fn push(&mut self, event: &Event) -> Result<Option<Finding>, HistoryError> {
        self.front.push(event)
    }

    /// About how many bytes all keys hold.
    pub fn memory(&self) -> u64 {
        self.front.memory()
    }

    /// The verdict about everything that was pushed: what [`super::check`] says, or `unknown`. Violations that were found
    /// stay, whatever came later.
    pub fn finish(self) -> CheckResult {
        self.front.finish()
    }
}

impl fmt::Debug for Online {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Online").field("memory", &self.memory()).finish_non_exhaustive()
    }
}

/// Why a key is not followed any further.
#[derive(Debug)]
enum Broken {
    /// No order is possible.
    Impossible,
    /// Over some limit.
    GaveUp(String),
}

/// What one event on one key may take.
struct Limits {
    configurations_max: u64,
    memory_max: u64,
}

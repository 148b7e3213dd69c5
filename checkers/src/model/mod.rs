//! Sequential models: what an object does when nobody else is around.
//!
//! A model is a pure function: state and operation (with its answer) to next state, or to nothing where the answer is
//! wrong. It also turns the operations of a history into its own, and says precisely where a history does not fit.
//! One model a file.

mod counter;
mod kv;
mod lock;
mod multi_register;
mod nondeterministic;
mod queue;
mod register;
mod set;

pub use counter::{Counter, CounterOp};
pub use kv::{Kv, KvOp, KvState};
pub use lock::{Holders, Lock, LockOp};
pub use multi_register::{Micro, MultiRegister};
pub use nondeterministic::{Nondeterministic, Powerset};
pub use queue::{Container, ContainerOp, Order, UnorderedQueue};
pub use register::{Register, RegisterOp};
pub use set::{Set, SetOp};

use crate::{HistoryError, Op, Outcome, Value};
use std::fmt::{self, Debug};
use std::hash::Hash;
use std::time::Instant;

/// What a `fail` completion of a compare-and-set says.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FailMeans {
    /// The operation had no effect; why is not known (refused, unreachable, mismatch). Says nothing about the state.
    #[default]
    NoEffect,
    /// The system answered that the current value differs from the expected one: a read in disguise.
    AnsweredNo,
}

/// What a single step of a model may take.
#[derive(Clone, Copy, Debug)]
pub struct StepLimits {
    /// When it must have ended.
    pub deadline: Option<Instant>,
    /// How large the new state may be (bytes).
    pub bytes_max: u64,
}

impl StepLimits {
    /// Anything goes.
    pub const NONE: Self = Self { deadline: None, bytes_max: u64::MAX };

    /// Why to stop at a new state of so many bytes, if so.
    ///
    /// # Errors
    /// When it is too large, or it is too late.
    pub fn check(&self, bytes: u64) -> Result<(), TooMuch> {
        if bytes > self.bytes_max {
            return Err(TooMuch("out of memory"));
        }
        if self.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
            return Err(TooMuch("out of time"));
        }
        Ok(())
    }
}

/// A step took more than it may; says what of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TooMuch(pub &'static str);

/// A sequential object.
///
/// Laws: `step` is a function of its arguments alone. An operation with `is_read_only` never changes the state.
pub trait Model: Clone + Send + Sync {
    /// What the object remembers.
    type State: Clone + Debug + Eq + Hash + Send;
    /// An operation together with its answer.
    type Op: Clone + Debug + Eq + Hash + Send + Sync;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// The state after `op`, or `None` when `op` cannot have got this answer in this state.
    fn step(&self, state: &Self::State, op: &Self::Op) -> Option<Self::State>;

    /// As [`Model::step`], for models in which a single step may outgrow memory or time: those look after the limits
    /// themselves. All others need not care.
    ///
    /// # Errors
    /// When the step would take more than the limits allow.
    fn step_within(
        &self,
        state: &Self::State,
        op: &Self::Op,
        _limits: &StepLimits,
    ) -> Result<Option<Self::State>, TooMuch> {
        Ok(self.step(state, op))
    }

    /// Whether `op` leaves every state as it is.
    fn is_read_only(&self, op: &Self::Op) -> bool;

    /// About how many bytes a state holds, so that a search can keep its budget.
    fn state_bytes(&self, state: &Self::State) -> usize {
        size_of_val(state)
    }

    /// The model's view of an operation: `None` when it can be left out of the check, because it certainly had no
    /// effect or because nobody knows its answer and it changes nothing.
    ///
    /// # Errors
    /// When the model has no such operation, or not with this argument or answer.
    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<Self::Op>, HistoryError>;
}

/// The models that [`crate::linear::check`] knows by name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ModelKind {
    /// `read`, `write`.
    Register,
    /// `read`, `write`, `cas` (argument `[expected, new]`).
    CasRegister,
    /// `txn` over several registers; all begin with nil, or with this number.
    MultiRegister(Option<i64>),
    /// `get`, `put`, `append`, `delete`, `cas` on one value per key.
    Kv,
    /// `enqueue`, `dequeue`: first in, first out; with a capacity or without.
    Queue(Option<usize>),
    /// `enqueue`, `dequeue` in any order.
    UnorderedQueue,
    /// `push`, `pop`: last in, first out.
    Stack,
    /// `insert`, `delete-min`.
    PriorityQueue,
    /// `add`, `remove`, `contains`, `read`.
    Set,
    /// `add`, `fetch-add`, `read`.
    Counter,
    /// `acquire`, `release`.
    Mutex,
    /// The same, several times by one process.
    ReentrantMutex,
    /// `acquire` answers a token that grows.
    FencingLock,
    /// `acquire`, `release`; so many at a time.
    Semaphore(u32),
}

impl ModelKind {
    /// One of each, with the parameters that have no default left out.
    pub const ALL: [Self; 13] = [
        Self::Register,
        Self::CasRegister,
        Self::MultiRegister(None),
        Self::Kv,
        Self::Queue(None),
        Self::UnorderedQueue,
        Self::Stack,
        Self::PriorityQueue,
        Self::Set,
        Self::Counter,
        Self::Mutex,
        Self::ReentrantMutex,
        Self::FencingLock,
    ];

    /// The model with this name; some take a number: `queue:10` (capacity), `semaphore:3` (permits), `multi-register:0`
    /// (what is in each register at first).
    pub fn parse(name: &str) -> Option<Self> {
        if let Some((name, number)) = name.split_once(':') {
            return match name {
                "queue" => number.parse().ok().map(|capacity| Self::Queue(Some(capacity))),
                "semaphore" => number.parse().ok().map(Self::Semaphore),
                "multi-register" => number.parse().ok().map(|initial| Self::MultiRegister(Some(initial))),
                _ => None,
            };
        }
        Self::ALL.into_iter().find(|kind| kind.as_str() == name)
    }

    /// Its name, without a number.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Register => "register",
            Self::CasRegister => "cas-register",
            Self::MultiRegister(_) => "multi-register",
            Self::Kv => "kv",
            Self::Queue(_) => "queue",
            Self::UnorderedQueue => "unordered-queue",
            Self::Stack => "stack",
            Self::PriorityQueue => "priority-queue",
            Self::Set => "set",
            Self::Counter => "counter",
            Self::Mutex => "mutex",
            Self::ReentrantMutex => "reentrant-mutex",
            Self::FencingLock => "fencing-lock",
            Self::Semaphore(_) => "semaphore",
        }
    }

    /// All names, for people.
    pub fn names() -> String {
        let names: Vec<&str> = Self::ALL.iter().map(|kind| kind.as_str()).collect();
        format!("{}, semaphore:N, queue:CAPACITY, multi-register:INITIAL", names.join(", "))
    }
}

impl fmt::Display for ModelKind {
    /// What [`ModelKind::parse`] reads back.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::MultiRegister(Some(initial)) => write!(f, "{}:{initial}", self.as_str()),
            Self::Queue(Some(capacity)) => write!(f, "{}:{capacity}", self.as_str()),
            Self::Semaphore(permits) => write!(f, "{}:{permits}", self.as_str()),
            _ => f.write_str(self.as_str()),
        }
    }
}

/// The error for an operation that the model does not have.
fn no_such_op(op: &Op<'_>, model: &str, known: &str) -> HistoryError {
    HistoryError::DoesNotFit {
        index: op.call_index() as u64,
        message: format!("the {model} model has no operation `{}`; it knows {known}", op.f()),
    }
}

/// `[expected, new]` of a compare-and-set.
fn cas_argument(op: &Op<'_>) -> Result<(Value, Value), HistoryError> {
    match op.argument() {
        Value::List(pair) if pair.len() == 2 => Ok((pair[0].clone(), pair[1].clone())),
        other => Err(HistoryError::DoesNotFit {
            index: op.call_index() as u64,
            message: format!("the argument of cas is [expected, new], not {other}"),
        }),
    }
}

/// What a compare-and-set comes to, made of `done(expected, new)` and `refused(expected)`.
fn view_cas<O>(
    op: &Op<'_>,
    fail_means: FailMeans,
    done: impl FnOnce(Value, Value) -> O,
    refused: impl FnOnce(Value) -> O,
) -> Result<Option<O>, HistoryError> {
    let (expected, new) = cas_argument(op)?;
    Ok(match (op.outcome(), fail_means) {
        (Outcome::Ok | Outcome::Unfinished, _) => Some(done(expected, new)),
        (Outcome::Fail, FailMeans::AnsweredNo) => Some(refused(expected)),
        (Outcome::Fail, FailMeans::NoEffect) => None,
    })
}

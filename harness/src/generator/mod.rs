//! Where operations come from: pure, composable generators.
//!
//! Workers ask for their next operation; a generator answers at once, without a clock, a socket or randomness of its own
//! beyond a seeded stream. See the files beside this one for the combinators.

mod limit;
mod mix;
mod pace;
mod per_key;
mod per_thread;
mod phases;
mod source;
#[cfg(test)]
mod tests;
mod until_ok;

pub use limit::{Limit, TimeLimit};
pub use mix::Mix;
pub use pace::{Rate, Stagger};
pub use per_key::PerKey;
pub use per_thread::{OnThreads, PerThread};
pub use phases::Phases;
pub use source::{Once, from_fn};
pub use until_ok::UntilOk;

use crate::client::Op;
use squall_checkers::{Event, Sym, Value};

/// Who asks, and when.
#[derive(Clone, Copy, Debug)]
pub struct Context {
    /// Nanoseconds since the start of the run.
    pub now_ns: u64,
    /// The worker that asks, from 0.
    pub thread: usize,
    /// The process it runs as now.
    pub process: u32,
    /// How many workers there are.
    pub threads: usize,
}

/// An operation as a generator describes it; the interpreter adds the process.
#[derive(Clone, Debug, PartialEq)]
pub struct OpSpec {
    /// `read`, `write`, …
    pub f: Sym,
    /// The object it acts on.
    pub key: Value,
    /// Its argument.
    pub value: Value,
    /// When to invoke it (nanoseconds since the start of the run); a time in the past means at once, and the
    /// difference counts as latency, so that a slow system cannot hide behind a worker that waits for it.
    pub at_ns: Option<u64>,
}

impl OpSpec {
    /// An operation to invoke at once.
    pub fn new(f: Sym, key: Value, value: Value) -> Self {
        Self { f, key, value, at_ns: None }
    }

    /// The same as `process` would send it.
    pub fn to_op(&self, process: u32) -> Op {
        Op { process, f: self.f, key: self.key.clone(), value: self.value.clone() }
    }
}

/// A generator's answer.
#[derive(Clone, Debug, PartialEq)]
pub enum Next {
    /// Do this.
    Op(OpSpec),
    /// Nothing before this time (nanoseconds since the start of the run): ask again then.
    Wait(u64),
    /// Nothing until some operation completes: ask again then.
    Pending,
    /// Nothing for this thread, ever again.
    Done,
}

/// A source of operations.
///
/// Laws: after `Done` for a thread it answers `Done` to that thread for ever. It sees every invocation and completion of
/// its own operations through [`update`](Generator::update); those of one process in the order of the journal.
pub trait Generator: Send {
    /// The next operation for the worker of `context`.
    fn next(&mut self, context: &Context) -> Next;

    /// Told of every event of an operation it gave out.
    fn update(&mut self, context: &Context, event: &Event) {
        let _ = (context, event);
    }
}

impl Generator for Box<dyn Generator> {
    fn next(&mut self, context: &Context) -> Next {
        (**self).next(context)
    }
    fn update(&mut self, context: &Context, event: &Event) {
        (**self).update(context, event);
    }
}

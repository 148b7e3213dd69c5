//! Ends: after so many operations, or at a time.

use super::{Context, Generator, Next};
use squall_checkers::Event;

/// At most `n` operations of the inner generator.
#[derive(Debug)]
pub struct Limit<G> {
    inner: G,
    left: u64,
}

impl<G: Generator> Limit<G> {
    /// At most `n` operations of `inner`.
    pub fn new(n: u64, inner: G) -> Self {
        Self { inner, left: n }
    }
}

impl<G: Generator> Generator for Limit<G> {
    fn next(&mut self, context: &Context) -> Next {
        if self.left == 0 {
            return Next::Done;
        }
        let next = self.inner.next(context);
        if matches!(next, Next::Op(_)) {
            self.left -= 1;
        }
        next
    }

    fn update(&mut self, context: &Context, event: &Event) {
        self.inner.update(context, event);
    }
}

/// The inner generator, from its first use for so long. An operation that would start later is not given out.
#[derive(Debug)]
pub struct TimeLimit<G> {
    inner: G,
    length_ns: u64,
    end_ns: Option<u64>,
}

impl<G: Generator> TimeLimit<G> {
    /// `inner` for `length_ns` nanoseconds from the first time it is asked.
    pub fn new(length_ns: u64, inner: G) -> Self {
        Self { inner, length_ns, end_ns: None }
    }
}

impl<G: Generator> Generator for TimeLimit<G> {
    fn next(&mut self, context: &Context) -> Next {
        let end_ns = *self.end_ns.get_or_insert(context.now_ns.saturating_add(self.length_ns));
        if context.now_ns >= end_ns {
            return Next::Done;
        }
        match self.inner.next(context) {
            Next::Op(op) if op.at_ns.is_some_and(|at| at >= end_ns) => Next::Done,
            // Asked again at the end, it will be told that all is over.
            Next::Wait(until) => Next::Wait(until.min(end_ns)),
            Next::Pending => Next::Wait(end_ns.min(context.now_ns + 10_000_000)),
            next => next,
        }
    }

    fn update(&mut self, context: &Context, event: &Event) {
        self.inner.update(context, event);
    }
}

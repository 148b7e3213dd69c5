//! The same operation again and again until it succeeds.

use super::{Context, Generator, Next, OpSpec};
use squall_checkers::{Event, EventKind, Sym, Value};

/// Pause before an operation that did not succeed is tried again (nanoseconds).
const RETRY_NS: u64 = 100_000_000;

/// Each operation of a list until it ends ok, each tried by one worker at a time. Done when all have.
#[derive(Debug)]
pub struct UntilOk {
    items: Vec<Item>,
    /// Items before this one are all done.
    first_open: usize,
}

#[derive(Debug)]
struct Item {
    op: OpSpec,
    state: State,
}

#[derive(Debug, PartialEq)]
enum State {
    /// May be tried from this time on.
    Waiting(u64),
    /// Being tried by this worker.
    Trying(usize),
    Done,
}

impl UntilOk {
    /// All of `ops`, in order where they succeed at once.
    pub fn new(ops: impl IntoIterator<Item = OpSpec>) -> Self {
        let items = ops.into_iter().map(|op| Item { op, state: State::Waiting(0) }).collect();
        Self { items, first_open: 0 }
    }

    fn is_same(op: &OpSpec, f: Sym, key: &Value) -> bool {
        op.f == f && op.key == *key
    }
}

impl Generator for UntilOk {
    fn next(&mut self, context: &Context) -> Next {
        while self.items.get(self.first_open).is_some_and(|item| item.state == State::Done) {
            self.first_open += 1;
        }
        if self.first_open == self.items.len() {
            return Next::Done;
        }
        let mut soonest = None;
        for item in &mut self.items[self.first_open..] {
            match item.state {
                State::Waiting(from) if from <= context.now_ns => {
                    item.state = State::Trying(context.thread);
                    return Next::Op(item.op.clone());
                }
                State::Waiting(from) => soonest = Some(soonest.map_or(from, |s: u64| s.min(from))),
                State::Trying(_) | State::Done => {}
            }
        }
        soonest.map_or(Next::Pending, Next::Wait)
    }

    fn update(&mut self, context: &Context, event: &Event) {
        if !event.kind.is_completion() {
            return;
        }
        let tried = self
            .items
            .iter_mut()
            .find(|item| item.state == State::Trying(context.thread) && Self::is_same(&item.op, event.f, &event.key));
        if let Some(item) = tried {
            item.state = match event.kind {
                EventKind::Ok => State::Done,
                _ => State::Waiting(event.time_ns + RETRY_NS),
            };
        }
    }
}

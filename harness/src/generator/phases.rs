//! One generator after another, with a barrier between them.

use super::{Context, Generator, Next};
use squall_checkers::{Event, EventKind};
use std::collections::VecDeque;

/// Generators one after another. The next one begins when the one before is done for every worker and all its operations
/// have completed.
pub struct Phases {
    phases: VecDeque<Box<dyn Generator>>,
    done: Vec<bool>,
    in_flight: usize,
}

impl Phases {
    /// In this order.
    pub fn new(phases: impl IntoIterator<Item = Box<dyn Generator>>) -> Self {
        Self { phases: phases.into_iter().collect(), done: Vec::new(), in_flight: 0 }
    }
}

impl Generator for Phases {
    fn next(&mut self, context: &Context) -> Next {
        self.done.resize(context.threads, false);
        while let Some(phase) = self.phases.front_mut() {
            if !self.done[context.thread] {
                match phase.next(context) {
                    Next::Op(op) => {
                        self.in_flight += 1;
                        return Next::Op(op);
                    }
                    Next::Done => self.done[context.thread] = true,
                    next => return next,
                }
            }
            if self.in_flight > 0 || self.done.iter().any(|done| !done) {
                return Next::Pending;
            }
            self.phases.pop_front();
            self.done.fill(false);
        }
        Next::Done
    }

    fn update(&mut self, context: &Context, event: &Event) {
        if event.kind.is_completion() {
            self.in_flight = self.in_flight.saturating_sub(1);
        }
        debug_assert!(event.kind != EventKind::Nemesis, "generators see only client events");
        if let Some(phase) = self.phases.front_mut() {
            phase.update(context, event);
        }
    }
}

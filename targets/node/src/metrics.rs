//! Counters for `/metrics`, in the text format of Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering};

/// All counters of a node.
#[derive(Debug, Default)]
pub struct Metrics {
    /// Batches made durable.
    pub syncs: AtomicU64,
    /// Time that took (microseconds).
    pub sync_us: AtomicU64,
    /// Entries appended to the log.
    pub appended: AtomicU64,
    /// Entries applied.
    pub applied: AtomicU64,
    /// Requests that clients made.
    pub requests: AtomicU64,
    /// Requests that were sent to a leader again.
    pub retries: AtomicU64,
    /// Elections won.
    pub elections_won: AtomicU64,
    /// Snapshots taken or restored.
    pub snapshots: AtomicU64,
}

impl Metrics {
    /// Adds `n` to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Ordering::Relaxed);
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> String {
        let table = [
            ("syncs_total", "batches made durable", &self.syncs),
            ("sync_microseconds_total", "time spent making batches durable", &self.sync_us),
            ("entries_appended_total", "entries appended to the log", &self.appended),
            ("entries_applied_total", "entries applied to the state machine", &self.applied),
            ("requests_total", "requests that clients made", &self.requests),
            ("retries_total", "requests that were sent to a leader again", &self.retries),
            ("elections_won_total", "elections won", &self.elections_won),
            ("snapshots_total", "snapshots taken or restored", &self.snapshots),
        ];
        let mut out = String::new();
        for (name, help, counter) in table {
            let value = counter.load(Ordering::Relaxed);
            let _ = writeln!(out, "# HELP squall_node_{name} {help}\n# TYPE squall_node_{name} counter");
            let _ = writeln!(out, "squall_node_{name} {value}");
        }
        out
    }
}

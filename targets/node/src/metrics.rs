//! Counters, gauges and histograms for `/metrics`, in the text format of Prometheus.

use std::fmt::Write;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Duration;

/// Upper ends of a histogram's buckets (microseconds): from a fast fsync to a request's deadline.
const BOUNDS_US: [u64; 12] =
    [250, 500, 1_000, 2_500, 5_000, 10_000, 25_000, 50_000, 100_000, 250_000, 1_000_000, 2_000_000];

/// How long something took, how often.
#[derive(Debug, Default)]
pub struct Histogram {
    /// Observations in each bucket; the last one has no upper end.
    counts: [AtomicU64; BOUNDS_US.len() + 1],
    sum_us: AtomicU64,
}

impl Histogram {
    /// Takes note of one.
    pub fn observe(&self, time: Duration) {
        let us = time.as_micros() as u64;
        let bucket = BOUNDS_US.partition_point(|bound| *bound < us);
        self.counts[bucket].fetch_add(1, Relaxed);
        self.sum_us.fetch_add(us, Relaxed);
    }

    fn write(&self, name: &str, help: &str, out: &mut String) {
        let _ = writeln!(out, "# HELP squall_node_{name} {help}\n# TYPE squall_node_{name} histogram");
        let mut count = 0;
        let ends = BOUNDS_US.iter().map(|us| (*us as f64 / 1e6).to_string()).chain(["+Inf".to_owned()]);
        for (bucket, end) in self.counts.iter().zip(ends) {
            count += bucket.load(Relaxed);
            let _ = writeln!(out, "squall_node_{name}_bucket{{le=\"{end}\"}} {count}");
        }
        let sum = self.sum_us.load(Relaxed) as f64 / 1e6;
        let _ = writeln!(out, "squall_node_{name}_sum {sum}\nsquall_node_{name}_count {count}");
    }
}

/// What a node counts and measures.
#[derive(Debug, Default)]
pub struct Metrics {
    /// How long batches took to become durable.
    pub syncs: Histogram,
    /// How long entries took from the leader's log to its state machine.
    pub commits: Histogram,
    /// How long reads took from their arrival to their answer, at the node that the client asked.
    pub reads: Histogram,
    /// Entries appended to the log.
    pub appended: AtomicU64,
    /// Entries applied.
    pub applied: AtomicU64,
    /// Requests that clients made.
    pub requests: AtomicU64,
    /// Requests that were sent to a leader again.
    pub retries: AtomicU64,
    /// Requests that were given up.
    pub given_up: AtomicU64,
    /// Elections won.
    pub elections_won: AtomicU64,
    /// Snapshots taken or restored.
    pub snapshots: AtomicU64,
    /// The current term.
    pub term: AtomicU64,
    /// The last entry known to be committed.
    pub commit: AtomicU64,
    /// 1 for a leader, else 0.
    pub leads: AtomicU64,
}

impl Metrics {
    /// Adds `n` to a counter.
    pub fn add(counter: &AtomicU64, n: u64) {
        counter.fetch_add(n, Relaxed);
    }

    /// Sets a gauge.
    pub fn set(gauge: &AtomicU64, n: u64) {
        gauge.store(n, Relaxed);
    }

    /// The text of `/metrics`.
    pub fn text(&self) -> String {
        let table = [
            ("entries_appended_total", "counter", "entries appended to the log", &self.appended),
            ("entries_applied_total", "counter", "entries applied to the state machine", &self.applied),
            ("requests_total", "counter", "requests that clients made", &self.requests),
            ("retries_total", "counter", "requests that were sent to a leader again", &self.retries),
            ("given_up_total", "counter", "requests without an answer in time", &self.given_up),
            ("elections_won_total", "counter", "elections won", &self.elections_won),
            ("snapshots_total", "counter", "snapshots taken or restored", &self.snapshots),
            ("term", "gauge", "current term", &self.term),
            ("commit_index", "gauge", "last entry known to be committed", &self.commit),
            ("is_leader", "gauge", "1 for a leader, else 0", &self.leads),
        ];
        let mut out = String::new();
        for (name, kind, help, value) in table {
            let value = value.load(Relaxed);
            let _ = writeln!(out, "# HELP squall_node_{name} {help}\n# TYPE squall_node_{name} {kind}");
            let _ = writeln!(out, "squall_node_{name} {value}");
        }
        self.syncs.write("sync_seconds", "time until a batch was durable", &mut out);
        self.commits.write("commit_seconds", "time from the leader's log to its state machine", &mut out);
        self.reads.write("read_seconds", "time from a read's arrival to its answer", &mut out);
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn histograms_add_up() {
        let metrics = Metrics::default();
        for us in [1, 250, 251, 2_000_000, 2_000_001] {
            metrics.reads.observe(Duration::from_micros(us));
        }
        let text = metrics.text();
        for line in [
            "squall_node_read_seconds_bucket{le=\"0.00025\"} 2",
            "squall_node_read_seconds_bucket{le=\"0.0005\"} 3",
            "squall_node_read_seconds_bucket{le=\"2\"} 4",
            "squall_node_read_seconds_bucket{le=\"+Inf\"} 5",
            "squall_node_read_seconds_sum 4.000503",
            "squall_node_read_seconds_count 5",
            "squall_node_term 0",
        ] {
            assert!(text.lines().any(|l| l == line), "{line} is not in\n{text}");
        }
    }
}

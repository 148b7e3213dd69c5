//! Numbers about a history as it goes by: counts, latencies, rate. Memory does not grow with the history.

use hdrhistogram::Histogram;
use squall_checkers::{Event, EventKind, Sym};
use std::collections::HashMap;

/// Latencies from a microsecond to an hour, three significant digits (microseconds).
fn histogram() -> Histogram<u64> {
    Histogram::new_with_bounds(1, 3_600_000_000, 3).expect("constant bounds are valid")
}

/// Counts and latencies of one kind of operation.
#[derive(Clone, Debug)]
pub struct OpStats {
    /// Certainly took effect.
    pub ok: u64,
    /// Certainly did not.
    pub fail: u64,
    /// Unknown, including those that never completed.
    pub info: u64,
    /// Of ok operations (microseconds), from the intended start where there was one.
    pub latency_us: Histogram<u64>,
}

impl OpStats {
    fn new() -> Self {
        Self { ok: 0, fail: 0, info: 0, latency_us: histogram() }
    }
}

/// An operation that has been invoked and not completed.
#[derive(Clone, Copy, Debug)]
struct Open {
    f: Sym,
    start_ns: u64,
}

/// Counts and latencies of a history; feed it every event in order.
#[derive(Clone, Debug, Default)]
pub struct Stats {
    by_f: Vec<(Sym, OpStats)>,
    open: HashMap<u32, Open>,
    /// Errors of failed and unknown operations, with their counts.
    pub errors: HashMap<(Sym, EventKind, Sym), u64>,
    /// Completed operations per second of the run.
    pub ok_per_second: Vec<u64>,
    /// Time of the last event (nanoseconds).
    pub end_ns: u64,
    /// First and last client event (nanoseconds).
    pub client_span_ns: Option<(u64, u64)>,
    /// Invocations.
    pub invoked: u64,
}

impl Stats {
    /// Takes note of one event.
    pub fn feed(&mut self, event: &Event) {
        self.end_ns = event.time_ns;
        match event.kind {
            EventKind::Nemesis | EventKind::Phase => return,
            EventKind::Invoke => {
                self.invoked += 1;
                let start_ns = event.intended_ns.unwrap_or(event.time_ns).min(event.time_ns);
                self.open.insert(event.process, Open { f: event.f, start_ns });
            }
            EventKind::Ok | EventKind::Fail | EventKind::Info => self.complete(event),
        }
        let first = self.client_span_ns.map_or(event.time_ns, |(first, _)| first);
        self.client_span_ns = Some((first, event.time_ns));
    }

    fn complete(&mut self, event: &Event) {
        let open = self.open.remove(&event.process);
        if let Some(error) = event.error {
            *self.errors.entry((event.f, event.kind, error)).or_default() += 1;
        }
        let second = (event.time_ns / 1_000_000_000) as usize;
        let stats = self.of(event.f);
        match event.kind {
            EventKind::Ok => {
                stats.ok += 1;
                if let Some(open) = open {
                    let us = event.time_ns.saturating_sub(open.start_ns) / 1000;
                    stats.latency_us.saturating_record(us.max(1));
                }
                if self.ok_per_second.len() <= second {
                    self.ok_per_second.resize(second + 1, 0);
                }
                self.ok_per_second[second] += 1;
            }
            EventKind::Fail => stats.fail += 1,
            _ => stats.info += 1,
        }
    }

    fn of(&mut self, f: Sym) -> &mut OpStats {
        let at = self.by_f.iter().position(|(name, _)| *name == f).unwrap_or_else(|| {
            self.by_f.push((f, OpStats::new()));
            self.by_f.len() - 1
        });
        &mut self.by_f[at].1
    }

    /// Per kind of operation, in order of first completion. Operations that never completed count as unknown.
    pub fn by_f(&self) -> Vec<(Sym, OpStats)> {
        let mut all = self.clone();
        for open in self.open.values() {
            all.of(open.f).info += 1;
        }
        all.by_f.sort_by_key(|(f, _)| f.as_str());
        all.by_f
    }

    /// Sums over all kinds: ok, fail, unknown (completed ones only).
    pub fn totals(&self) -> (u64, u64, u64) {
        self.by_f.iter().fold((0, 0, 0), |(o, f, i), (_, s)| (o + s.ok, f + s.fail, i + s.info))
    }

    /// Latencies of all kinds together.
    pub fn latency_us(&self) -> Histogram<u64> {
        let mut all = histogram();
        for (_, stats) in &self.by_f {
            all.add(&stats.latency_us).expect("same bounds");
        }
        all
    }

    /// Ok operations per second between the first and the last client event.
    pub fn rate(&self) -> f64 {
        let (first, last) = self.client_span_ns.unwrap_or((0, 0));
        let seconds = (last - first) as f64 / 1e9;
        if seconds > 0.0 { self.totals().0 as f64 / seconds } else { 0.0 }
    }
}

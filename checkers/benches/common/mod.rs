//! What the benchmarks share: the clock, and the memory of this process.

use std::time::{Duration, Instant};

/// What several runs took (milliseconds).
#[derive(Clone, Copy, Debug)]
#[allow(dead_code, clippy::allow_attributes, reason = "each benchmark is a crate of its own and uses some of this")]
pub(crate) struct Times {
    pub(crate) median: f64,
    pub(crate) fastest: f64,
}

/// As many runs as fit into a second, at most 101, and the last result.
#[allow(dead_code, clippy::allow_attributes, reason = "each benchmark is a crate of its own and uses some of this")]
pub(crate) fn timed<T>(mut work: impl FnMut() -> T) -> (Times, T) {
    let begun = Instant::now();
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        let result = work();
        times.push(start.elapsed().as_secs_f64() * 1e3);
        if times.len() >= 101 || begun.elapsed() > Duration::from_secs(1) {
            times.sort_by(f64::total_cmp);
            return (Times { median: times[times.len() / 2], fastest: times[0] }, result);
        }
    }
}

/// The most memory this process held since it was last asked (MiB).
#[allow(dead_code, clippy::allow_attributes, reason = "each benchmark is a crate of its own and uses some of this")]
pub(crate) fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    // Writing 5 starts the count afresh (proc(5)); where that is not allowed it only grows.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// The median of as many runs as fit into a second (milliseconds), and the last result.
#[allow(dead_code, clippy::allow_attributes, reason = "each benchmark is a crate of its own and uses some of this")]
pub(crate) fn median<T>(work: impl FnMut() -> T) -> (f64, T) {
    let (times, result) = timed(work);
    (times.median, result)
}

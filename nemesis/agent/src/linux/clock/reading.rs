//! What a program's clock shows, measured against the agent's.
//!
//! A program of ours is started in the same way and with the same page as the process in question, and prints its clocks.
//! CLOCK_BOOTTIME is true in every program, so both need not look at the same moment. That the process itself has the page,
//! and not only the program of ours, is seen in its `/proc/PID/maps`. So the process is neither stopped nor asked.

use super::super::procfs::Stat;
use super::super::state::{State, clock_ns};
use super::page::{self, Term};
use super::{log_path, page_path, through};
use crate::protocol::AgentError;
use nix::time::ClockId;
use serde::{Deserialize, Serialize};
use std::os::unix::fs::MetadataExt;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Readings are taken again, up to so many times, when the program was interrupted in between.
const TRIES_MAX: u32 = 50;

/// A reading that took no longer was not interrupted (nanoseconds).
const READING_TIME_GOOD: i64 = 5_000;

/// A clock is where it should be when it is no further off than this (nanoseconds). Coarser than any reading, finer than
/// any fault.
const TOLERANCE_NS: i64 = 1_000_000;

/// A measurement is repeated so often when the shift changed meanwhile.
const CHANGES_MAX: u32 = 20;

/// How long a process may take from its execve(2) to its patch.
const PATCH_TIME_MAX: Duration = Duration::from_secs(2);

/// What the clocks show at one moment (nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
struct Clocks {
    realtime: i64,
    monotonic: i64,
    boottime: i64,
}

impl Clocks {
    /// Now, in this process.
    fn now() -> Self {
        let mut best: Option<(i64, Self)> = None;
        for _ in 0..TRIES_MAX {
            let before = clock_ns(ClockId::CLOCK_BOOTTIME);
            let realtime = clock_ns(ClockId::CLOCK_REALTIME);
            let monotonic = clock_ns(ClockId::CLOCK_MONOTONIC);
            let took = clock_ns(ClockId::CLOCK_BOOTTIME) - before;
            if best.is_none_or(|(shortest, _)| took < shortest) {
                best = Some((took, Self { realtime, monotonic, boottime: before + took / 2 }));
            }
            if took < READING_TIME_GOOD {
                break;
            }
        }
        best.expect("tried at least once").1
    }
}

/// A page's own line, then one for each reading.
#[derive(Debug, Serialize, Deserialize)]
enum Line {
    /// Whether the page is mapped in this process.
    Patched(bool),
    Clocks(Clocks),
}

/// The life of the program that reads clocks: as many readings, with pauses between them.
///
/// # Errors
/// When nobody listens.
pub(super) fn print(page: &Path, count: u32, pause_ms: u64) -> anyhow::Result<()> {
    println!("{}", serde_json::to_string(&Line::Patched(patched(page, std::process::id())))?);
    for n in 0..count {
        if n > 0 {
            std::thread::sleep(Duration::from_millis(pause_ms));
        }
        println!("{}", serde_json::to_string(&Line::Clocks(Clocks::now()))?);
    }
    Ok(())
}

/// What was measured: true times and how far the clocks were off then (nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Off {
    pub(crate) true_ns: i64,
    pub(crate) realtime: i64,
    pub(crate) monotonic: i64,
}

/// Measures how far the clock of the process called `name` is off, `count` times with pauses of `pause_ms`; an error unless
/// each time it is as far off as its page says.
///
/// # Errors
/// When no program can be started with that clock, or its clocks show something else.
pub(crate) fn measure(state: &State, name: &str, count: u32, pause_ms: u64) -> Result<Vec<Off>, AgentError> {
    let path = page_path(state, name);
    let mut changes = 0;
    loop {
        let terms = page::terms(&path)?;
        let measured = measure_once(state, &path, &terms, count, pause_ms);
        // Another fault of the same clock may begin or end meanwhile: then there was no one shift to compare with.
        if page::terms(&path)? == terms || changes == CHANGES_MAX {
            return measured;
        }
        changes += 1;
    }
}

fn measure_once(state: &State, page: &Path, terms: &[Term], count: u32, pause_ms: u64) -> Result<Vec<Off>, AgentError> {
    let here = Clocks::now();
    let readings = read(state, page, count, pause_ms)?;
    let off = |there: &Clocks| {
        let passed = there.boottime - here.boottime;
        Off {
            true_ns: here.realtime + passed,
            realtime: there.realtime - here.realtime - passed,
            monotonic: there.monotonic - here.monotonic - passed,
        }
    };
    let measured: Vec<Off> = readings.iter().map(off).collect();
    for off in &measured {
        let true_monotonic = here.monotonic + (off.true_ns - here.realtime);
        expect("clock", off.realtime, terms, 0, off.true_ns)?;
        expect("monotonic clock", off.monotonic, terms, 1, true_monotonic)?;
    }
    Ok(measured)
}

fn expect(what: &str, measured: i64, terms: &[Term], clock: usize, true_ns: i64) -> Result<(), AgentError> {
    let expected = |when: i64| page::shift_ns(terms, clock, true_ns + when);
    // A moment earlier or later, too: at the edges of a strobe.
    if [0, -TOLERANCE_NS, TOLERANCE_NS].iter().any(|when| (measured - expected(*when)).abs() <= TOLERANCE_NS) {
        return Ok(());
    }
    let seconds = |ns: i64| ns as f64 / 1e9;
    let (measured, expected) = (seconds(measured), seconds(expected(0)));
    Err(AgentError::new(format!("the {what} is off by {measured:+.4} s instead of {expected:+.4} s")))
}

fn read(state: &State, page: &Path, count: u32, pause_ms: u64) -> Result<Vec<Clocks>, AgentError> {
    let mut argv = through(state, page);
    argv.extend(state.myself.iter().cloned());
    argv.extend(["clock", "read", "--count"].map(str::to_owned));
    argv.extend([count.to_string(), "--pause-ms".to_owned(), pause_ms.to_string(), "--page".to_owned()]);
    argv.push(page.display().to_string());
    let failed = |what: &str| AgentError::new(format!("cannot start a program with a clock of its own: {what}"));
    let output =
        Command::new(&argv[0]).args(&argv[1..]).stdin(Stdio::null()).output().map_err(|e| failed(&e.to_string()))?;
    let mut readings = Vec::new();
    for line in String::from_utf8_lossy(&output.stdout).lines() {
        match serde_json::from_str(line) {
            Ok(Line::Patched(true)) => {}
            Ok(Line::Patched(false)) => {
                return Err(failed(&format!("it kept the true one (see {})", log_path(page).display())));
            }
            Ok(Line::Clocks(clocks)) => readings.push(clocks),
            Err(error) => return Err(failed(&format!("it printed `{line}`: {error}"))),
        }
    }
    if readings.len() == count as usize && output.status.success() {
        return Ok(readings);
    }
    let complaint = String::from_utf8_lossy(&output.stderr).trim().to_owned();
    Err(failed(if complaint.is_empty() { "it was killed" } else { &complaint }))
}

/// Whether process `pid` has `page` mapped.
fn patched(page: &Path, pid: u32) -> bool {
    let Ok(inode) = std::fs::metadata(page).map(|m| m.ino().to_string()) else { return false };
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap_or_default();
    let name = page.file_name().unwrap_or_default().to_string_lossy();
    // address, permissions, offset, device, inode, path
    maps.lines().any(|line| line.split_ascii_whitespace().nth(4) == Some(inode.as_str()) && line.ends_with(&*name))
}

/// Waits for those of `tree` that have just been executed; those that keep the true clock.
pub(crate) fn unpatched(page: &Path, tree: impl Fn() -> Vec<Stat>) -> Vec<u32> {
    let begun = Instant::now();
    loop {
        let left: Vec<u32> = tree().iter().map(|stat| stat.pid).filter(|pid| !patched(page, *pid)).collect();
        if left.is_empty() || begun.elapsed() > PATCH_TIME_MAX {
            return left;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

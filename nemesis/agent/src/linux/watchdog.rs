//! The watchdog: a process that survives agent and controller, and undoes what neither of them came back to undo.
//!
//! One per root. It leaves when there is nothing to guard, and is started again with the next fault or process.

use super::state::{State, boottime_ns};
use super::{cgroup, end, fault, ledger, process};
use crate::protocol::{AgentError, ProcessState};
use std::fs::OpenOptions;
use std::io::{BufRead, BufReader, Write};
use std::process::{Command, Stdio};
use std::time::Duration;

/// How often leases and records are looked at: of a root that is removed sooner after a start, it does not know what to end.
const LOOK_AGAIN: Duration = Duration::from_millis(100);

/// What a watchdog says when it guards.
const GUARDING: &str = "guarding";

/// Starts a watchdog unless one guards this root. The caller holds the lock, so that none leaves meanwhile.
///
/// # Errors
/// When it cannot be started: then nothing may be injected.
pub(crate) fn ensure(state: &State) -> Result<(), AgentError> {
    if state.watchdog_lock()?.is_none() {
        return Ok(());
    }
    let log_path = state.path("watchdog.log");
    let log = OpenOptions::new()
        .create(true)
        .append(true)
        .open(&log_path)
        .map_err(|e| AgentError::io("open", &log_path, e))?;
    let failed =
        |what: &str| AgentError::new(format!("cannot start the watchdog: {what} (see {})", log_path.display()));
    let mut child = Command::new(&state.myself[0])
        .args(&state.myself[1..])
        .arg("watchdog")
        .arg("--root")
        .arg(&state.root)
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(log)
        .spawn()
        .map_err(|e| failed(&e.to_string()))?;
    let mut line = String::new();
    if let Some(stdout) = child.stdout.take() {
        // An error leaves the line empty.
        let _ = BufReader::new(stdout).read_line(&mut line);
    }
    std::thread::spawn(move || child.wait());
    if line.trim() == GUARDING { Ok(()) } else { Err(failed("it ended at once")) }
}

/// The watchdog's life.
///
/// # Errors
/// When the state on disk cannot be used.
pub(crate) fn run(state: &State) -> anyhow::Result<()> {
    let Some(guard) = state.watchdog_lock()? else { return Ok(()) };
    // Out of the session and of the way of signals meant for it.
    let _ = nix::unistd::setsid();
    println!("{GUARDING}");
    std::io::stdout().flush()?;
    let mut known = process::Known::default();
    loop {
        std::thread::sleep(LOOK_AGAIN);
        if !known.look(state) {
            // Whoever removed the root wants nothing of it, and nobody will find what it started.
            known.kill();
            cgroup::sweep_root(state);
            return Ok(());
        }
        let due = ledger::all(state).iter().any(|e| ledger::effective_deadline(state, e) <= boottime_ns())
            || state.lease_deadline() <= boottime_ns();
        let idle = ledger::all(state).is_empty() && !runs_any(state) && !known.runs();
        if !due && !idle {
            continue;
        }
        // The root may be on its way out: that is for the next look.
        let Ok(lock) = state.lock() else { continue };
        expire(state);
        // Looked at again under the lock: nobody can add anything while we decide to leave.
        if ledger::all(state).is_empty() && !runs_any(state) && !known.runs() {
            ledger::sweep(state);
            drop(guard);
            drop(lock);
            return Ok(());
        }
    }
}

fn runs_any(state: &State) -> bool {
    process::names(state)
        .iter()
        .any(|name| process::status(state, name).is_ok_and(|status| status.state != ProcessState::Gone))
}

/// Undoes faults whose lease is out, and everything when the session's is.
fn expire(state: &State) {
    let now = boottime_ns();
    for entry in ledger::all(state).iter().filter(|entry| !entry.fault.effect().is_standing()) {
        if ledger::effective_deadline(state, entry) <= now {
            match fault::heal(state, &entry.id) {
                Ok(evidence) => eprintln!("lease of {} is out: {}", entry.id, evidence.seen),
                Err(error) => eprintln!("lease of {} is out, but: {error}", entry.id),
            }
        }
    }
    if state.lease_deadline() <= now {
        match end::everything(state) {
            Ok(killed) => eprintln!("the session's lease is out: killed {killed} processes"),
            Err(error) => eprintln!("the session's lease is out, but: {error}"),
        }
    }
}

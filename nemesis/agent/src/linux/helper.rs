//! Long-lived helpers of faults: programs of ours that must run on the node while a fault is in force (a shaper, a file
//! system).
//!
//! A helper is a named process like any other, `helper.NAME.INSTANCE`, started as `agent helper …` in a session of its own:
//! so Shutdown, the watchdog and the end of the lease take it with them, a later agent finds it again, and no kill or
//! pause of the target touches it. A fault that needs one starts it in `inject` (starting twice is fine) and stops it in
//! `undo` when no other entry of the ledger needs it. Its kind is a line in [`HELPERS`].
//!
//! When everybody is dead who would end it, watchdog included, it ends by itself: see [`outlive_nobody`].

use super::process;
use super::state::{State, boottime_ns};
use crate::protocol::{AgentError, ProcessState, ProcessStatus, StartProcess};
use std::collections::BTreeMap;
use std::path::PathBuf;
use std::time::{Duration, Instant};

/// What a helper finds around itself.
pub(crate) struct Here<'a> {
    /// The agent's state; its lock belongs to others for as long as they wait for us to get ready.
    pub(crate) state: &'a State,
    /// What [`start`] was given.
    pub(crate) args: &'a [String],
    process: &'a str,
}

impl Here<'_> {
    /// Says that the helper does its work from now on.
    ///
    /// # Errors
    /// When it cannot be said.
    pub(crate) fn ready(&self) -> Result<(), AgentError> {
        let mark = ready_mark(self.state, self.process);
        std::fs::write(&mark, "").map_err(|e| AgentError::io("write", &mark, e))
    }
}

/// The life of a helper.
type Helper = fn(&Here<'_>) -> anyhow::Result<()>;

/// All kinds of helpers by name.
const HELPERS: &[(&str, Helper)] = &[
    ("crash-loop", crate::faults::crash_loop::watch),
    (crate::faults::cpu::HELPER, crate::faults::cpu::keep_stopped),
    (crate::faults::oom_kill::HELPER, crate::faults::oom_kill::eat),
    ("shaper", super::shaper::run),
    (super::disk::HELPER, super::disk::serve),
];

/// How the names of helpers' processes begin.
const PREFIX: &str = "helper.";

/// How long a helper may take until it is ready.
const READY_TIME_MAX: Duration = Duration::from_secs(25);

/// How often a helper looks whether it is still wanted.
const LIVES_LOOK_AGAIN: Duration = Duration::from_millis(500);

/// How long a helper waits after the end of the lease for the watchdog to end it.
const ALONE_TIME_MAX: Duration = Duration::from_secs(30);

/// Pause between two looks at one that is not ready yet.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// Most of a helper's log that goes into an error (bytes).
const LOG_LEN_MAX: usize = 500;

/// Whether the process called `process` is a helper of ours.
pub(crate) fn is_helper(process: &str) -> bool {
    process.starts_with(PREFIX)
}

/// What `agent helper` does: the life of the helper `kind`, as the process called `process`.
///
/// # Errors
/// The helper's own.
pub(crate) fn main(state: &State, kind: &str, process: &str, args: &[String]) -> anyhow::Result<()> {
    match HELPERS.iter().find(|(known, _)| *known == kind) {
        Some((_, helper)) => {
            let (watched, name) = (state.clone(), process.to_owned());
            std::thread::spawn(move || outlive_nobody(&watched, &name));
            helper(&Here { state, args, process })
        }
        None => anyhow::bail!("there is no helper `{kind}`"),
    }
}

/// Ends this process when nobody is left who would: its record is gone or another's, as when the agent's root was removed,
/// or the session's lease is long out, which the watchdog would have seen to. What it had mounted or made goes with the
/// kernel's usual ways.
fn outlive_nobody(state: &State, process: &str) {
    let lease_is_long_out = || {
        let deadline = state.lease_deadline();
        deadline > 0 && deadline.saturating_add(ALONE_TIME_MAX.as_nanos() as u64) < boottime_ns()
    };
    loop {
        std::thread::sleep(LIVES_LOOK_AGAIN);
        if !process::is_on_record(state, process) || lease_is_long_out() {
            std::process::exit(1);
        }
    }
}

/// Starts the helper `kind` called `instance` unless it runs already, and waits until it is ready.
///
/// # Errors
/// When it ends or is not ready in time: with the end of its log.
pub(crate) fn start(state: &State, kind: &str, instance: &str, args: &[String]) -> Result<ProcessStatus, AgentError> {
    let process = process_name(kind, instance);
    let (mark, log) = (ready_mark(state, &process), format!("agent/{process}.log"));
    if process::status(state, &process)?.state == ProcessState::Gone {
        let _ = std::fs::remove_file(&mark);
    }
    let mut argv = state.myself.clone();
    argv.extend(["helper", "--root"].map(str::to_owned));
    argv.extend([state.root.display().to_string(), kind.to_owned(), process.clone()]);
    argv.extend(args.iter().cloned());
    let spec = StartProcess { name: process.clone(), argv, env: BTreeMap::new(), cwd: String::new(), log: log.clone() };
    process::start(state, &spec)?;
    let begun = Instant::now();
    loop {
        let look = Instant::now();
        let status = process::status(state, &process)?;
        if mark.exists() && status.state != ProcessState::Gone {
            return Ok(status);
        }
        if status.state == ProcessState::Gone || begun.elapsed() > READY_TIME_MAX {
            process::kill_tree(state, &process)?;
            let text = std::fs::read_to_string(state.root.join(&log)).unwrap_or_default();
            let tail: String = text.chars().skip(text.chars().count().saturating_sub(LOG_LEN_MAX)).collect();
            return Err(AgentError::new(format!("the helper `{process}` did not get ready: {}", tail.trim())));
        }
        std::thread::sleep(LOOK_AGAIN.max(look.elapsed() * 4));
    }
}

/// What the helper `kind` called `instance` is doing.
///
/// # Errors
/// When `instance` is no name.
pub(crate) fn status(state: &State, kind: &str, instance: &str) -> Result<ProcessStatus, AgentError> {
    process::status(state, &process_name(kind, instance))
}

/// Ends the helper `kind` called `instance`; one that does not run is fine.
///
/// # Errors
/// When it does not die.
pub(crate) fn stop(state: &State, kind: &str, instance: &str) -> Result<(), AgentError> {
    process::kill_tree(state, &process_name(kind, instance)).map(|_| ())
}

/// The name of its process.
pub(crate) fn process_name(kind: &str, instance: &str) -> String {
    format!("{PREFIX}{kind}.{instance}")
}

fn ready_mark(state: &State, process: &str) -> PathBuf {
    state.path(&format!("{process}.ready"))
}

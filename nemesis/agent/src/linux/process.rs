//! Named processes: started in a session of their own, found again by any later agent, killed and paused as whole trees.
//!
//! A record on disk names the process by pid, start time and boot, so that a recycled pid is never hit. The child is
//! started by way of the hidden subcommand `session`, which calls setsid(2) and becomes the program.

use super::procfs::{self, Stat};
use super::state::{State, boot_id, check_name, read_json, write_json};
use super::{fault, helper};
use crate::protocol::{AgentError, Evidence, ProcessState, ProcessStatus, StartProcess};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::thread;
use std::time::{Duration, Instant};

/// How long a whole tree may take to die or stop.
const SIGNAL_TIME_MAX: Duration = Duration::from_secs(10);

/// How long the start of a program may take until it runs in its session: an emulated machine is slow.
const START_TIME_MAX: Duration = Duration::from_secs(25);

/// Pause between two looks at `/proc`.
const LOOK_AGAIN: Duration = Duration::from_millis(2);

/// What is on disk about a named process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Record {
    name: String,
    pid: u32,
    start_ticks: u64,
    boot_id: String,
    argv: Vec<String>,
    ended: Option<String>,
}

impl Record {
    fn tree(&self) -> Vec<Stat> {
        if self.boot_id == boot_id() { procfs::tree(self.pid, self.start_ticks) } else { Vec::new() }
    }

    fn status(&self) -> ProcessStatus {
        let tree = self.tree();
        let state = match tree.as_slice() {
            [] => ProcessState::Gone,
            tree if tree.iter().all(|stat| procfs::is_stopped(stat.pid)) => ProcessState::Stopped,
            _ => ProcessState::Running,
        };
        ProcessStatus {
            name: self.name.clone(),
            pid: Some(self.pid),
            state,
            start_ticks: Some(self.start_ticks),
            ended: self.ended.clone(),
        }
    }
}

fn record_path(state: &State, name: &str) -> PathBuf {
    state.path("processes").join(format!("{name}.json"))
}

fn record(state: &State, name: &str) -> Result<Option<Record>, AgentError> {
    check_name(name)?;
    Ok(read_json(&record_path(state, name)))
}

/// Whether this process is still the one on record under `name`; also when nobody can tell.
pub(crate) fn is_on_record(state: &State, name: &str) -> bool {
    let path = record_path(state, name);
    match read_json::<Record>(&path) {
        Some(record) => record.pid == std::process::id(),
        None => !is_missing(&path),
    }
}

/// Processes that were seen on record, for when the records are gone.
#[derive(Default)]
pub(crate) struct Known(BTreeMap<String, Record>);

impl Known {
    /// Sees what is on record now; `false` when the folder of the records was removed. What lives stays known without its
    /// record: a folder is removed file by file.
    pub(crate) fn look(&mut self, state: &State) -> bool {
        if is_missing(&state.path("processes")) {
            return false;
        }
        let on_record: BTreeMap<String, Record> =
            names(state).into_iter().filter_map(|name| Some((name.clone(), record(state, &name).ok()??))).collect();
        self.0.retain(|name, record| on_record.contains_key(name) || !record.tree().is_empty());
        self.0.extend(on_record);
        true
    }

    /// Whether something of it runs.
    pub(crate) fn runs(&self) -> bool {
        self.0.values().any(|record| !record.tree().is_empty())
    }

    /// kill -9 of all that was seen last, helpers after those who use them; how many that were.
    pub(crate) fn kill(&self) -> u64 {
        let (helpers, others): (Vec<_>, Vec<_>) = self.0.values().partition(|known| helper::is_helper(&known.name));
        others.into_iter().chain(helpers).map(|record| kill_record(record).0).sum()
    }
}

/// Whether there is certainly nothing of that name.
fn is_missing(path: &Path) -> bool {
    fs::symlink_metadata(path).is_err_and(|error| error.kind() == std::io::ErrorKind::NotFound)
}

/// Names of all processes that were started and not forgotten.
pub(crate) fn names(state: &State) -> Vec<String> {
    let Ok(entries) = fs::read_dir(state.path("processes")) else { return Vec::new() };
    let name = |entry: fs::DirEntry| Some(entry.file_name().to_str()?.strip_suffix(".json")?.to_owned());
    entries.flatten().filter_map(name).collect()
}

/// What the process called `name` is doing.
///
/// # Errors
/// When `name` is no name.
pub(crate) fn status(state: &State, name: &str) -> Result<ProcessStatus, AgentError> {
    Ok(match record(state, name)? {
        Some(record) => record.status(),
        None => ProcessStatus {
            name: name.to_owned(),
            pid: None,
            state: ProcessState::Gone,
            start_ticks: None,
            ended: None,
        },
    })
}

/// The living processes of the tree called `name`.
pub(crate) fn tree(state: &State, name: &str) -> Vec<Stat> {
    record(state, name).ok().flatten().map_or_else(Vec::new, |record| record.tree())
}

/// Evidence of whether the process called `name` is in state `wanted`.
///
/// # Errors
/// When `name` is no name.
pub(crate) fn in_state(state: &State, name: &str, wanted: ProcessState, unit: &str) -> Result<Evidence, AgentError> {
    let now = status(state, name)?.state;
    let seen = format!("`{name}` is {}", format!("{now:?}").to_lowercase());
    Ok(Evidence::new(now == wanted, seen, u64::from(now == wanted), unit))
}

/// Starts a process, in the way that the faults in force want it. The caller holds the lock.
///
/// # Errors
/// When it cannot be started, ends at once, or another command runs under that name.
pub(crate) fn start(state: &State, spec: &StartProcess) -> Result<ProcessStatus, AgentError> {
    if let Some(old) = record(state, &spec.name)? {
        let status = old.status();
        if status.state != ProcessState::Gone {
            if old.argv == spec.argv {
                return Ok(status);
            }
            return Err(AgentError::new(format!("`{}` runs already, with another command: stop it first", spec.name)));
        }
    }
    let program = spec.argv.first().ok_or_else(|| AgentError::new("the command to start is empty"))?;
    let log = state.root.join(&spec.log);
    if let Some(parent) = log.parent() {
        fs::create_dir_all(parent).map_err(|e| AgentError::io("create", parent, e))?;
    }
    let output =
        OpenOptions::new().create(true).append(true).open(&log).map_err(|e| AgentError::io("open the log", &log, e))?;
    let error_output = output.try_clone().map_err(|e| AgentError::io("open the log", &log, e))?;
    let log_len = output.metadata().map_or(0, |m| m.len());
    let launch = fault::launch(state, &spec.name)?;
    let session = ["session".to_owned()];
    // Confined after what goes through others: only the program itself is.
    let confined = launch.confined.through(state);
    let whole = [state.myself.as_slice(), &session, &launch.through, &confined, &spec.argv].concat();
    let mut child = Command::new(&whole[0])
        .args(&whole[1..])
        .envs(&spec.env)
        .envs(&launch.env)
        .current_dir(state.root.join(&spec.cwd))
        .stdin(Stdio::piped())
        .stdout(output)
        .stderr(error_output)
        .spawn()
        .map_err(|e| AgentError::new(format!("cannot start {program} in {}: {e}", spec.cwd)))?;
    let tail = || {
        let mut text = String::new();
        let _ = fs::File::open(&log).and_then(|mut file| {
            file.seek(SeekFrom::Start(log_len))?;
            file.take(2000).read_to_string(&mut text)
        });
        text.trim().to_owned()
    };
    let start_ticks = Stat::of(child.id()).map_or(0, |stat| stat.start_ticks);
    let argv = spec.argv.clone();
    let record =
        Record { name: spec.name.clone(), pid: child.id(), start_ticks, boot_id: boot_id(), argv, ended: None };
    let path = record_path(state, &spec.name);
    // The whole tree: a launcher may have started others before it failed. While something of it lives, so does its record.
    let give_up = |child: &mut Child| {
        if kill_record(&record).1 == 0 {
            let _ = child.wait();
            let _ = fs::remove_file(&path);
        }
    };
    if let Err(error) = write_json(&path, &record, false) {
        give_up(&mut child);
        return Err(error);
    }
    // Only now may it go on: whoever comes after us, should we die here, finds it by its record.
    if let Some(mut leave) = child.stdin.take() {
        // One that is dead already is noticed by whoever waits for it.
        let _ = leave.write_all(b"\n");
    }
    if let Err(how) = await_exec(&mut child, &whole, &spec.argv) {
        give_up(&mut child);
        return Err(AgentError::new(format!("{program} {how} ({}): {}", log.display(), tail())));
    }
    let status = record.status();
    thread::spawn(move || collect(child, record, path));
    Ok(status)
}

/// Waits until the child, or a process that it started in its session, has become the program of `argv`; `whole` is the
/// command with what goes before the program.
fn await_exec(child: &mut Child, whole: &[String], argv: &[String]) -> Result<(), String> {
    let begun = Instant::now();
    let launcher = procfs::program("self");
    let is_there = |pid: u32| {
        let line = procfs::command_line(pid);
        // A script runs as its interpreter, which has words of its own before it, and a program may write what it likes over
        // its command line. But those are other programs than ours, and none that is still about to start the program.
        let is_launcher = line.len() > argv.len() && whole.ends_with(&line);
        let is_other = || procfs::program(pid).is_some_and(|program| Some(program) != launcher);
        line == argv || (!is_launcher && is_other())
    };
    loop {
        let look = Instant::now();
        let session = child.id();
        if is_there(session) || procfs::all().iter().any(|stat| stat.session == session && is_there(stat.pid)) {
            return Ok(());
        }
        if let Ok(Some(status)) = child.try_wait() {
            return Err(format!("ended at once with {}", describe(status)));
        }
        if begun.elapsed() > START_TIME_MAX {
            return Err("did not start in time".to_owned());
        }
        // Where a look at all processes takes long, looking must not be all that this machine does.
        thread::sleep(LOOK_AGAIN.max(look.elapsed() * 4));
    }
}

/// Collects the child when it ends and notes how it ended.
fn collect(mut child: Child, mut record: Record, path: PathBuf) {
    let Ok(status) = child.wait() else { return };
    record.ended = Some(describe(status));
    // Unless a successor has the name by now.
    if read_json::<Record>(&path).is_some_and(|now| now.pid == record.pid && now.start_ticks == record.start_ticks) {
        let _ = write_json(&path, &record, false);
    }
}

fn describe(status: ExitStatus) -> String {
    use std::os::unix::process::ExitStatusExt;
    match (status.code(), status.signal()) {
        (Some(code), _) => format!("exit code {code}"),
        (_, Some(signal)) => format!("signal {signal}"),
        _ => "an unknown status".to_owned(),
    }
}

/// Becomes the leader of a new session, then, when stdin gives leave, the program of `argv`. Returns only when that fails.
pub(crate) fn become_session(argv: &[String]) -> anyhow::Error {
    use std::os::unix::process::CommandExt;
    if !matches!(std::io::stdin().read(&mut [0]), Ok(1)) {
        return anyhow::anyhow!("whoever started this ended before it was on record");
    }
    if let Err(errno) = nix::unistd::setsid() {
        return anyhow::anyhow!("cannot start a session: {errno}");
    }
    match argv.split_first() {
        Some((program, arguments)) => {
            let error = Command::new(program).args(arguments).stdin(Stdio::null()).exec();
            anyhow::Error::new(error).context(format!("cannot run {program}"))
        }
        None => anyhow::anyhow!("there is no command to run"),
    }
}

/// Stops a process: first `signal`, after `grace_ms` kill -9 of what is left of its tree. The caller holds the lock.
///
/// # Errors
/// When something of it cannot be killed.
pub(crate) fn stop(state: &State, name: &str, signal: i32, grace_ms: u64) -> Result<ProcessStatus, AgentError> {
    let signal = Signal::try_from(signal).map_err(|_| AgentError::new(format!("there is no signal {signal}")))?;
    let Some(record) = record(state, name)? else { return status(state, name) };
    let tree = record.tree();
    signal_all(&tree, signal);
    // A stopped process would never see it.
    signal_all(&tree, Signal::SIGCONT);
    let deadline = Instant::now() + Duration::from_millis(grace_ms);
    while Instant::now() < deadline && !record.tree().is_empty() {
        thread::sleep(LOOK_AGAIN);
    }
    kill_tree(state, name)?;
    status(state, name)
}

/// SIGTERM to the whole tree of the process called `name`, and signal 9 for what is left after `grace_ms`; how many
/// processes it took, and how many of them had to be killed.
///
/// # Errors
/// When something of it does not die.
pub(crate) fn terminate(state: &State, name: &str, grace_ms: u64) -> Result<(u64, u64), AgentError> {
    let Some(record) = record(state, name)? else { return Ok((0, 0)) };
    let tree = record.tree();
    signal_all(&tree, Signal::SIGTERM);
    // A stopped process would never see it.
    signal_all(&tree, Signal::SIGCONT);
    let deadline = Instant::now() + Duration::from_millis(grace_ms);
    while Instant::now() < deadline && !record.tree().is_empty() {
        thread::sleep(LOOK_AGAIN);
    }
    Ok((tree.len() as u64, kill_tree(state, name)?))
}

/// kill -9 of the whole tree of the process called `name`; how many processes it took.
///
/// # Errors
/// When something of it does not die.
pub(crate) fn kill_tree(state: &State, name: &str) -> Result<u64, AgentError> {
    let Some(record) = record(state, name)? else { return Ok(0) };
    let (killed, left) = kill_record(&record);
    if left > 0 {
        return Err(AgentError::new(format!("{left} processes of `{name}` do not die of signal 9")));
    }
    Ok(killed)
}

/// How many were killed, how many are left.
fn kill_record(record: &Record) -> (u64, usize) {
    let mut killed = BTreeSet::new();
    let deadline = Instant::now() + SIGNAL_TIME_MAX;
    loop {
        // Again and again: a process that forks while it is looked at leaves a child that is seen the next time.
        let tree = record.tree();
        if tree.is_empty() || Instant::now() > deadline {
            return (killed.len() as u64, tree.len());
        }
        signal_all(&tree, Signal::SIGKILL);
        killed.extend(tree.iter().map(|stat| stat.pid));
        thread::sleep(LOOK_AGAIN);
    }
}

/// SIGSTOP to the whole tree of the process called `name`; how many processes are stopped.
///
/// # Errors
/// When something of it does not stop.
pub(crate) fn pause_tree(state: &State, name: &str) -> Result<u64, AgentError> {
    each_until(state, name, Signal::SIGSTOP, |stat| procfs::is_stopped(stat.pid))
        .map_err(|left| AgentError::new(format!("{left} processes of `{name}` do not stop")))
}

/// SIGCONT to the whole tree of the process called `name`; how many processes go on.
///
/// # Errors
/// When something of it stays stopped.
pub(crate) fn resume_tree(state: &State, name: &str) -> Result<u64, AgentError> {
    each_until(state, name, Signal::SIGCONT, |stat| !procfs::is_stopped(stat.pid))
        .map_err(|left| AgentError::new(format!("{left} processes of `{name}` stay stopped")))
}

fn each_until(state: &State, name: &str, signal: Signal, done: impl Fn(&Stat) -> bool) -> Result<u64, usize> {
    let Ok(Some(record)) = record(state, name) else { return Ok(0) };
    let deadline = Instant::now() + SIGNAL_TIME_MAX;
    // Each gets the signal once at least: a traced process may look stopped for a moment without being it.
    let mut signalled = BTreeSet::new();
    loop {
        let tree = record.tree();
        let left: Vec<Stat> = tree.iter().filter(|stat| signalled.insert(stat.pid) || !done(stat)).copied().collect();
        if left.is_empty() {
            return Ok(tree.len() as u64);
        }
        if Instant::now() > deadline {
            return Err(left.len());
        }
        signal_all(&left, signal);
        if signal == Signal::SIGSTOP {
            release_vforked(&tree);
        }
        thread::sleep(LOOK_AGAIN);
    }
}

/// A process that has called vfork(2) cannot stop before its child has become another program, and a child that was
/// stopped before that never does: it may go on, and is stopped again the next time.
fn release_vforked(tree: &[Stat]) {
    let waits = |pid| Stat::of(pid).is_some_and(|now| now.state == 'D');
    let children = tree.iter().filter(|child| procfs::is_stopped(child.pid) && waits(child.ppid)).copied();
    signal_all(&children.collect::<Vec<_>>(), Signal::SIGCONT);
}

/// Signals each process, if it is still the one that was looked at.
fn signal_all(tree: &[Stat], signal: Signal) {
    for stat in tree {
        if Stat::of(stat.pid).is_some_and(|now| now.start_ticks == stat.start_ticks) {
            // It may have ended in this moment, which is fine; what refuses is noticed by whoever waits.
            let _ = kill(Pid::from_raw(stat.pid as i32), signal);
        }
    }
}

//! The agent's side of a node's disks.

use super::daemon::{Ask, Said, socket};
use crate::disk::Directories;
use crate::linux::helper;
use crate::linux::process;
use crate::linux::state::State;
use crate::protocol::{AgentError, ProcessState};
use nix::mount::{MntFlags, umount2};
use std::fs::{self, File};
use std::io::{BufRead, BufReader, Write};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The kind of helper that serves a disk.
pub(crate) const HELPER: &str = "disk";

/// How long an answer may take: a power cut unmounts, and carries out what survives.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(60);

/// The disk over `dir`, as part of a name.
fn instance(dir: &str) -> String {
    dir.chars().map(|c| if c.is_ascii_alphanumeric() || c == '_' { c } else { '-' }).collect()
}

/// Where the agent keeps what belongs to the disk over `dir`: never below the mounted directory.
pub(super) fn folder(state: &State, dir: &str) -> PathBuf {
    state.path("disk").join(instance(dir))
}

/// Whether the disk over `dir` is served.
pub(crate) fn is_mounted(state: &State, dir: &str) -> bool {
    let process = helper::process_name(HELPER, &instance(dir));
    process::status(state, &process).is_ok_and(|status| status.state != ProcessState::Gone)
}

/// Mounts a disk over the directory `dir` (below the root), unless that has been done. The caller holds the lock.
///
/// # Errors
/// When it cannot be mounted: the sentence says what to do.
pub(crate) fn start(state: &State, dir: &str, directories: Option<Directories>) -> Result<(), AgentError> {
    if !is_mounted(state, dir) {
        unmount_dead(&state.root.join(dir));
    }
    helper::start(state, HELPER, &instance(dir), &[dir.to_owned()])?;
    match directories {
        Some(directories) => ask(state, dir, &Ask::Directories { directories }).map(|_| ()),
        None => Ok(()),
    }
}

/// Asks the disk over `dir`.
///
/// # Errors
/// When there is none, it does not answer, or it could not do it.
pub(crate) fn ask(state: &State, dir: &str, ask: &Ask) -> Result<Said, AgentError> {
    let converse = || -> std::io::Result<Said> {
        let folder = File::open(folder(state, dir))?;
        let mut stream = UnixStream::connect(socket(&folder))?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        stream.write_all(format!("{}\n", serde_json::to_string(ask)?).as_bytes())?;
        let mut line = String::new();
        BufReader::new(stream).read_line(&mut line)?;
        Ok(serde_json::from_str(&line)?)
    };
    match converse() {
        Ok(Said::Failed(why)) => Err(AgentError::new(format!("the disk over {dir} could not do it: {why}"))),
        Ok(said) => Ok(said),
        Err(error) => Err(AgentError::new(format!("the disk over {dir} does not answer: {error}"))),
    }
}

/// Ends the disk over `dir`, in peace if it can be: what it holds becomes durable. When it does not answer it is killed:
/// then the kernel aborts the connection, and nothing hangs. The caller holds the lock.
///
/// # Errors
/// When it does not die.
pub(crate) fn end(state: &State, dir: &str) -> Result<(), AgentError> {
    if is_mounted(state, dir) {
        // What went wrong is of no interest to somebody who ends it.
        let _ = ask(state, dir, &Ask::End);
    }
    helper::stop(state, HELPER, &instance(dir))?;
    unmount_dead(&state.root.join(dir));
    Ok(())
}

/// Takes away what a killed disk has left mounted: a path that answers ENOTCONN to everything.
fn unmount_dead(mountpoint: &Path) {
    let dead = || matches!(fs::metadata(mountpoint), Err(e) if e.raw_os_error() == Some(nix::libc::ENOTCONN));
    while dead() && umount2(mountpoint, MntFlags::MNT_DETACH).is_ok() {}
}

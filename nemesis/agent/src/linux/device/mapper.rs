//! The kernel's device mapper, by dmsetup(8), and what else it takes to make devices and file systems.

use crate::protocol::AgentError;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// Sectors of device mapper (bytes), whatever the disk's own are.
pub(super) const SECTOR: u64 = 512;

/// Where a device of ours is shown.
pub(super) fn path(name: &str) -> PathBuf {
    Path::new("/dev/mapper").join(name)
}

/// Whether there is one of this name.
pub(super) fn exists(name: &str) -> bool {
    path(name).exists()
}

/// Makes a device, unless there is one of this name.
///
/// # Errors
/// When device mapper refuses.
pub(super) fn create(name: &str, table: &str) -> Result<(), AgentError> {
    if exists(name) {
        return Ok(());
    }
    run("dmsetup", &["create", name, "--table", table]).map(|_| ())
}

/// Takes a device away, if there is one of this name.
///
/// # Errors
/// When somebody uses it.
pub(super) fn remove(name: &str) -> Result<(), AgentError> {
    if !exists(name) {
        return Ok(());
    }
    run("dmsetup", &["remove", "--retry", name]).map(|_| ())
}

/// Gives a device that is in use another table.
///
/// # Errors
/// When device mapper refuses.
pub(super) fn change(name: &str, table: &str) -> Result<(), AgentError> {
    // Not frozen before: a file system whose device fails would never be.
    run("dmsetup", &["suspend", "--nolockfs", "--noflush", name])?;
    let loaded = run("dmsetup", &["load", name, "--table", table]);
    let resumed = run("dmsetup", &["resume", name]);
    loaded.and(resumed).map(|_| ())
}

/// How long a device is (sectors).
///
/// # Errors
/// When it cannot be opened.
pub(super) fn sectors(device: &str) -> Result<u64, AgentError> {
    let printed = run("blockdev", &["--getsz", device])?;
    let printed = printed.trim();
    printed.parse().map_err(|_| AgentError::new(format!("`blockdev --getsz {device}` said `{printed}`")))
}

/// Runs a program of the machine's.
///
/// # Errors
/// When it cannot be started.
pub(super) fn command(program: &str, arguments: &[&str]) -> Result<std::process::Output, AgentError> {
    // Debian keeps them out of an ordinary user's path.
    let path = std::env::var("PATH").unwrap_or_default();
    let mut command = Command::new(program);
    command.args(arguments).env("PATH", format!("{path}:/usr/sbin:/sbin")).env("LC_ALL", "C").stdin(Stdio::null());
    command.output().map_err(|e| {
        AgentError::new(format!(
            "cannot use {program}: {e} (Debian and Ubuntu packages `dmsetup`, `e2fsprogs`, `mount`)"
        ))
    })
}

/// Runs a program of the machine's, and gives what it prints.
///
/// # Errors
/// With the first line of its complaint.
pub(super) fn run(program: &str, arguments: &[&str]) -> Result<String, AgentError> {
    let output = command(program, arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let why = complaint.lines().next().unwrap_or("no reason given");
    Err(AgentError::new(format!("`{program} {}` failed: {why}", arguments.join(" "))))
}

//! A device of our own over a disk of the machine, by the kernel's device mapper: what it does is a table that can be changed
//! while it is in use. There is one on a machine, with an ext4 file system on it.
//!
//! Only an empty disk, or one that was ours before, is ever written to. That it was made in this session is on record, so that
//! after a boot its data are what the power cut has left, not a new file system.

use super::state::{State, read_json, write_json};
use crate::protocol::AgentError;
use nix::libc;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// The device's name, and the label of its file system.
const NAME: &str = "squall-data";

/// Where device mapper shows it.
const MAPPED: &str = "/dev/mapper/squall-data";

/// What blkid(8) says of an empty device by its exit code.
const NOTHING_FOUND: i32 = 2;

/// What is read to see how the device is (bytes): aligned, past the page cache.
const BLOCK: usize = 4096;

/// How often a file system that is just being left is tried to be unmounted.
const UNMOUNTS_MAX: u32 = 50;

/// What the device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Table {
    /// What the disk does.
    Whole,
    /// The same, later (milliseconds).
    Slow { ms: u64 },
    /// EIO.
    Broken,
}

/// What was made, on record until it is taken away.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    dir: String,
    device: String,
}

fn record(state: &State) -> PathBuf {
    state.path("device.json")
}

/// Puts `dir` on `device`: a new file system, or after a boot in the same session what is left of it.
///
/// # Errors
/// When there is no such device, it is not ours to use, or a program is missing that it takes.
pub(crate) fn attach(state: &State, dir: &str, device: &str) -> Result<(), AgentError> {
    if is_mounted(state, dir)? {
        return Ok(());
    }
    if !Path::new(device).exists() {
        let what = format!(
            "there is no {device}: name an empty disk of the node with `device` (Vagrant: `data_disk` makes one)"
        );
        return Err(AgentError::new(what));
    }
    let mounted_on = state.root.join(dir);
    fs::create_dir_all(&mounted_on).map_err(|e| AgentError::io("create", &mounted_on, e))?;
    let made: Option<Made> = read_json(&record(state));
    let is_made = made.is_some_and(|made| made.dir == dir && made.device == device);
    if !is_made {
        check_empty(device, &mounted_on)?;
    }
    if !exists() {
        run("dmsetup", &["create", NAME, "--table", &table(device, Table::Whole)?])?;
    }
    if is_made {
        check_file_system();
    } else {
        run("mkfs.ext4", &["-q", "-F", "-L", NAME, MAPPED])?;
        write_json(&record(state), &Made { dir: dir.to_owned(), device: device.to_owned() }, true)?;
    }
    mount(&mounted_on)
}

/// Nothing of anybody's is on the device or in the directory.
fn check_empty(device: &str, dir: &Path) -> Result<(), AgentError> {
    if fs::read_dir(dir).is_ok_and(|mut entries| entries.next().is_some()) {
        return Err(AgentError::new(format!("{} is not empty: it cannot be put on a device", dir.display())));
    }
    let found = command("blkid", &["-p", "-o", "value", "-s", "LABEL", device])?;
    let label = String::from_utf8_lossy(&found.stdout).trim().to_owned();
    if found.status.code() == Some(NOTHING_FOUND) || label == NAME {
        return Ok(());
    }
    Err(AgentError::new(format!("{device} is not empty: `wipefs --all {device}` if what is on it may go")))
}

/// Takes the device away from `dir`; what was on it is of no more use.
///
/// # Errors
/// When somebody still uses it.
pub(crate) fn detach(state: &State, dir: &str) -> Result<(), AgentError> {
    if exists() && record(state).exists() {
        set(state, Table::Whole)?;
    }
    unmount(state, dir)?;
    if exists() {
        run("dmsetup", &["remove", "--retry", NAME])?;
    }
    match fs::remove_file(record(state)) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(AgentError::io("remove", &record(state), e)),
        _ => Ok(()),
    }
}

/// Checks and mounts the file system again, after its device failed. Nobody uses it.
///
/// # Errors
/// When it cannot be mounted.
pub(crate) fn mount_anew(state: &State, dir: &str) -> Result<(), AgentError> {
    unmount(state, dir)?;
    check_file_system();
    mount(&state.root.join(dir))
}

fn check_file_system() {
    // Exit codes tell what was mended; what it could not mend, mount refuses.
    let _ = command("e2fsck", &["-p", MAPPED]);
}

fn mount(on: &Path) -> Result<(), AgentError> {
    run("mount", &["-t", "ext4", MAPPED, &on.display().to_string()]).map(|_| ())
}

fn unmount(state: &State, dir: &str) -> Result<(), AgentError> {
    let on = state.root.join(dir).display().to_string();
    for turn in 1.. {
        if !is_mounted(state, dir)? {
            break;
        }
        match run("umount", &[&on]) {
            Err(error) if turn == UNMOUNTS_MAX => return Err(error),
            Err(_) => std::thread::sleep(Duration::from_millis(100)),
            Ok(_) => {}
        }
    }
    Ok(())
}

/// Whether the device is mounted over `dir` (proc(5), mountinfo: the fifth field is the mount point, the source comes second
/// after the dash).
///
/// # Errors
/// When the kernel does not list its mounts.
pub(crate) fn is_mounted(state: &State, dir: &str) -> Result<bool, AgentError> {
    let path = Path::new("/proc/self/mountinfo");
    let mounts = fs::read_to_string(path).map_err(|e| AgentError::io("read", path, e))?;
    let on = state.root.join(dir).display().to_string();
    Ok(mounts.lines().any(|line| {
        let (mount, source) = line.split_once(" - ").unwrap_or((line, ""));
        mount.split(' ').nth(4) == Some(on.as_str()) && source.split(' ').nth(1) == Some(MAPPED)
    }))
}

/// Whether there is the device.
pub(crate) fn exists() -> bool {
    Path::new(MAPPED).exists()
}

/// Changes what the device does, under whoever uses it.
///
/// # Errors
/// When device mapper refuses.
pub(crate) fn set(state: &State, wanted: Table) -> Result<(), AgentError> {
    let made: Option<Made> = read_json(&record(state));
    let Some(Made { device, .. }) = made else {
        return Err(AgentError::new("no device of this session is on record"));
    };
    let table = table(&device, wanted)?;
    // Not frozen before: a file system whose device fails would never be.
    run("dmsetup", &["suspend", "--nolockfs", "--noflush", NAME])?;
    let loaded = run("dmsetup", &["load", NAME, "--table", &table]);
    let resumed = run("dmsetup", &["resume", NAME]);
    loaded.and(resumed).map(|_| ())
}

/// The table of a device that takes all of `device` (Linux, admin-guide/device-mapper).
fn table(device: &str, wanted: Table) -> Result<String, AgentError> {
    let sectors = run("blockdev", &["--getsz", device])?;
    let sectors = sectors.trim();
    Ok(match wanted {
        Table::Whole => format!("0 {sectors} linear {device} 0"),
        Table::Slow { ms } => format!("0 {sectors} delay {device} 0 {ms}"),
        Table::Broken => format!("0 {sectors} error"),
    })
}

/// Reads the first block past all caches: how long that took, and whether it could be read.
pub(crate) fn read_directly() -> (Duration, std::io::Result<()>) {
    let begun = Instant::now();
    let read = || -> std::io::Result<()> {
        let file: File = OpenOptions::new().read(true).custom_flags(libc::O_DIRECT).open(MAPPED)?;
        // O_DIRECT wants an aligned buffer: somewhere in two blocks there is one.
        let mut buffer = vec![0; 2 * BLOCK];
        let aligned = buffer.as_ptr().align_offset(BLOCK);
        file.read_exact_at(&mut buffer[aligned..aligned + BLOCK], 0)
    };
    let read = read();
    (begun.elapsed(), read)
}

fn command(program: &str, arguments: &[&str]) -> Result<std::process::Output, AgentError> {
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

fn run(program: &str, arguments: &[&str]) -> Result<String, AgentError> {
    let output = command(program, arguments)?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    let why = complaint.lines().next().unwrap_or("no reason given");
    Err(AgentError::new(format!("`{program} {}` failed: {why}", arguments.join(" "))))
}

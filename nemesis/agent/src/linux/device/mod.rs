//! A device of our own over a disk of the machine, by the kernel's device mapper: what it does is a table that can be changed
//! while it is in use. There is one on a machine, with an ext4 file system on it.
//!
//! ```text
//! squall-data                what the file system is on: linear, delay, flakey or error
//!   └ the disk               without a log
//!   └ squall-logged          with one: dm-log-writes, every write and flush of
//!       ├ squall-low         a first part of the disk, in the order of its completion on
//!       └ squall-log         the rest of it
//! ```
//!
//! Only an empty disk, or one that was ours before, is ever written to. That it was made in this session is on record, so that
//! after a boot its data are what the power cut has left, not a new file system.

mod cut;
mod log;
mod mapper;

pub(crate) use cut::Cut;

use super::state::{State, read_json, write_json};
use crate::disk::Lose;
use crate::protocol::AgentError;
use mapper::{SECTOR, command, run};
use nix::libc;
use serde::{Deserialize, Serialize};
use std::fs::{self, File, OpenOptions};
use std::io;
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// The device's name, and the label of its file system.
const NAME: &str = "squall-data";

/// Where device mapper shows it.
const MAPPED: &str = "/dev/mapper/squall-data";

/// What is below it when there is a log.
const LOGGED: &str = "squall-logged";
const LOW: &str = "squall-low";
const LOG: &str = "squall-log";

/// With a log, the data get half of the disk, and at most this (sectors, 512 MiB): what was written is copied for a cut.
const LOW_MAX: u64 = 1 << 20;

/// Parts of a disk begin at multiples of this (sectors, 1 MiB).
const ALIGNMENT: u64 = 2048;

/// The end of the device is not the file system's: there we try whether it keeps what is written (sectors, 1 MiB).
const RESERVED: u64 = 2048;

/// What blkid(8) says of an empty device by its exit code.
const NOTHING_FOUND: i32 = 2;

/// What is read and written to see how the device is (bytes): aligned, past the page cache.
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
    /// By turns what the disk does, and EIO (seconds).
    Flaky { up_s: u32, down_s: u32 },
    /// Writes are done, it says, and never are.
    Forgetful,
    /// EIO.
    Broken,
}

/// What was made, on record until it is taken away.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    dir: String,
    device: String,
    /// Whether there is a log.
    #[serde(default)]
    logged: bool,
}

fn record(state: &State) -> PathBuf {
    state.path("device.json")
}

fn made(state: &State) -> Result<Made, AgentError> {
    let made: Option<Made> = read_json(&record(state));
    made.ok_or_else(|| AgentError::new("no device of this session is on record"))
}

/// See [`cut`].
fn base(state: &State) -> PathBuf {
    state.path("device.base")
}

/// Puts `dir` on `device`: a new file system, or after a boot in the same session what is left of it. `logged` when its power is
/// going to be cut.
///
/// # Errors
/// When there is no such device, it is not ours to use, or a program is missing that it takes.
pub(crate) fn attach(state: &State, dir: &str, device: &str, logged: bool) -> Result<(), AgentError> {
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
    let earlier: Option<Made> = read_json(&record(state));
    let made = Made { dir: dir.to_owned(), device: device.to_owned(), logged };
    let is_made = earlier.is_some_and(|earlier| earlier.dir == made.dir && earlier.device == made.device);
    if !is_made {
        check_empty(device, &mounted_on)?;
    }
    if !exists() {
        // After a boot the log is not all that was written.
        begin_log(state, &made, is_made)?;
        mapper::create(NAME, &table(&made, Table::Whole)?)?;
    }
    if is_made {
        check_file_system();
    } else {
        // Blocks of 1 KiB. What is discarded would not be in a log.
        let size = format!("{}k", (mapper::sectors(MAPPED)?.saturating_sub(RESERVED)) / 2);
        run("mkfs.ext4", &["-q", "-F", "-E", "nodiscard", "-L", NAME, MAPPED, &size])?;
        write_json(&record(state), &made, true)?;
    }
    mount(&mounted_on)
}

/// Makes what is below the device, with a log that begins now; `anew` when nobody knows what is on the disk.
fn begin_log(state: &State, made: &Made, anew: bool) -> Result<(), AgentError> {
    if !made.logged {
        return Ok(());
    }
    let all = mapper::sectors(&made.device)?;
    let low = (all / 2).min(LOW_MAX) / ALIGNMENT * ALIGNMENT;
    if low <= 4 * RESERVED {
        let what =
            format!("{} is too small for data and a log of what is written: it takes 64 MiB at least", made.device);
        return Err(AgentError::new(what));
    }
    mapper::create(LOW, &format!("0 {low} linear {} 0", made.device))?;
    mapper::create(LOG, &format!("0 {} linear {} {low}", all - low, made.device))?;
    let base = base(state);
    let prepare = || -> io::Result<()> {
        if anew {
            cut::take(&base, &mapper::path(LOW))?;
        } else if !base.exists() {
            File::create(&base)?.set_len(low * SECTOR)?;
        }
        cut::end(&OpenOptions::new().write(true).open(mapper::path(LOG))?)
    };
    prepare().map_err(|e| AgentError::io("prepare the log of", Path::new(&made.device), e))?;
    let logged = format!("0 {low} log-writes {} {}", mapper::path(LOW).display(), mapper::path(LOG).display());
    mapper::create(LOGGED, &logged)
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
    [NAME, LOGGED, LOG, LOW].into_iter().try_for_each(mapper::remove)?;
    for file in [base(state), record(state)] {
        match fs::remove_file(&file) {
            Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(AgentError::io("remove", &file, e)),
            _ => {}
        }
    }
    Ok(())
}

/// Cuts the power of the device, whose user is dead: nothing more is written, and of what was not flushed `lose` says how
/// much is lost. It can be done again when it failed.
///
/// # Errors
/// When there is no log, or something cannot be read or written.
pub(crate) fn lose_power(state: &State, lose: Lose, seed: u64) -> Result<Cut, AgentError> {
    let made = made(state)?;
    if !made.logged {
        return Err(AgentError::new(format!("there is no log of what was written to {}", made.device)));
    }
    unmount(state, &made.dir)?;
    // The kernel puts what is not flushed into the log when its device goes.
    mapper::remove(NAME)?;
    mapper::remove(LOGGED)?;
    cut::rebuild(&mapper::path(LOG), &base(state), &mapper::path(LOW), lose, seed)
        .map_err(|e| AgentError::io("cut the power of", Path::new(&made.device), e))
}

/// Gives the device its power again, and mounts the file system.
///
/// # Errors
/// When it cannot be mounted.
pub(crate) fn power_up(state: &State) -> Result<(), AgentError> {
    let made = made(state)?;
    if is_mounted(state, &made.dir)? {
        return Ok(());
    }
    begin_log(state, &made, false)?;
    mapper::create(NAME, &table(&made, Table::Whole)?)?;
    check_file_system();
    mount(&state.root.join(&made.dir))
}

/// Checks and mounts the file system again, after its device failed. Nobody uses it, and the device is what it was.
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

/// Nothing is mounted over `dir` any more.
///
/// # Errors
/// When somebody still uses it.
pub(crate) fn unmount(state: &State, dir: &str) -> Result<(), AgentError> {
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
    mapper::exists(NAME)
}

/// Whether the device does what the disk does.
///
/// # Errors
/// When device mapper does not say.
pub(crate) fn is_whole() -> Result<bool, AgentError> {
    Ok(exists() && run("dmsetup", &["table", NAME])?.contains(" linear "))
}

/// Changes what the device does, under whoever uses it.
///
/// # Errors
/// When device mapper refuses.
pub(crate) fn set(state: &State, wanted: Table) -> Result<(), AgentError> {
    mapper::change(NAME, &table(&made(state)?, wanted)?)
}

/// The table of the device (Linux, admin-guide/device-mapper).
fn table(made: &Made, wanted: Table) -> Result<String, AgentError> {
    let below = if made.logged { mapper::path(LOGGED).display().to_string() } else { made.device.clone() };
    let sectors = mapper::sectors(&below)?;
    Ok(match wanted {
        Table::Whole => format!("0 {sectors} linear {below} 0"),
        Table::Slow { ms } => format!("0 {sectors} delay {below} 0 {ms}"),
        Table::Flaky { up_s, down_s } => format!("0 {sectors} flakey {below} 0 {up_s} {down_s}"),
        // Down from the first second on.
        Table::Forgetful => format!("0 {sectors} flakey {below} 0 0 1 1 drop_writes"),
        Table::Broken => format!("0 {sectors} error"),
    })
}

/// Reads the first block past all caches: how long that took, and whether it could be read.
pub(crate) fn read_directly() -> (Duration, io::Result<()>) {
    let begun = Instant::now();
    let read = open_directly().and_then(|file| file.read_exact_at(Aligned::default().bytes(), 0));
    (begun.elapsed(), read)
}

/// Writes a block past all caches where no file system is, and reads it: whether it is what was written.
///
/// # Errors
/// When it can be neither written nor read.
pub(crate) fn keeps_writes() -> io::Result<bool> {
    let file = open_directly()?;
    let at = cut::size(&file)? / BLOCK as u64 * BLOCK as u64 - BLOCK as u64;
    let (mut written, mut read) = (Aligned::default(), Aligned::default());
    written.bytes().iter_mut().for_each(|byte| *byte = rand::random());
    file.write_all_at(written.bytes(), at)?;
    file.read_exact_at(read.bytes(), at)?;
    Ok(read.bytes() == written.bytes())
}

fn open_directly() -> io::Result<File> {
    OpenOptions::new().read(true).write(true).custom_flags(libc::O_DIRECT).open(MAPPED)
}

/// O_DIRECT wants an aligned buffer: somewhere in two blocks there is one.
struct Aligned(Vec<u8>);

impl Default for Aligned {
    fn default() -> Self {
        Self(vec![0; 2 * BLOCK])
    }
}

impl Aligned {
    fn bytes(&mut self) -> &mut [u8] {
        let from = self.0.as_ptr().align_offset(BLOCK);
        &mut self.0[from..from + BLOCK]
    }
}

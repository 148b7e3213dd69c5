//! A disk with its rules, and the power that may be cut.

use super::rules::{Hits, Rules};
use super::volume::Volume;
use crate::disk::{Lose, Lost};
use nix::errno::Errno;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock, RwLockReadGuard};
use std::thread;
use std::time::{Duration, Instant};

/// How often a waiting operation looks whether it may go on.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// See the module.
#[derive(Debug)]
pub(super) struct Disk {
    pub(super) volume: Volume,
    pub(super) rules: Rules,
    /// How often the power was cut: an operation from before is refused. Held for reading by every operation.
    cuts: RwLock<u64>,
    /// The power is about to be cut: what is synced from now on does not end before.
    held: AtomicBool,
    /// Held by whoever looks for room and then takes it, while the disk may get full.
    pub(super) filling: Mutex<()>,
}

impl Disk {
    pub(super) fn new(volume: Volume) -> Self {
        Self {
            volume,
            rules: Rules::default(),
            cuts: RwLock::new(0),
            held: AtomicBool::new(false),
            filling: Mutex::default(),
        }
    }

    /// How often the power was cut.
    pub(super) fn cuts(&self) -> u64 {
        *self.cuts.read().unwrap_or_else(PoisonError::into_inner)
    }

    /// To be held while something is done that began after `cuts` power cuts.
    ///
    /// # Errors
    /// EIO when the power was cut since.
    pub(super) fn enter(&self, cuts: u64) -> Result<RwLockReadGuard<'_, u64>, Errno> {
        let now = self.cuts.read().unwrap_or_else(PoisonError::into_inner);
        if *now == cuts { Ok(now) } else { Err(Errno::EIO) }
    }

    /// From now on nothing that is synced becomes durable, or is acknowledged: whoever syncs waits for the cut. So that
    /// a cut hits what is on its way to the disk, for it would be a matter of luck to hit the microseconds between a
    /// write and its fsync.
    pub(super) fn hold(&self, hold: bool) {
        self.held.store(hold, Ordering::SeqCst);
    }

    pub(super) fn is_held(&self) -> bool {
        self.held.load(Ordering::SeqCst)
    }

    /// Waits until an operation of process `pid` may go on that is hit by `hits`.
    ///
    /// # Errors
    /// EINTR when the process is being killed, EIO when the power was cut.
    pub(super) fn wait(&self, pid: u32, hits: &Hits, syncs: bool, cuts: u64) -> Result<(), Errno> {
        let until = Instant::now() + hits.delay();
        while Instant::now() < until || self.rules.hangs(hits) || (syncs && self.is_held()) {
            let left = until.saturating_duration_since(Instant::now());
            thread::sleep(if left.is_zero() { LOOK_AGAIN } else { left.min(LOOK_AGAIN) });
            if is_being_killed(pid) {
                return Err(Errno::EINTR);
            }
            if self.cuts() != cuts {
                return Err(Errno::EIO);
            }
        }
        Ok(())
    }

    /// Cuts the power: see [`Volume::cut`]. Everything that still uses what was mounted gets EIO from now on.
    ///
    /// # Errors
    /// What the file system below says.
    pub(super) fn cut(&self, lose: Lose, seed: u64) -> Result<Lost, Errno> {
        let mut cuts = self.cuts.write().unwrap_or_else(PoisonError::into_inner);
        *cuts += 1;
        self.hold(false);
        self.volume.cut(lose, seed)
    }
}

/// Whether the thread `pid` is gone or about to be: the kernel lets it go only after its request was answered, so one
/// that hangs must be let go for it to die. The kernel's own requests are nobody's (0).
fn is_being_killed(pid: u32) -> bool {
    const SIGKILL_BIT: u64 = 1 << 8;
    if pid == 0 {
        return false;
    }
    let Ok(status) = std::fs::read_to_string(format!("/proc/{pid}/status")) else { return true };
    let pending = status.lines().filter_map(|line| line.strip_prefix("SigPnd:").or(line.strip_prefix("ShdPnd:")));
    pending.filter_map(|mask| u64::from_str_radix(mask.trim(), 16).ok()).any(|mask| mask & SIGKILL_BIT != 0)
}

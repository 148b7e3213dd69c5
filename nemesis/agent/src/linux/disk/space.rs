//! A disk that gets full.

use super::power::Disk;
use super::rules::Hits;
use super::tree::Ino;
use nix::errno::Errno;

/// The unit in which files take room (bytes).
pub(super) const BLOCK: u64 = 4096;

impl Disk {
    /// What everything on the disk takes (bytes).
    pub(super) fn used(&self) -> Result<u64, Errno> {
        self.volume.tree().used(BLOCK)
    }

    /// Where a change of the file `ino` that would end at `end` has to end for want of room, not before `from`.
    ///
    /// # Errors
    /// ENOSPC when not even a byte of it has room.
    pub(super) fn room_for(&self, hits: &Hits, ino: Ino, from: u64, end: u64) -> Result<u64, Errno> {
        let Some(capacity) = hits.capacity() else { return Ok(end) };
        let len = self.volume.file(ino)?.state().data.len();
        if end <= len {
            return Ok(end);
        }
        let free = capacity.saturating_sub(self.used()?) / BLOCK * BLOCK;
        let end_max = len.next_multiple_of(BLOCK).saturating_add(free);
        if end <= end_max {
            return Ok(end);
        }
        hits.count_full();
        if end_max > from { Ok(end_max) } else { Err(Errno::ENOSPC) }
    }

    /// Whether there is room for another directory.
    ///
    /// # Errors
    /// ENOSPC when there is none.
    pub(super) fn room_for_dir(&self, hits: &Hits) -> Result<(), Errno> {
        match hits.capacity() {
            Some(capacity) if self.used()?.saturating_add(BLOCK) > capacity => {
                hits.count_full();
                Err(Errno::ENOSPC)
            }
            _ => Ok(()),
        }
    }
}

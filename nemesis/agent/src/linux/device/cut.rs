//! What a power cut leaves on a disk that has a log of its writes: what was flushed, and of the rest as much as a disk may have
//! written by itself, in any order.
//!
//! A third copy, the base, holds what was durable when the log began, as far as it was written since the file system was
//! made. It tells what was there before a write that is lost.

use super::log::{self, Log, Written};
use crate::disk::Lose;
use crate::linux::disk::{Fate, fates};
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeSet;
use std::fs::{File, OpenOptions};
use std::io;
use std::os::unix::fs::FileExt;
use std::path::Path;

/// Copied at a time (bytes).
const CHUNK: usize = 1 << 20;

/// Blocks of zeros are holes in the base (bytes).
const HOLE: usize = 4096;

/// What a cut took.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Cut {
    /// Writes that were not durable.
    pub(crate) unflushed: u64,
    /// Those of them that are gone.
    pub(crate) lost: u64,
    /// Those of which some sectors are gone.
    pub(crate) torn: u64,
}

/// The writes, or pieces of them, that the disk has after a cut, in order.
fn survivors(log: &Log, lose: Lose, seed: u64) -> (Vec<Written>, Cut) {
    let is_durable = |n: usize, write: &Written| n < log.flushed || write.is_forced;
    let in_doubt: Vec<&Written> =
        log.writes.iter().enumerate().filter(|(n, write)| !is_durable(*n, write)).map(|(_, write)| write).collect();
    let counts: Vec<usize> = in_doubt.iter().map(|write| (write.len / log.sector) as usize).collect();
    let mut fates = fates(lose, &counts, &mut ChaCha8Rng::seed_from_u64(seed)).into_iter();
    let (mut left, mut cut) = (Vec::new(), Cut { unflushed: in_doubt.len() as u64, ..Cut::default() });
    for (n, write) in log.writes.iter().enumerate() {
        let fate = if is_durable(n, write) { Fate::Kept } else { fates.next().unwrap_or(Fate::Lost) };
        match fate {
            Fate::Kept => left.push(*write),
            Fate::Lost => cut.lost += 1,
            Fate::Torn(kept) => {
                cut.torn += 1;
                let sectors = (0..).step_by(log.sector as usize).zip(kept).filter(|(_, kept)| *kept);
                left.extend(sectors.map(|(from, _)| Written {
                    offset: write.offset + from,
                    len: log.sector,
                    data: write.data + from,
                    is_forced: write.is_forced,
                }));
            }
        }
    }
    (left, cut)
}

/// Gives `disk` the content that it has after a cut, and `base` the same, and ends the log. Done twice, it does nothing more.
///
/// # Errors
/// When one of them cannot be read or written; then it can be done again.
pub(super) fn rebuild(log_device: &Path, base: &Path, disk: &Path, lose: Lose, seed: u64) -> io::Result<Cut> {
    let open = |path: &Path| OpenOptions::new().read(true).write(true).open(path);
    let (log_device, base, disk) = (open(log_device)?, open(base)?, open(disk)?);
    let log = log::read(&log_device, size(&log_device)?)?;
    let (left, cut) = survivors(&log, lose, seed);
    for piece in &left {
        copy(&log_device, piece.data, &base, piece.offset, piece.len)?;
    }
    base.sync_all()?;
    // What is lost is what it was before.
    let places: BTreeSet<(u64, u64)> = log.writes.iter().map(|write| (write.offset, write.len)).collect();
    for (offset, len) in places {
        copy(&base, offset, &disk, offset, len)?;
    }
    disk.sync_all()?;
    end(&log_device)?;
    Ok(cut)
}

/// Makes the device of a log one without a log.
///
/// # Errors
/// When it cannot be written.
pub(super) fn end(log_device: &File) -> io::Result<()> {
    log_device.write_all_at(&[0; HOLE], 0)?;
    log_device.sync_all()
}

/// Makes `base` a copy of all of `disk`, zeros left out.
///
/// # Errors
/// When one of them cannot be read or written.
pub(super) fn take(base: &Path, disk: &Path) -> io::Result<()> {
    let disk = File::open(disk)?;
    let base = File::create(base)?;
    let len = size(&disk)?;
    base.set_len(len)?;
    let mut buffer = vec![0; CHUNK];
    let mut at = 0;
    while at < len {
        let piece = &mut buffer[..CHUNK.min((len - at) as usize)];
        disk.read_exact_at(piece, at)?;
        for (n, block) in piece.chunks(HOLE).enumerate().filter(|(_, block)| block.iter().any(|byte| *byte != 0)) {
            base.write_all_at(block, at + (n * HOLE) as u64)?;
        }
        at += piece.len() as u64;
    }
    base.sync_all()
}

/// Bytes of a file or a device.
pub(super) fn size(mut file: &File) -> io::Result<u64> {
    io::Seek::seek(&mut file, io::SeekFrom::End(0))
}

fn copy(from: &File, at: u64, to: &File, offset: u64, len: u64) -> io::Result<()> {
    let mut buffer = vec![0; CHUNK.min(len as usize)];
    let mut done = 0;
    while done < len {
        let piece = &mut buffer[..CHUNK.min((len - done) as usize)];
        from.read_exact_at(piece, at + done)?;
        to.write_all_at(piece, offset + done)?;
        done += piece.len() as u64;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECTOR: u64 = 512;

    fn write(place: u64, sectors: u64) -> Written {
        Written { offset: SECTOR * place, len: SECTOR * sectors, data: 0, is_forced: false }
    }

    /// As `survivors` sees it; data are where they are on the disk.
    fn log(writes: &[Written], flushed: usize) -> Log {
        let writes = writes.iter().map(|write| Written { data: write.offset, ..*write }).collect();
        Log { writes, flushed, sector: SECTOR }
    }

    #[test]
    fn what_was_flushed_or_forced_survives_every_cut() {
        let forced = Written { is_forced: true, ..write(9, 1) };
        let log = log(&[write(1, 1), write(2, 4), write(3, 1), forced], 2);
        for (_, lose, _) in Lose::ALL {
            for seed in 0..100 {
                let (left, cut) = survivors(&log, lose, seed);
                for durable in [log.writes[0], log.writes[1], log.writes[3]] {
                    assert!(left.contains(&durable), "{lose:?} {seed}");
                }
                assert_eq!(cut.unflushed, 1);
            }
        }
    }

    #[test]
    fn all_that_was_not_flushed_can_be_lost_and_parts_of_it() {
        let log = log(&[write(1, 1), write(2, 8), write(10, 8)], 1);
        let (left, cut) = survivors(&log, Lose::All, 0);
        assert_eq!((left.as_slice(), cut), (&log.writes[..1], Cut { unflushed: 2, lost: 2, torn: 0 }));
        let cuts: Vec<Cut> = (0..100).map(|seed| survivors(&log, Lose::Subset, seed).1).collect();
        assert!((0..=2).all(|lost| cuts.iter().any(|cut| cut.lost == lost)));
        let (left, cut) = survivors(&log, Lose::Torn, 0);
        let sectors: u64 = left.iter().map(|piece| piece.len / SECTOR).sum();
        assert_eq!(cut.torn, 1);
        assert!((2..17).contains(&sectors), "{left:?}");
    }

    /// A log on a file, as the kernel writes it.
    fn write_log(path: &Path, writes: &[(u64, u8)], flushed: usize) {
        let mut bytes = Vec::new();
        let mut block = |words: &[u64], fill: u8| {
            let from = bytes.len();
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            bytes.resize(from + SECTOR as usize, fill);
        };
        block(&[0x006a_7366_7773_6872, 1, writes.len() as u64 + 1, SECTOR], 0);
        for (n, &(place, fill)) in writes.iter().enumerate() {
            if n == flushed {
                block(&[0, 0, 1, 0], 0);
            }
            block(&[place, 1, 0, 0], 0);
            block(&[], fill);
        }
        if flushed == writes.len() {
            block(&[0, 0, 1, 0], 0);
        }
        // The rest of its device.
        bytes.resize(1 << 16, 0);
        std::fs::write(path, bytes).unwrap();
    }

    #[test]
    fn a_lost_write_gives_back_what_was_there_before_and_a_second_time_is_the_same() {
        let dir = tempfile::tempdir().unwrap();
        let [log, base, disk] = ["log", "base", "disk"].map(|name| dir.path().join(name));
        std::fs::write(&disk, [0; 4096]).unwrap();
        take(&base, &disk).unwrap();
        let fill = |path: &Path| -> Vec<u8> {
            std::fs::read(path).unwrap().chunks(SECTOR as usize).map(|sector| sector[0]).collect()
        };
        // Durable: 1 at place 0, 2 at place 1. Lost: 3 at place 0, 4 at place 2. The disk has all of them.
        write_log(&log, &[(0, 1), (1, 2), (0, 3), (2, 4)], 2);
        std::fs::write(&disk, [3, 2, 4, 0, 0, 0, 0, 0].map(|fill| [fill; SECTOR as usize]).concat()).unwrap();
        let cut = rebuild(&log, &base, &disk, Lose::All, 0).unwrap();
        assert_eq!(cut, Cut { unflushed: 2, lost: 2, torn: 0 });
        assert_eq!(fill(&disk), [1, 2, 0, 0, 0, 0, 0, 0]);
        assert_eq!(rebuild(&log, &base, &disk, Lose::All, 0).unwrap(), Cut::default());
        assert_eq!(fill(&disk), [1, 2, 0, 0, 0, 0, 0, 0]);
        // The next log begins with that.
        write_log(&log, &[(1, 5)], 0);
        std::fs::write(&disk, [1, 5, 0, 0, 0, 0, 0, 0].map(|fill| [fill; SECTOR as usize]).concat()).unwrap();
        rebuild(&log, &base, &disk, Lose::All, 0).unwrap();
        assert_eq!(fill(&disk), [1, 2, 0, 0, 0, 0, 0, 0]);
    }
}

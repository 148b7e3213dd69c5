//! What the kernel's dm-log-writes puts on the device of its log: every write in the order of its completion, and every flush
//! after what it made durable (Linux, admin-guide/device-mapper/log-writes; the format is that of drivers/md/dm-log-writes.c).

use std::io;
use std::os::unix::fs::FileExt;

/// First word of a log.
const MAGIC: u64 = 0x006a_7366_7773_6872;
const VERSION: u64 = 1;

const FLUSH: u64 = 1;
const FUA: u64 = 2;
const DISCARD: u64 = 4;

/// Nobody's log is longer; one that says so is damaged.
const ENTRIES_MAX: u64 = 1 << 26;

/// A write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Written {
    /// Where on the device (bytes).
    pub(super) offset: u64,
    /// Bytes.
    pub(super) len: u64,
    /// Where its data are in the log (bytes).
    pub(super) data: u64,
    /// Durable when it was complete, whatever was flushed (FUA).
    pub(super) is_forced: bool,
}

/// All writes of a log, as they were completed.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Log {
    /// All of them.
    pub(super) writes: Vec<Written>,
    /// So many of them were complete before the last flush began.
    pub(super) flushed: usize,
    /// Bytes of a sector, which is the least that a disk writes in one.
    pub(super) sector: u64,
}

/// Reads a log of at most `len` bytes; an empty one where there is none.
///
/// # Errors
/// When the device cannot be read, or what is there is no log of ours.
pub(super) fn read(device: &impl FileExt, len: u64) -> io::Result<Log> {
    let bad = |what: String| io::Error::new(io::ErrorKind::InvalidData, what);
    let mut head = [0; 32];
    device.read_exact_at(&mut head, 0)?;
    let word = |bytes: &[u8], n: usize| {
        bytes[8 * n..8 * (n + 1)].iter().rev().fold(0, |word: u64, &byte| (word << 8) | u64::from(byte))
    };
    if word(&head, 0) != MAGIC {
        return Ok(Log::default());
    }
    // Of four bytes.
    let (version, count, sector) = (word(&head, 1), word(&head, 2), word(&head, 3) & 0xffff_ffff);
    if version != VERSION || !(sector.is_power_of_two() && (512..=65_536).contains(&sector)) || count > ENTRIES_MAX {
        return Err(bad(format!("a log of version {version}, {count} entries, sectors of {sector} bytes")));
    }
    let mut log = Log { sector, ..Log::default() };
    let mut at = sector;
    for number in 0..count {
        device.read_exact_at(&mut head, at)?;
        let [place, sectors, flags] = [0, 1, 2].map(|n| word(&head, n));
        // Of what was discarded there are no data.
        let sectors = if flags & DISCARD == 0 { sectors } else { 0 };
        let (offset, bytes) = (place.checked_mul(sector), sectors.checked_mul(sector));
        let data = at + sector;
        let next = bytes.and_then(|bytes| data.checked_add(bytes)).filter(|next| *next <= len);
        let (Some(offset), Some(bytes), Some(next)) = (offset, bytes, next) else {
            return Err(bad(format!("entry {number} of the log, at byte {at}, goes beyond its end")));
        };
        if flags & FLUSH != 0 {
            log.flushed = log.writes.len();
        }
        if bytes > 0 {
            log.writes.push(Written { offset, len: bytes, data, is_forced: flags & FUA != 0 });
        }
        at = next;
    }
    Ok(log)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// A file in memory.
    struct Bytes(Vec<u8>);

    impl FileExt for Bytes {
        fn read_at(&self, buffer: &mut [u8], offset: u64) -> io::Result<usize> {
            let rest = self.0.get(offset as usize..).unwrap_or_default();
            let len = rest.len().min(buffer.len());
            buffer[..len].copy_from_slice(&rest[..len]);
            Ok(len)
        }

        fn write_at(&self, _: &[u8], _: u64) -> io::Result<usize> {
            unreachable!()
        }
    }

    /// As the kernel writes it: `(sector, sectors, flags)`.
    fn log(entries: &[(u64, u64, u64)]) -> Bytes {
        let mut bytes = Vec::new();
        let mut block = |words: &[u64]| {
            let from = bytes.len();
            bytes.extend(words.iter().flat_map(|word| word.to_le_bytes()));
            bytes.resize(from + 512, 0);
        };
        block(&[MAGIC, VERSION, entries.len() as u64, 512]);
        for &(place, sectors, flags) in entries {
            block(&[place, sectors, flags, 0]);
            (0..if flags & DISCARD == 0 { sectors } else { 0 }).for_each(|n| block(&[n]));
        }
        Bytes(bytes)
    }

    fn read_all(bytes: &Bytes) -> io::Result<Log> {
        read(bytes, bytes.0.len() as u64)
    }

    #[test]
    fn writes_before_a_flush_are_durable_and_later_ones_are_not() {
        let log = read_all(&log(&[(8, 2, 0), (0, 0, FLUSH), (4, 99, DISCARD), (0, 1, FUA), (20, 1, 0)])).unwrap();
        let write = |place: u64, sectors: u64, data: u64, is_forced| Written {
            offset: 512 * place,
            len: 512 * sectors,
            data: 512 * data,
            is_forced,
        };
        assert_eq!(log.writes, [write(8, 2, 2, false), write(0, 1, 7, true), write(20, 1, 9, false)]);
        assert_eq!((log.flushed, log.sector), (1, 512));
    }

    #[test]
    fn no_log_is_an_empty_one() {
        assert_eq!(read_all(&Bytes(vec![0; 4096])).unwrap(), Log::default());
    }

    #[test]
    fn an_entry_beyond_the_end_is_an_error() {
        let mut bytes = log(&[(8, 2, 0)]);
        bytes.0[512 + 8..512 + 16].copy_from_slice(&u64::MAX.to_le_bytes());
        assert!(read_all(&bytes).unwrap_err().to_string().contains("entry 0"));
    }

    proptest! {
        #[test]
        fn no_bytes_make_it_panic(entries in proptest::collection::vec((0..9u64, 0..4u64, 0..8u64), 0..9),
            at in 0..9999usize, with: u64)
        {
            let mut bytes = log(&entries);
            let at = at % bytes.0.len().saturating_sub(8).max(1);
            bytes.0[at..at + 8].copy_from_slice(&with.to_le_bytes());
            let _ = read_all(&bytes);
        }
    }
}

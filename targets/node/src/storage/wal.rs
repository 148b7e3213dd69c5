//! The write-ahead log: one file, appended to, checksummed.
//!
//! ```text
//! record = u32 LE length of the rest | u32 LE CRC-32 of the rest | JSON of a Record
//! ```
//!
//! A crash may tear the last write: a damaged end is cut off. Damage with a good record behind it cannot come from a torn
//! write, so the log is refused then: silently forgetting what was promised is the one thing that storage must not do.

use crate::raft::{Entry, HardState};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// A longer record is no record (bytes).
const RECORD_LEN_MAX: usize = 64 << 20;

/// Planted bug `no-fsync`: what is held back in memory is written this long after.
const HELD_BACK: Duration = Duration::from_secs(1);

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// Replaces the hard state.
    Hard(HardState),
    /// Replaces everything from its index on.
    Entry(Entry),
}

/// An open log.
#[derive(Debug)]
pub struct Wal {
    file: File,
    path: PathBuf,
    buffer: Vec<u8>,
    /// Planted bug: since when something is held back.
    held_since: Option<Instant>,
    no_fsync: bool,
}

/// Why a log cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum WalError {
    /// The disk said no.
    #[error("{path}: {error}")]
    Io {
        /// Which file.
        path: PathBuf,
        /// What it said.
        error: io::Error,
    },
    /// Damage in the middle.
    #[error(
        "{path}: the record at byte {offset} is damaged but a good one follows at byte {good}: this is no torn write; \
         restore the file or remove this member's data folder and let it catch up from the others"
    )]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// Where the damage begins.
        offset: usize,
        /// Where a good record follows.
        good: usize,
    },
}

/// The record at the start of `bytes`, and its length.
fn parse(bytes: &[u8]) -> Option<(Record, usize)> {
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (len, crc) = (word(0)? as usize, word(4)?);
    // An empty record would make a run of zeros valid.
    if len == 0 || len > RECORD_LEN_MAX {
        return None;
    }
    let body = bytes.get(8..8 + len)?;
    if crc32fast::hash(body) != crc {
        return None;
    }
    Some((serde_json::from_slice(body).ok()?, 8 + len))
}

fn encode(record: &Record, out: &mut Vec<u8>) {
    let body = serde_json::to_vec(record).unwrap_or_default();
    out.extend_from_slice(&(body.len() as u32).to_le_bytes());
    out.extend_from_slice(&crc32fast::hash(&body).to_le_bytes());
    out.extend_from_slice(&body);
}

/// All records of a log, and how many bytes of it are good.
///
/// # Errors
/// When there is damage that is no torn end.
fn scan(path: &Path, bytes: &[u8]) -> Result<(Vec<Record>, usize), WalError> {
    let mut records = Vec::new();
    let mut at = 0;
    while let Some((record, len)) = parse(&bytes[at..]) {
        records.push(record);
        at += len;
    }
    for good in at + 1..bytes.len() {
        if parse(&bytes[good..]).is_some() {
            return Err(WalError::Damaged { path: path.to_owned(), offset: at, good });
        }
    }
    Ok((records, at))
}

impl Wal {
    /// Opens the log at `path`, cuts off a torn end and returns what it holds.
    ///
    /// # Errors
    /// See [`WalError`].
    pub fn open(path: &Path, no_fsync: bool) -> Result<(Self, Vec<Record>, usize), WalError> {
        let io = |error| WalError::Io { path: path.to_owned(), error };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let (records, good) = scan(path, &bytes)?;
        if good < bytes.len() {
            file.set_len(good as u64).map_err(io)?;
            file.sync_all().map_err(io)?;
        }
        file.seek(SeekFrom::End(0)).map_err(io)?;
        let wal = Self { file, path: path.to_owned(), buffer: Vec::new(), held_since: None, no_fsync };
        Ok((wal, records, bytes.len() - good))
    }

    /// Queues a record for the next [`sync`](Self::sync).
    pub fn append(&mut self, record: &Record) {
        encode(record, &mut self.buffer);
    }

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    /// When the disk says no: after a failed fsync nobody knows what is on it, so the node must stop.
    pub fn sync(&mut self) -> Result<(), WalError> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        if self.no_fsync {
            let since = *self.held_since.get_or_insert_with(Instant::now);
            if since.elapsed() < HELD_BACK {
                return Ok(());
            }
            self.held_since = None;
        }
        let path = self.path.clone();
        let io = |error| WalError::Io { path, error };
        self.file.write_all(&self.buffer).map_err(io.clone())?;
        self.buffer.clear();
        if !self.no_fsync {
            self.file.sync_data().map_err(io)?;
        }
        Ok(())
    }

    /// Writes a fresh log with just `records` to `path`, in one piece.
    ///
    /// # Errors
    /// When the disk says no; the old log is then still there.
    pub fn rewrite(path: &Path, records: &[Record], no_fsync: bool) -> Result<Self, WalError> {
        let mut buffer = Vec::new();
        records.iter().for_each(|record| encode(record, &mut buffer));
        super::write_whole(path, &buffer).map_err(|error| WalError::Io { path: path.to_owned(), error })?;
        Ok(Self::open(path, no_fsync)?.0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn records() -> Vec<Record> {
        let entry = |index, data: &str| Record::Entry(Entry { index, term: 2, data: Arc::from(data) });
        vec![Record::Hard(HardState { term: 2, vote: Some(1) }), entry(1, "a"), entry(2, "{\"x\":[1,2]}"), entry(3, "")]
    }

    fn bytes() -> Vec<u8> {
        let mut out = Vec::new();
        records().iter().for_each(|record| encode(record, &mut out));
        out
    }

    #[test]
    fn cut_anywhere_it_holds_a_prefix() {
        let bytes = bytes();
        for len in 0..=bytes.len() {
            let (found, good) = scan(Path::new("wal"), &bytes[..len]).unwrap();
            assert_eq!(found, records()[..found.len()]);
            assert!(good <= len);
        }
        assert_eq!(scan(Path::new("wal"), &bytes).unwrap().0, records());
    }

    #[test]
    fn a_flipped_bit_is_never_silent() {
        let whole = bytes();
        let last = {
            let mut out = Vec::new();
            encode(&records()[3], &mut out);
            whole.len() - out.len()
        };
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match scan(Path::new("wal"), &damaged) {
                // Damage in the last record looks like a torn write.
                Ok((found, _)) => {
                    assert!(bit / 8 >= last, "bit {bit}");
                    assert_eq!(found, records()[..3]);
                }
                Err(WalError::Damaged { .. }) => assert!(bit / 8 < last, "bit {bit}"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    #[test]
    fn goes_on_after_a_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let mut torn = bytes();
        torn.extend_from_slice(&[9, 0, 0, 0, 1, 2]);
        std::fs::write(&path, &torn).unwrap();
        let (mut wal, found, cut) = Wal::open(&path, false).unwrap();
        assert_eq!((found.len(), cut), (4, 6));
        wal.append(&Record::Hard(HardState { term: 9, vote: None }));
        wal.sync().unwrap();
        let (_, found, _) = Wal::open(&path, false).unwrap();
        assert_eq!(found.last(), Some(&Record::Hard(HardState { term: 9, vote: None })));
    }
}

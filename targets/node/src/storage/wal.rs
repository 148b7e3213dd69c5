//! The write-ahead log: one file, appended to, checksummed.
//!
//! ```text
//! frame = u32 LE length of the rest | u32 LE CRC-32 of the rest | JSON list of Records
//! ```
//!
//! What becomes durable together is one frame, so a write that a crash tears, in whatever order its pages reach the disk,
//! is one damaged frame at the end, and cut off. Damage with a good frame behind it cannot come from a torn write, so the
//! log is refused then: silently forgetting what was promised is the one thing that storage must not do.
//!
//! After a failed fsync the node stops. What it reads when it comes back may then be in the page cache only, as clean
//! pages that no later fsync writes ("Can Applications Recover from fsync Failures?", Rebello et al., ATC 2020): the frames
//! of the last sync, all others were synced before. They are written once more before anything follows them.
//!
//! What it cannot do: tell a last frame that rotted after it was synced from one that was torn.

use crate::bug::{Bug, Bugs};
use crate::raft::{Entry, HardState, Index, Term};
use serde::{Deserialize, Serialize};
use std::fs::{File, OpenOptions};
use std::io::{self, Read, Seek, SeekFrom, Write};
use std::path::{Path, PathBuf};

/// A longer frame is no frame (bytes).
const FRAME_LEN_MAX: usize = 64 << 20;

/// A frame that is longer takes no more records (bytes), so that with the largest request it stays below the maximum.
const FRAME_LEN_FULL: usize = 16 << 20;

/// Length and checksum before a frame's records (bytes).
const HEADER_LEN: usize = 8;

/// One record.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Record {
    /// The log continues a snapshot that ends here: without that, or a later one, it is of no use. Always the first.
    Base {
        /// The last entry of the snapshot.
        index: Index,
        /// Its term.
        term: Term,
    },
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
    pending: Frames,
    bugs: Bugs,
    /// Planted bug `enospc-ignored`: the disk was full.
    full: bool,
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

/// The records at the start of `bytes`, and the length of their frame.
fn parse(bytes: &[u8], bugs: &Bugs) -> Option<(Vec<Record>, usize)> {
    let word = |at: usize| bytes.get(at..at + 4).map(|b| u32::from_le_bytes([b[0], b[1], b[2], b[3]]));
    let (len, crc) = (word(0)? as usize, word(4)?);
    // An empty frame would make a run of zeros valid.
    if len == 0 || len > FRAME_LEN_MAX {
        return None;
    }
    let body = bytes.get(HEADER_LEN..HEADER_LEN + len)?;
    if crc32fast::hash(body) != crc && !bugs.has(Bug::NoChecksum) {
        return None;
    }
    Some((serde_json::from_slice(body).ok()?, HEADER_LEN + len))
}

/// Frames being built.
#[derive(Debug, Default)]
struct Frames {
    bytes: Vec<u8>,
    /// Where the open frame begins.
    open: Option<usize>,
}

impl Frames {
    fn push(&mut self, record: &Record) -> io::Result<()> {
        match self.open {
            Some(_) => self.bytes.push(b','),
            None => {
                self.open = Some(self.bytes.len());
                self.bytes.extend_from_slice(&[0; HEADER_LEN]);
                self.bytes.push(b'[');
            }
        }
        serde_json::to_writer(&mut self.bytes, record)?;
        if self.open.is_some_and(|at| self.bytes.len() - at >= FRAME_LEN_FULL) {
            self.seal();
        }
        Ok(())
    }

    fn seal(&mut self) {
        let Some(at) = self.open.take() else { return };
        self.bytes.push(b']');
        let (head, body) = self.bytes[at..].split_at_mut(HEADER_LEN);
        head[..4].copy_from_slice(&(body.len() as u32).to_le_bytes());
        head[4..].copy_from_slice(&crc32fast::hash(body).to_le_bytes());
    }
}

/// What is in a log.
#[derive(Debug, PartialEq)]
struct Scanned {
    records: Vec<Record>,
    /// So many bytes are good.
    good: usize,
    /// Where the frames of the last sync begin.
    last_sync: usize,
}

/// Reads a whole log.
///
/// # Errors
/// When there is damage that is no torn end.
fn scan(path: &Path, bytes: &[u8], bugs: &Bugs) -> Result<Scanned, WalError> {
    let mut records = Vec::new();
    let (mut at, mut last_sync) = (0, 0);
    let mut goes_on = false;
    while let Some((frame, len)) = parse(&bytes[at..], bugs) {
        records.extend(frame);
        if !goes_on {
            last_sync = at;
        }
        // Only what is full is followed by more of the same sync.
        goes_on = len > FRAME_LEN_FULL;
        at += len;
    }
    let scanned = Scanned { records, good: at, last_sync };
    if bugs.has(Bug::TornTail) {
        return Ok(scanned);
    }
    for good in at + 1..bytes.len() {
        if parse(&bytes[good..], bugs).is_some() {
            return Err(WalError::Damaged { path: path.to_owned(), offset: at, good });
        }
    }
    Ok(scanned)
}

impl Wal {
    /// Opens the log at `path`, cuts off a torn end, makes the rest durable and returns what it holds.
    ///
    /// # Errors
    /// See [`WalError`].
    pub fn open(path: &Path, bugs: &Bugs) -> Result<(Self, Vec<Record>, usize), WalError> {
        let io = |error| WalError::Io { path: path.to_owned(), error };
        let mut file = OpenOptions::new().read(true).write(true).create(true).truncate(false).open(path).map_err(io)?;
        let mut bytes = Vec::new();
        file.read_to_end(&mut bytes).map_err(io)?;
        let Scanned { records, good, last_sync } = scan(path, &bytes, bugs)?;
        if good < bytes.len() && !bugs.has(Bug::TornTail) {
            file.set_len(good as u64).map_err(io)?;
        }
        file.seek(SeekFrom::Start(last_sync as u64)).map_err(io)?;
        file.write_all(&bytes[last_sync..good]).map_err(io)?;
        file.sync_all().map_err(io)?;
        Ok((Self::at_end(file, path, bugs)?, records, bytes.len() - good))
    }

    fn at_end(mut file: File, path: &Path, bugs: &Bugs) -> Result<Self, WalError> {
        file.seek(SeekFrom::End(0)).map_err(|error| WalError::Io { path: path.to_owned(), error })?;
        Ok(Self { file, path: path.to_owned(), pending: Frames::default(), bugs: bugs.clone(), full: false })
    }

    fn io(&self) -> impl Fn(io::Error) -> WalError + use<> {
        let path = self.path.clone();
        move |error| WalError::Io { path: path.clone(), error }
    }

    /// Queues a record for the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn append(&mut self, record: &Record) -> Result<(), WalError> {
        self.pending.push(record).map_err(self.io())
    }

    /// Makes everything that was appended durable.
    ///
    /// # Errors
    /// When the disk says no: after a failed fsync nobody knows what is on it, so the node must stop.
    pub fn sync(&mut self) -> Result<(), WalError> {
        if self.pending.bytes.is_empty() {
            return Ok(());
        }
        self.pending.seal();
        let bytes = std::mem::take(&mut self.pending.bytes);
        if self.full {
            return Ok(());
        }
        match self.file.write_all(&bytes) {
            Err(error) if error.kind() == io::ErrorKind::StorageFull && self.bugs.has(Bug::EnospcIgnored) => {
                self.full = true;
                return Ok(());
            }
            written => written.map_err(self.io())?,
        }
        if !self.bugs.has(Bug::NoFsync) {
            self.file.sync_data().map_err(self.io())?;
        }
        Ok(())
    }

    /// Writes a fresh log with just `records` to `path`, in one piece.
    ///
    /// # Errors
    /// When the disk says no; the old log is then still there.
    pub fn rewrite(path: &Path, records: &[Record], bugs: &Bugs) -> Result<Self, WalError> {
        let io = |error| WalError::Io { path: path.to_owned(), error };
        let mut frames = Frames::default();
        records.iter().try_for_each(|record| frames.push(record)).map_err(io)?;
        frames.seal();
        super::write_whole(path, &frames.bytes, bugs).map_err(io)?;
        Self::at_end(OpenOptions::new().write(true).open(path).map_err(io)?, path, bugs)
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

    /// A frame for the first two records, one for each of the others.
    fn bytes() -> Vec<u8> {
        let mut frames = Frames::default();
        for (n, record) in records().iter().enumerate() {
            frames.push(record).unwrap();
            if n > 0 {
                frames.seal();
            }
        }
        frames.bytes
    }

    #[test]
    fn cut_anywhere_it_holds_a_prefix() {
        let bytes = bytes();
        for len in 0..=bytes.len() {
            let found = scan(Path::new("wal"), &bytes[..len], &Bugs::default()).unwrap();
            assert_eq!(found.records, records()[..found.records.len()]);
            assert_ne!(found.records.len(), 1, "a frame is there as a whole or not at all");
            assert!(found.last_sync <= found.good && found.good <= len);
        }
        assert_eq!(scan(Path::new("wal"), &bytes, &Bugs::default()).unwrap().records, records());
    }

    #[test]
    fn a_flipped_bit_is_never_silent() {
        let whole = bytes();
        let last = {
            let mut frames = Frames::default();
            frames.push(&records()[3]).unwrap();
            frames.seal();
            whole.len() - frames.bytes.len()
        };
        for bit in 0..whole.len() * 8 {
            let mut damaged = whole.clone();
            damaged[bit / 8] ^= 1 << (bit % 8);
            match scan(Path::new("wal"), &damaged, &Bugs::default()) {
                // Damage in the last frame looks like a torn write.
                Ok(found) => {
                    assert!(bit / 8 >= last, "bit {bit}");
                    assert_eq!(found.records, records()[..3]);
                }
                Err(WalError::Damaged { .. }) => assert!(bit / 8 < last, "bit {bit}"),
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// A crash may let the pages of one write reach the disk in any order: zeros anywhere in the last frame.
    #[test]
    fn pages_of_the_last_write_may_be_missing() {
        let mut frames = Frames::default();
        frames.push(&records()[0]).unwrap();
        frames.seal();
        let durable = frames.bytes.len();
        records()[1..].iter().for_each(|record| frames.push(record).unwrap());
        frames.seal();
        let whole = frames.bytes;
        for from in durable..whole.len() {
            for to in from + 1..=whole.len() {
                let mut torn = whole.clone();
                torn[from..to].fill(0);
                if torn == whole {
                    continue;
                }
                assert_eq!(
                    scan(Path::new("wal"), &torn, &Bugs::default()).unwrap(),
                    Scanned { records: records()[..1].to_vec(), good: durable, last_sync: 0 }
                );
            }
        }
    }

    #[test]
    fn a_long_batch_becomes_several_frames() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let data: Arc<str> = Arc::from("x".repeat(FRAME_LEN_FULL / 3));
        let records: Vec<Record> =
            (1..=8).map(|index| Record::Entry(Entry { index, term: 1, data: data.clone() })).collect();
        let mut wal = Wal::rewrite(&path, &records, &Bugs::default()).unwrap();
        assert!(Wal::open(&path, &Bugs::default()).unwrap().1 == records);
        // All of it is one sync, and what comes next is another.
        let scanned = || scan(&path, &std::fs::read(&path).unwrap(), &Bugs::default()).unwrap();
        let long = scanned();
        assert_eq!(long.last_sync, 0);
        wal.append(&Record::Hard(HardState::default())).unwrap();
        wal.sync().unwrap();
        assert_eq!(scanned().last_sync, long.good);
    }

    #[test]
    fn goes_on_after_a_torn_end() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let mut torn = bytes();
        torn.extend_from_slice(&[9, 0, 0, 0, 1, 2]);
        std::fs::write(&path, &torn).unwrap();
        let (mut wal, found, cut) = Wal::open(&path, &Bugs::default()).unwrap();
        assert_eq!((found.len(), cut), (4, 6));
        wal.append(&Record::Hard(HardState { term: 9, vote: None })).unwrap();
        wal.sync().unwrap();
        let (_, found, _) = Wal::open(&path, &Bugs::default()).unwrap();
        assert_eq!(found.last(), Some(&Record::Hard(HardState { term: 9, vote: None })));
    }

    /// Each planted bug of the log loses what the log itself would not.
    #[test]
    fn bugs_break_what_they_say() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("wal");
        let last = Record::Hard(HardState { term: 9, vote: None });
        let after_a_torn_end = |bugs: &Bugs| {
            std::fs::write(&path, [bytes(), vec![9, 0, 0, 0, 1, 2]].concat()).unwrap();
            let (mut wal, ..) = Wal::open(&path, bugs).unwrap();
            wal.append(&last).unwrap();
            wal.sync().unwrap();
            Wal::open(&path, bugs).unwrap().1.contains(&last)
        };
        assert!(after_a_torn_end(&Bugs::default()));
        assert!(!after_a_torn_end(&Bugs(vec![Bug::TornTail])));

        let mut rotten = bytes();
        let at = rotten.windows(8).position(|window| window == b"\"term\":2").unwrap() + 7;
        rotten[at] ^= 1;
        std::fs::write(&path, &rotten).unwrap();
        assert!(matches!(Wal::open(&path, &Bugs::default()), Err(WalError::Damaged { .. })));
        let (_, believed, _) = Wal::open(&path, &Bugs(vec![Bug::NoChecksum])).unwrap();
        assert_eq!(believed.len(), records().len());
        assert_ne!(believed, records());
    }
}

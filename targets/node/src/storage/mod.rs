//! What a member keeps on disk: `wal-GENERATION.log` and `snapshot-INDEX.json`.
//!
//! A snapshot is written first, then a new generation of the log without what the snapshot holds; only then the old ones
//! go. A crash between any two steps leaves a state from which both can be told apart. Files appear in one piece: written
//! under a temporary name, synced, renamed, folder synced.

mod wal;

pub use wal::{Record, Wal, WalError};

use crate::bug::{Bug, Bugs};
use crate::raft::{Entry, HardState, Index, Log, Snapshot, Term};
use anyhow::{Context, bail};
use std::fs::{self, File};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// The disk of one member.
#[derive(Debug)]
pub struct Storage {
    dir: PathBuf,
    wal: Wal,
    generation: u64,
    bugs: Bugs,
    /// So that only one process uses the folder.
    _lock: File,
}

/// What was found at the start.
#[derive(Debug)]
pub struct Recovered {
    /// Term and vote.
    pub hard: HardState,
    /// Snapshot and entries.
    pub log: Log,
    /// Bytes of a torn write that were cut off.
    pub torn: usize,
}

/// Writes a file in one piece, durably.
fn write_whole(path: &Path, content: &[u8], bugs: &Bugs) -> io::Result<()> {
    let temporary = path.with_extension("tmp");
    let mut file = File::create(&temporary)?;
    file.write_all(content)?;
    if !bugs.has(Bug::NoFsync) {
        file.sync_all()?;
    }
    fs::rename(&temporary, path)?;
    sync_dir(path.parent().unwrap_or(Path::new(".")), bugs)
}

fn sync_dir(dir: &Path, bugs: &Bugs) -> io::Result<()> {
    if bugs.has(Bug::NoFsync) || bugs.has(Bug::NoDirFsync) {
        return Ok(());
    }
    File::open(dir)?.sync_all()
}

/// Numbers in names like `wal-7.log`, largest first.
fn numbered(dir: &Path, prefix: &str, suffix: &str) -> io::Result<Vec<u64>> {
    let mut numbers: Vec<u64> = fs::read_dir(dir)?
        .flatten()
        .filter_map(|file| file.file_name().to_str()?.strip_prefix(prefix)?.strip_suffix(suffix)?.parse().ok())
        .collect();
    numbers.sort_unstable_by(|a, b| b.cmp(a));
    Ok(numbers)
}

/// A snapshot file is its checksum in hexadecimal, a line feed, and JSON.
fn read_snapshot(path: &Path, bugs: &Bugs) -> anyhow::Result<Snapshot> {
    let text = fs::read_to_string(path).with_context(|| format!("cannot read {}", path.display()))?;
    let damaged = || {
        format!(
            "{} is damaged; restore it or remove this member's data folder and let it catch up from the others",
            path.display()
        )
    };
    let (sum, json) = text.split_once('\n').with_context(damaged)?;
    let right = u32::from_str_radix(sum, 16).ok() == Some(crc32fast::hash(json.as_bytes()));
    if !right && !bugs.has(Bug::NoChecksum) {
        bail!(damaged());
    }
    serde_json::from_str(json).with_context(damaged)
}

impl Storage {
    /// Opens the folder `dir` and recovers what is in it.
    ///
    /// # Errors
    /// When the disk says no, something is damaged, or another process uses the folder.
    pub fn open(dir: &Path, bugs: &Bugs) -> anyhow::Result<(Self, Recovered)> {
        fs::create_dir_all(dir).with_context(|| format!("cannot create {}", dir.display()))?;
        let lock_path = dir.join("lock");
        let lock = File::create(&lock_path).with_context(|| format!("cannot open {}", lock_path.display()))?;
        lock.try_lock().with_context(|| format!("another node uses {}", dir.display()))?;
        let snapshot = match numbered(dir, "snapshot-", ".json")?.first() {
            Some(index) => read_snapshot(&dir.join(format!("snapshot-{index}.json")), bugs)?,
            None => Snapshot { index: 0, term: 0, data: Arc::from("") },
        };
        let newest = numbered(dir, "wal-", ".log")?.first().copied();
        if newest.is_none() && snapshot.index > 0 {
            bail!(
                "{} holds a snapshot but no log, so term and vote are lost; restore wal-*.log or remove the folder and \
                 let this member catch up from the others",
                dir.display()
            );
        }
        let generation = newest.unwrap_or(1);
        let path = dir.join(format!("wal-{generation}.log"));
        let (wal, records, torn) = Wal::open(&path, bugs)?;
        sync_dir(dir, bugs)?;
        if newest.is_none() {
            // The folder itself may be new.
            dir.parent().filter(|parent| !parent.as_os_str().is_empty()).map_or(Ok(()), |dir| sync_dir(dir, bugs))?;
        }
        let Replayed { hard, log, base } =
            replay(snapshot, records).with_context(|| format!("cannot use {}", path.display()))?;
        let mut storage = Self { dir: dir.to_owned(), wal, generation, bugs: bugs.clone(), _lock: lock };
        if base != log.base() {
            // The crash came between snapshot and new log. What is appended now follows the snapshot, and the old log may
            // end long before that.
            storage.begin_log(hard, log.snapshot(), log.entries())?;
        }
        let hard = if bugs.has(Bug::ForgetVote) { HardState::default() } else { hard };
        Ok((storage, Recovered { hard, log, torn }))
    }

    /// Queues what must be durable after the next [`sync`](Self::sync).
    ///
    /// # Errors
    /// When it cannot be encoded.
    pub fn save(&mut self, hard: HardState, entries: &[Entry]) -> anyhow::Result<()> {
        self.wal.append(&Record::Hard(hard))?;
        for entry in entries {
            self.wal.append(&Record::Entry(entry.clone()))?;
        }
        Ok(())
    }

    /// Makes what was queued durable.
    ///
    /// # Errors
    /// When the disk says no; the node must stop then.
    pub fn sync(&mut self) -> anyhow::Result<()> {
        Ok(self.wal.sync()?)
    }

    /// Makes `snapshot` durable, and a log that continues it with `keep`.
    ///
    /// # Errors
    /// When the disk says no.
    pub fn compact(&mut self, hard: HardState, snapshot: &Snapshot, keep: &[Entry]) -> anyhow::Result<()> {
        let json = serde_json::to_string(snapshot)?;
        let text = format!("{:08x}\n{json}", crc32fast::hash(json.as_bytes()));
        let path = self.dir.join(format!("snapshot-{}.json", snapshot.index));
        write_whole(&path, text.as_bytes(), &self.bugs).with_context(|| format!("cannot write {}", path.display()))?;
        self.begin_log(hard, snapshot, keep)
    }

    /// A new generation of the log, which continues a `snapshot` that is durable; what it replaces goes.
    fn begin_log(&mut self, hard: HardState, snapshot: &Snapshot, keep: &[Entry]) -> anyhow::Result<()> {
        let base = Record::Base { index: snapshot.index, term: snapshot.term };
        let records: Vec<Record> =
            [base, Record::Hard(hard)].into_iter().chain(keep.iter().cloned().map(Record::Entry)).collect();
        let next = self.generation + 1;
        self.wal = Wal::rewrite(&self.dir.join(format!("wal-{next}.log")), &records, &self.bugs)?;
        self.generation = next;
        self.sweep(snapshot.index)
    }

    /// Removes what newer files have replaced.
    fn sweep(&self, snapshot: u64) -> anyhow::Result<()> {
        for old in numbered(&self.dir, "wal-", ".log")?.into_iter().filter(|n| *n < self.generation) {
            fs::remove_file(self.dir.join(format!("wal-{old}.log")))?;
        }
        for old in numbered(&self.dir, "snapshot-", ".json")?.into_iter().filter(|n| *n < snapshot) {
            fs::remove_file(self.dir.join(format!("snapshot-{old}.json")))?;
        }
        Ok(())
    }
}

/// The state that records leave behind.
#[derive(Debug)]
struct Replayed {
    hard: HardState,
    log: Log,
    /// The last entry of the snapshot that the records themselves continue.
    base: Index,
}

/// Replays the records of one log.
///
/// # Errors
/// When something is missing: then this member has forgotten what it promised to keep.
fn replay(snapshot: Snapshot, records: Vec<Record>) -> anyhow::Result<Replayed> {
    let mut hard = HardState::default();
    // What comes before the first entry, and its term.
    let mut before: (Index, Term) = (0, 0);
    let mut entries: Vec<Entry> = Vec::new();
    for record in records {
        match record {
            Record::Base { index, term } => before = (index, term),
            Record::Hard(state) => hard = state,
            Record::Entry(entry) => {
                while entries.last().is_some_and(|last| last.index >= entry.index) {
                    entries.pop();
                }
                let last = entries.last().map_or(before.0, |last| last.index);
                if entry.index != last + 1 {
                    bail!("entry {} follows entry {last}: what is between them is missing", entry.index);
                }
                entries.push(entry);
            }
        }
    }
    if snapshot.index < before.0 {
        bail!(
            "it continues a snapshot up to entry {} that is not there; restore snapshot-{}.json or remove the folder and \
             let this member catch up from the others",
            before.0,
            before.0
        );
    }
    // After a crash between snapshot and new log, the old log may end before the snapshot does, or belong to another
    // history: entries may only follow the snapshot if the log has the snapshot's last entry with the same term.
    let same = before == (snapshot.index, snapshot.term)
        || entries.iter().any(|entry| (entry.index, entry.term) == (snapshot.index, snapshot.term));
    if !same {
        entries.clear();
    }
    Ok(Replayed { hard, log: Log::new(snapshot, entries), base: before.0 })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(index: u64, term: u64) -> Entry {
        Entry { index, term, data: Arc::from(format!("{index}.{term}")) }
    }

    #[test]
    fn what_was_saved_is_recovered() {
        let dir = tempfile::tempdir().unwrap();
        let bugs = Bugs::default();
        {
            let (mut storage, found) = Storage::open(dir.path(), &bugs).unwrap();
            assert_eq!(found.log.last_index(), 0);
            storage.save(HardState { term: 1, vote: Some(0) }, &[entry(1, 1), entry(2, 1), entry(3, 1)]).unwrap();
            storage.save(HardState { term: 2, vote: None }, &[entry(2, 2)]).unwrap();
            storage.sync().unwrap();
            assert!(Storage::open(dir.path(), &bugs).unwrap_err().to_string().contains("another node"));
        }
        let hard = HardState { term: 2, vote: None };
        {
            let (mut storage, found) = Storage::open(dir.path(), &bugs).unwrap();
            assert_eq!(found.hard, hard);
            assert_eq!(found.log.entries(), [entry(1, 1), entry(2, 2)]);
            let snapshot = Snapshot { index: 1, term: 1, data: Arc::from("state") };
            storage.compact(hard, &snapshot, &[entry(2, 2)]).unwrap();
            storage.save(hard, &[entry(3, 2)]).unwrap();
            storage.sync().unwrap();
        }
        let (_, found) = Storage::open(dir.path(), &bugs).unwrap();
        assert_eq!((found.log.base(), found.log.last_index(), found.hard), (1, 3, hard));
        assert_eq!(&*found.log.snapshot().data, "state");
    }

    #[test]
    fn a_damaged_snapshot_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        {
            let (mut storage, _) = Storage::open(dir.path(), &Bugs::default()).unwrap();
            let snapshot = Snapshot { index: 5, term: 1, data: Arc::from("state") };
            storage.compact(HardState::default(), &snapshot, &[]).unwrap();
        }
        let path = dir.path().join("snapshot-5.json");
        let text = fs::read_to_string(&path).unwrap().replace("state", "stale");
        fs::write(&path, text).unwrap();
        let error = Storage::open(dir.path(), &Bugs::default()).unwrap_err().to_string();
        assert!(error.contains("snapshot-5.json is damaged"), "{error}");
    }

    /// A crash after the snapshot was written, before the log was.
    #[test]
    fn a_snapshot_of_another_history_takes_nothing_from_the_old_log() {
        let snapshot = |term| Snapshot { index: 2, term, data: Arc::from("state") };
        let old = || vec![Record::Entry(entry(1, 1)), Record::Entry(entry(2, 3)), Record::Entry(entry(3, 3))];
        assert_eq!(replay(snapshot(3), old()).unwrap().log.entries(), [entry(3, 3)]);
        let log = replay(snapshot(5), old()).unwrap().log;
        assert_eq!((log.last_index(), log.last_term()), (2, 5));
        let short = vec![Record::Entry(entry(1, 1))];
        assert_eq!(replay(snapshot(5), short).unwrap().log.last_index(), 2);
    }

    /// A crash in the same place while a snapshot of the leader's was installed, on a member that was behind.
    #[test]
    fn what_follows_an_installed_snapshot_has_a_log_of_its_own() {
        let (dir, hard) = (tempfile::tempdir().unwrap(), HardState { term: 2, vote: None });
        {
            let (mut storage, _) = Storage::open(dir.path(), &Bugs::default()).unwrap();
            storage.save(hard, &[entry(1, 1), entry(2, 1)]).unwrap();
            storage.sync().unwrap();
            let old = fs::read(dir.path().join("wal-1.log")).unwrap();
            storage.compact(hard, &Snapshot { index: 9, term: 2, data: Arc::from("state") }, &[]).unwrap();
            fs::remove_file(dir.path().join("wal-2.log")).unwrap();
            fs::write(dir.path().join("wal-1.log"), old).unwrap();
        }
        for last in 10..=12 {
            let (mut storage, found) = Storage::open(dir.path(), &Bugs::default()).unwrap();
            assert_eq!((found.log.last_index(), found.hard), (last - 1, hard));
            storage.save(hard, &[entry(last, 2)]).unwrap();
            storage.sync().unwrap();
        }
    }

    #[test]
    fn missing_files_are_noticed() {
        let make = || {
            let dir = tempfile::tempdir().unwrap();
            let (mut storage, _) = Storage::open(dir.path(), &Bugs::default()).unwrap();
            let snapshot = Snapshot { index: 5, term: 1, data: Arc::from("state") };
            storage.compact(HardState::default(), &snapshot, &[entry(6, 1)]).unwrap();
            dir
        };
        for (gone, said) in [("snapshot-5.json", "snapshot up to entry 5 that is not there"), ("wal-2.log", "no log")] {
            let dir = make();
            fs::remove_file(dir.path().join(gone)).unwrap();
            let error = format!("{:#}", Storage::open(dir.path(), &Bugs::default()).unwrap_err());
            assert!(error.contains(said), "{error}");
        }
        let gap = vec![Record::Entry(entry(1, 1)), Record::Entry(entry(3, 1))];
        let start = Snapshot { index: 0, term: 0, data: Arc::from("") };
        assert!(replay(start, gap).unwrap_err().to_string().contains("entry 3 follows entry 1"));
    }

    #[test]
    fn forgetting_the_vote_is_a_bug_one_can_plant() {
        let dir = tempfile::tempdir().unwrap();
        {
            let (mut storage, _) = Storage::open(dir.path(), &Bugs::default()).unwrap();
            storage.save(HardState { term: 7, vote: Some(2) }, &[]).unwrap();
            storage.sync().unwrap();
        }
        let bugs = Bugs(vec![Bug::ForgetVote]);
        assert_eq!(Storage::open(dir.path(), &bugs).unwrap().1.hard, HardState::default());
    }
}

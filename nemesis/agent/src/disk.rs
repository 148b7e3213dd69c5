//! What can be said about a node's disk: rules for its input and output, and what a power cut takes.

use serde::{Deserialize, Serialize};

/// What a power cut does with what was written but not synced.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Lose {
    /// Everything unsynced is gone.
    All,
    /// A toss for every write and every change of a directory.
    Subset,
    /// Per file, the writes survive in order up to one of which only some sectors do; the rest is gone. Changes of
    /// directories survive.
    Torn,
    /// Per file, an earlier write is gone and a later one survives; where there is only one, some of its sectors survive.
    /// A toss for every change of a directory.
    Sequence,
}

impl Lose {
    /// All of them, as they are called in test files, with a line about each.
    pub const ALL: [(&str, Self, &str); 4] = [
        ("all", Self::All, "everything that was not synced is gone"),
        ("subset", Self::Subset, "a toss for every unsynced write and change of a directory"),
        ("torn", Self::Torn, "the last write that survives does so in part: some of its sectors"),
        ("sequence", Self::Sequence, "later writes survive, earlier ones do not"),
    ];
}

/// What a power cut took.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Lost {
    /// Files that lost something, or came or went.
    pub files: u64,
    /// Writes that are gone.
    pub writes: u64,
    /// Writes of which some sectors are gone.
    pub torn: u64,
    /// Bytes of both.
    pub bytes: u64,
    /// New names that are gone.
    pub creates: u64,
    /// Names that stand for what they stood for before a rename.
    pub renames: u64,
    /// Removed names that are back.
    pub unlinks: u64,
    /// Unsynced writes and changes of directories that survived.
    pub kept: u64,
    /// A line about each file or name, at most [`NOTES_MAX`](Self::NOTES_MAX).
    pub notes: Vec<String>,
}

impl Lost {
    /// More lines than this are of no use to anybody.
    pub const NOTES_MAX: usize = 50;

    /// What another disk has lost as well.
    pub fn add(&mut self, other: Self) {
        self.files += other.files;
        self.writes += other.writes;
        self.torn += other.torn;
        self.bytes += other.bytes;
        self.creates += other.creates;
        self.renames += other.renames;
        self.unlinks += other.unlinks;
        self.kept += other.kept;
        self.notes.extend(other.notes);
        self.notes.truncate(Self::NOTES_MAX);
    }

    /// How much was lost, all kinds added up.
    pub fn count(&self) -> u64 {
        self.writes + self.torn + self.creates + self.renames + self.unlinks
    }
}

impl std::fmt::Display for Lost {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let numbers = [
            (self.writes, "writes"),
            (self.torn, "torn writes"),
            (self.bytes, "bytes"),
            (self.creates, "creates"),
            (self.renames, "renames"),
            (self.unlinks, "unlinks"),
        ];
        let words: Vec<String> =
            numbers.iter().filter(|(n, _)| *n > 0).map(|(n, what)| format!("{n} {what}")).collect();
        match words.as_slice() {
            [] => write!(f, "nothing was unsynced or lost"),
            words => write!(f, "{} lost in {} files", words.join(", "), self.files),
        }?;
        if self.kept > 0 { write!(f, ", {} unsynced changes kept", self.kept) } else { Ok(()) }
    }
}

/// What a process asks of its disk.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum DiskOp {
    /// Bytes that are not in the page cache.
    Read,
    /// write(2), and dirty pages of a shared mapping that the kernel writes back.
    Write,
    /// fsync and fdatasync of a file, msync.
    Fsync,
    /// fsync of a directory.
    FsyncDir,
    /// open(2) of what exists.
    Open,
    /// A new file.
    Create,
    /// A new directory.
    Mkdir,
    /// rename(2).
    Rename,
    /// A second name.
    Link,
    /// A name goes.
    Unlink,
    /// A directory goes.
    Rmdir,
    /// The names in a directory.
    List,
    /// ftruncate and fallocate.
    Truncate,
    /// chmod, chown, utimens.
    Attributes,
}

impl DiskOp {
    /// All of them, as they are called in test files.
    pub const ALL: [(&str, Self); 14] = [
        ("read", Self::Read),
        ("write", Self::Write),
        ("fsync", Self::Fsync),
        ("fsync-dir", Self::FsyncDir),
        ("open", Self::Open),
        ("create", Self::Create),
        ("mkdir", Self::Mkdir),
        ("rename", Self::Rename),
        ("link", Self::Link),
        ("unlink", Self::Unlink),
        ("rmdir", Self::Rmdir),
        ("list", Self::List),
        ("truncate", Self::Truncate),
        ("attributes", Self::Attributes),
    ];
}

/// An error as a file system reports it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum DiskError {
    /// Input/output error.
    #[serde(rename = "EIO")]
    Io,
    /// No space left on device.
    #[serde(rename = "ENOSPC")]
    NoSpace,
    /// Read-only file system.
    #[serde(rename = "EROFS")]
    ReadOnly,
    /// Disk quota exceeded.
    #[serde(rename = "EDQUOT")]
    Quota,
}

impl DiskError {
    /// All of them, with what they are good for when nobody says otherwise.
    pub const ALL: [(&str, Self, &[DiskOp]); 4] = [
        ("EIO", Self::Io, &[DiskOp::Read, DiskOp::Write, DiskOp::Fsync, DiskOp::FsyncDir]),
        ("ENOSPC", Self::NoSpace, &[DiskOp::Write, DiskOp::Create, DiskOp::Mkdir, DiskOp::Link]),
        ("EROFS", Self::ReadOnly, MUTATING),
        ("EDQUOT", Self::Quota, &[DiskOp::Write, DiskOp::Create, DiskOp::Mkdir, DiskOp::Link]),
    ];

    /// Its number on Linux.
    pub fn errno(self) -> i32 {
        match self {
            Self::Io => 5,
            Self::NoSpace => 28,
            Self::ReadOnly => 30,
            Self::Quota => 122,
        }
    }
}

/// What a read-only file system refuses.
const MUTATING: &[DiskOp] = &[
    DiskOp::Write,
    DiskOp::Create,
    DiskOp::Mkdir,
    DiskOp::Rename,
    DiskOp::Link,
    DiskOp::Unlink,
    DiskOp::Rmdir,
    DiskOp::Truncate,
    DiskOp::Attributes,
];

/// Which of the operations that a rule is about it hits.
#[derive(Clone, Copy, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum When {
    /// Every one.
    Always,
    /// The n-th from its installation on (from 1), and no other.
    Nth(u64),
    /// Each by a toss (0 to 1).
    Probability(f64),
}

/// What happens to an operation that is hit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Impairment {
    /// It fails, and nothing happens.
    Fail(DiskError),
    /// It happens later (milliseconds).
    Slow {
        /// How much later.
        delay_ms: u64,
    },
    /// It happens when the rule is gone, or never: a process that is killed meanwhile dies.
    Hang,
    /// An fsync fails once a file, and its pages are clean from then on: what they hold is read until a power cut, which
    /// takes it, and the next fsync succeeds (Rebello et al., Can Applications Recover from fsync Failures?, ATC 2020).
    LoseOnFsync,
    /// A write lands elsewhere in its file.
    Misdirect,
    /// One bit of every page that is read is another one, always the same, on the disk it is right.
    Rot,
    /// What is read and written passes at this rate, all of it together.
    Rate {
        /// At least 1000.
        bytes_per_s: u64,
    },
    /// There is only so much room left: what takes more fails with ENOSPC, and what is deleted makes room again. A file takes
    /// its length in blocks of 4 KiB, holes included, and a directory one of them.
    Full {
        /// When the rule begins to be in force (bytes).
        left: u64,
    },
}

/// A rule for a disk.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Rule {
    /// What it is about.
    pub ops: Vec<DiskOp>,
    /// Which paths below the mounted directory, as a [`pattern`].
    pub path: String,
    /// Which of those operations.
    pub when: When,
    /// What happens to them.
    pub effect: Impairment,
    /// For tosses.
    pub seed: u64,
}

/// When a change of a directory is durable.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Directories {
    /// When that directory is synced, as POSIX has it. A directory that was synced is reachable.
    #[default]
    Strict,
    /// When any file or directory is synced after it, as with a journal that all share (ext4, XFS).
    Journaled,
}

impl Rule {
    /// Whether it can be carried out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        pattern(&self.path)?;
        match self.when {
            When::Probability(p) if !(0.0..=1.0).contains(&p) => Err(format!("{p} is no probability: use 0 to 1")),
            When::Nth(0) => Err("the first operation is number 1".to_owned()),
            _ if matches!(self.effect, Impairment::Rate { bytes_per_s: ..1000 }) => {
                Err("a disk passes at least 1000 bytes a second: for nothing at all there is `disk-hang`".to_owned())
            }
            _ if self.ops.is_empty() => Err("a rule for no operation hits nothing".to_owned()),
            _ => Ok(()),
        }
    }
}

/// What a path in a rule stands for: `*` and `?` within a name, `**` for any number of directories; a name without a folder
/// is looked for in all of them.
///
/// # Errors
/// When it is no pattern.
pub fn pattern(path: &str) -> Result<glob::Pattern, String> {
    let whole = if path.contains('/') || path == "**" { path.to_owned() } else { format!("**/{path}") };
    glob::Pattern::new(&whole).map_err(|error| format!("`{path}` is no path pattern: {}", error.msg))
}

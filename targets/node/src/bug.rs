//! Planted bugs, switched on by `--bug NAME`: each breaks one promise on purpose, so that a test can show that it would
//! notice.

use clap::ValueEnum;

/// The promises that can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum Bug {
    /// Reads are answered from the local state, without asking whether somebody else leads by now
    StaleRead,
    /// A leader commits what only itself has written
    CommitOnMinority,
    /// Term and vote do not survive a restart
    ForgetVote,
    /// Nothing is synced: a power cut takes what was acknowledged
    NoFsync,
    /// Names of files are not made durable: a power cut brings old files back and takes new ones
    NoDirFsync,
    /// A torn end of the log stays where it is and is written behind: at the next start all that follows it counts as torn
    TornTail,
    /// What is read from the disk is believed whatever its checksum says
    NoChecksum,
    /// When the disk is full the log is not written any more, and everything is acknowledged as if it were
    EnospcIgnored,
    /// A request that is sent again is applied again: duplicates are not recognised
    ApplyTwice,
    /// A leader commits entries of earlier terms by counting copies (Raft, figure 8). It also appends no entry of its own
    /// at the start of its term, replicates only with its heartbeats and votes without pre-vote, which would all hide it
    CommitOldTerm,
    /// A leader answers reads by itself while it holds a lease, judged by a clock that can be set: when the clock jumps
    /// back, two leaders serve reads
    ClockLease,
}

/// The bugs that are on.
#[derive(Clone, Debug, Default)]
pub struct Bugs(pub Vec<Bug>);

impl Bugs {
    /// Whether `bug` is on.
    pub fn has(&self, bug: Bug) -> bool {
        self.0.contains(&bug)
    }
}

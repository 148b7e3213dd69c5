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
    /// Writes are acknowledged before they leave the process: kill -9 loses up to a second of them
    NoFsync,
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

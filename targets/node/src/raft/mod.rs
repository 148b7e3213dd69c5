//! Raft, sans-io: `step(now, event) -> actions`, without clock, socket, disk or randomness beyond a seeded stream.
//!
//! Sources: D. Ongaro and J. Ousterhout, "In Search of an Understandable Consensus Algorithm" (2014), and D. Ongaro's
//! thesis "Consensus: Bridging Theory and Practice" (2014); sections are named where they are used.
//!
//! The law that the driver must keep: everything that [`Action::Save`] names is durable before any action that comes
//! after it in the same batch is carried out. One exception: a leader's [`Message::Append`] may leave at once, while its
//! own disk still writes (thesis, section 10.2.1). Its term became durable before anybody voted for it, and nothing counts
//! as committed before the answers, which are seen after the disk is done.

mod core;
mod election;
mod install;
mod log;
mod progress;
mod reads;
mod replication;
#[cfg(test)]
mod simulation;
#[cfg(test)]
mod tests;
mod transfer;

pub use core::{Config, Raft, Role};
pub use log::Log;

use serde::{Deserialize, Serialize};
use std::sync::Arc;

/// A member of the cluster: its position in the list of peers.
pub type Member = usize;

/// Position in the log, from 1; 0 is before the first entry.
pub type Index = u64;

/// Election term.
pub type Term = u64;

/// Milliseconds of some monotonic clock.
pub type Millis = u64;

/// Names a proposal or read until it is answered; chosen by the driver.
pub type Token = u64;

/// One entry of the log.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Entry {
    /// Its position.
    pub index: Index,
    /// The term of the leader that made it.
    pub term: Term,
    /// A command of the state machine; empty for the entry with which a leader begins its term.
    pub data: Arc<str>,
}

/// What must survive a crash beside the log (Raft, figure 2, "persistent state").
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct HardState {
    /// Latest term seen.
    pub term: Term,
    /// Whom this member voted for in that term.
    pub vote: Option<Member>,
}

/// The state machine up to some entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Snapshot {
    /// The last entry that it contains.
    pub index: Index,
    /// The term of that entry.
    pub term: Term,
    /// The state, encoded by the state machine.
    pub data: Arc<str>,
}

/// What members tell each other.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
#[expect(missing_docs, reason = "fields are named as in the papers")]
pub enum Message {
    /// Would you vote for me in `term`? (Thesis, section 9.6.) Changes nothing at the receiver.
    PreVote { term: Term, last_index: Index, last_term: Term },
    /// The answer, with the term that was asked about when granted, else the receiver's.
    PreVoteReply { term: Term, granted: bool },
    /// Vote for me in `term`. (Raft, section 5.2.) `transfer`: the leader itself wants it (thesis, section 4.2.3).
    Vote { term: Term, last_index: Index, last_term: Term, transfer: bool },
    /// The answer.
    VoteReply { term: Term, granted: bool },
    /// Entries after `prev_index`, or none as a sign of life. (Raft, section 5.3.)
    Append { term: Term, prev_index: Index, prev_term: Term, entries: Vec<Entry>, commit: Index, round: u64 },
    /// The answer to the message about `prev_index`. `matched`: the last entry known to be the leader's, or, when refused,
    /// the last that may be.
    AppendReply { term: Term, success: bool, prev_index: Index, matched: Index, round: u64 },
    /// A piece of the state up to entry `index`, from byte `offset` on. (Raft, section 7.) The last piece is answered like
    /// an append.
    Install { term: Term, index: Index, last_term: Term, offset: usize, data: String, last: bool, round: u64 },
    /// How much of the state up to entry `index` has arrived (bytes).
    InstallReply { term: Term, index: Index, received: usize, round: u64 },
    /// Stand for election at once: the leader hands over to you. (Thesis, section 3.10.)
    TimeoutNow { term: Term },
}

impl Message {
    /// The sender's term; pre-votes ask about a term that nobody has yet.
    pub fn term(&self) -> Term {
        match self {
            Self::PreVote { term, .. }
            | Self::PreVoteReply { term, .. }
            | Self::Vote { term, .. }
            | Self::VoteReply { term, .. }
            | Self::Append { term, .. }
            | Self::AppendReply { term, .. }
            | Self::Install { term, .. }
            | Self::InstallReply { term, .. }
            | Self::TimeoutNow { term } => *term,
        }
    }
}

/// What happens to a member.
#[derive(Clone, Debug)]
#[expect(missing_docs, reason = "fields are named as in the papers")]
pub enum Event {
    /// Time has passed.
    Tick,
    /// A message came in.
    Receive { from: Member, message: Message },
    /// A client wants this in the log.
    Propose { token: Token, data: Arc<str> },
    /// A client wants to read what is committed now.
    Read { token: Token },
    /// Somebody wants this member, if it leads, to hand leadership over.
    Transfer { to: Member },
    /// The driver has handed over all that it had: send what is new.
    Flush,
    /// The state machine was saved up to `snapshot.index`: the log before it can go.
    Compacted { snapshot: Snapshot },
}

/// What the driver must do, in order.
#[derive(Clone, Debug, PartialEq)]
#[expect(missing_docs, reason = "fields are named as in the papers")]
pub enum Action {
    /// Make durable: the hard state, and entries that replace everything from the first one's index on.
    Save { hard: HardState, entries: Vec<Entry> },
    /// Make this snapshot durable, replace log and state machine by it.
    Restore { hard: HardState, snapshot: Snapshot, keep: Vec<Entry> },
    /// Send a message.
    Send { to: Member, message: Message },
    /// Apply committed entries to the state machine, in order.
    Apply { entries: Vec<Entry> },
    /// The proposal is in the leader's log at this place; it is committed when an entry of this term is applied there.
    Accepted { token: Token, index: Index, term: Term },
    /// Not the leader: nothing was done.
    Refused { token: Token },
    /// The read may be answered from the state machine once it has applied up to `index`.
    ReadAt { token: Token, index: Index },
    /// The read cannot be answered: leadership was lost.
    ReadFailed { token: Token },
    /// Something worth a line in the log.
    Say { what: String },
}

//! Read-index (thesis, section 6.4): linearizable reads without an entry in the log.
//!
//! Law: a read is answered from a state that holds everything committed before the read came in. For that the leader
//! notes its commit index, which is only complete once an entry of its own term is committed, and then hears from a
//! majority, in a round of messages that began after the read came in, that nobody else leads yet.

use super::core::{Raft, Role};
use super::{Action, Index, Token};

/// A read that waits for a round of answers.
#[derive(Clone, Debug)]
pub(super) struct PendingRead {
    pub(super) token: Token,
    round: u64,
    index: Index,
}

impl Raft {
    pub(super) fn read(&mut self, token: Token) {
        if self.role != Role::Leader {
            self.actions.push(Action::Refused { token });
        } else if self.log.term_at(self.commit) != Some(self.hard.term) && !self.config.commit_old_term {
            // What earlier leaders committed is only known once this term has committed something.
            self.early_reads.push(token);
        } else {
            self.reads.push(PendingRead { token, round: self.round + 1, index: self.commit });
        }
    }

    /// Whether a round must begin: one serves all reads that came in since the last.
    pub(super) fn begin_round(&mut self) -> bool {
        let is_due = self.reads.iter().any(|read| read.round > self.round);
        self.round += u64::from(is_due);
        is_due
    }

    /// The term's first entry is committed: reads that waited for it go on.
    pub(super) fn release_early_reads(&mut self) {
        if self.role == Role::Leader && self.log.term_at(self.commit) == Some(self.hard.term) {
            for token in std::mem::take(&mut self.early_reads) {
                self.read(token);
            }
        }
    }

    /// Answers the reads whose round a majority has answered.
    pub(super) fn confirm_reads(&mut self) {
        if self.reads.is_empty() {
            return;
        }
        let confirmed = self.agreed(|progress| progress.round, self.round);
        let actions = &mut self.actions;
        self.reads.retain(|read| {
            let done = read.round <= confirmed;
            if done {
                actions.push(Action::ReadAt { token: read.token, index: read.index });
            }
            !done
        });
    }
}

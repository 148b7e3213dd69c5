//! Leadership handed over on purpose (thesis, section 3.10).
//!
//! The leader takes no proposals any more, waits until the other has its whole log, and tells it to stand at once. Safety
//! rests on votes alone, as ever: the other wins only with a log that a majority finds up to date. When it does not lead
//! within an election timeout, the old leader goes on as if nothing had been.

use super::core::{Raft, Role};
use super::{Member, Message, Millis};

/// A transfer under way.
#[derive(Clone, Debug)]
pub(super) struct Transfer {
    to: Member,
    /// Given up then.
    until: Millis,
    /// Whether the other was told to stand.
    told: bool,
}

impl Raft {
    /// Whether leadership is being handed over, so that nothing new may enter the log.
    pub(super) fn is_leaving(&self) -> bool {
        self.transfer.is_some()
    }

    /// Begins to hand leadership to `to`; nothing unless this member leads and `to` is another.
    pub(super) fn transfer(&mut self, to: Member) {
        if self.role == Role::Leader && to != self.config.id && to < self.config.members {
            self.say(format!("hands leadership of term {} to member {to}", self.hard.term));
            self.transfer = Some(Transfer { to, until: self.now + self.config.election_ms, told: false });
            self.go_on_transferring();
        }
    }

    /// Tells the other to stand as soon as it has everything; gives up when it takes too long.
    pub(super) fn go_on_transferring(&mut self) {
        let Some(Transfer { to, until, told }) = self.transfer.clone() else { return };
        if self.role != Role::Leader {
            self.transfer = None;
        } else if self.now >= until {
            self.say(format!("member {to} did not take over: goes on leading term {}", self.hard.term));
            self.transfer = None;
        } else if !told && self.progress[to].matched == self.log.last_index() {
            self.transfer = Some(Transfer { to, until, told: true });
            self.send(to, Message::TimeoutNow { term: self.hard.term });
        }
    }

    /// The leader of this very term wants us to take over.
    pub(super) fn on_timeout_now(&mut self, from: Member) {
        if self.role == Role::Follower && self.leader == Some(from) {
            self.stand(true);
        }
    }
}

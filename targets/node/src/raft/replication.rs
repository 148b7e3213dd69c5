//! The log on its way from the leader to the others, and what of it is committed.
//!
//! Law (log matching, Raft, section 5.3): two logs with an entry of the same index and term are the same up to there,
//! because a follower takes entries only when the one before them is the leader's.

use super::core::{Raft, Role};
use super::progress::{Mode, Progress};
use super::{Action, Entry, Index, Member, Message, Term, Token};
use std::sync::Arc;

/// Most entries in one message.
const APPEND_MAX: usize = 512;
/// Most entries in a message to a follower whose log is not known: it may be sent in vain.
const PROBE_MAX: usize = 32;
/// A message ends with the entry that reaches this many bytes.
const APPEND_LEN_MAX: usize = 1 << 20;
/// Most entries on their way to one follower.
const WINDOW_MAX: u64 = 4096;

impl Raft {
    /// Adds an entry to the own log.
    pub(super) fn append(&mut self, data: Arc<str>) -> Index {
        let entry = Entry { index: self.log.last_index() + 1, term: self.hard.term, data };
        let index = entry.index;
        self.log.put(std::slice::from_ref(&entry));
        self.save(vec![entry]);
        index
    }

    pub(super) fn propose(&mut self, token: Token, data: Arc<str>) {
        if self.role != Role::Leader || self.is_leaving() {
            self.actions.push(Action::Refused { token });
            return;
        }
        let index = self.append(data);
        self.actions.push(Action::Accepted { token, index, term: self.hard.term });
    }

    pub(super) fn flush(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        if self.begin_round() {
            self.broadcast(true);
            self.confirm_reads();
        } else if !self.config.commit_old_term {
            self.broadcast(false);
        }
        self.advance();
        self.go_on_transferring();
    }

    /// Sends every follower what it lacks; `always` also when that is nothing.
    pub(super) fn broadcast(&mut self, always: bool) {
        if always {
            self.heartbeat_due = self.now + self.config.heartbeat_ms;
        }
        for peer in self.peers() {
            self.replicate(peer, always);
        }
    }

    fn replicate(&mut self, peer: Member, always: bool) {
        let Progress { next, matched, .. } = self.progress[peer];
        let prev_index = next - 1;
        let (most, advance) = match &self.progress[peer].mode {
            Mode::Install(_) => return self.go_on_installing(peer, always),
            Mode::Probe { sent: true } if !always => return,
            Mode::Probe { .. } => (PROBE_MAX, false),
            Mode::Stream => (APPEND_MAX.min((matched + WINDOW_MAX).saturating_sub(prev_index) as usize), true),
        };
        let Some(prev_term) = self.log.term_at(prev_index) else { return self.install(peer) };
        let mut len = 0;
        let fits = |entry: &&Entry| {
            let before = len;
            len += entry.data.len();
            before < APPEND_LEN_MAX
        };
        let entries: Vec<Entry> = self.log.after(prev_index, most).iter().take_while(fits).cloned().collect();
        if entries.is_empty() && !always {
            return;
        }
        if advance {
            self.progress[peer].next += entries.len() as u64;
        } else {
            self.progress[peer].mode = Mode::Probe { sent: true };
        }
        let (term, commit, round) = (self.hard.term, self.commit, self.round);
        self.send(peer, Message::Append { term, prev_index, prev_term, entries, commit, round });
    }

    /// Raft, section 5.3, at the follower.
    pub(super) fn on_append(
        &mut self,
        from: Member,
        prev_index: Index,
        prev_term: Term,
        entries: &[Entry],
        commit: Index,
        round: u64,
    ) {
        let term = self.hard.term;
        // What the snapshot holds is committed: the same in every log.
        let known = prev_index < self.log.base() || self.log.term_at(prev_index) == Some(prev_term);
        if !known {
            // The whole differing term is skipped at once (Raft, end of section 5.3).
            let matched = if prev_index > self.log.last_index() {
                self.log.last_index()
            } else {
                self.log.first_of_term(prev_index).saturating_sub(1)
            };
            self.send(from, Message::AppendReply { term, success: false, prev_index, matched, round });
            return;
        }
        let matched = prev_index + entries.len() as u64;
        // Only what differs is replaced: an old message must not cut off what a newer one brought.
        let new = entries.iter().position(|e| e.index > self.log.base() && self.log.term_at(e.index) != Some(e.term));
        if let Some(new) = new {
            self.log.put(&entries[new..]);
            self.save(entries[new..].to_vec());
        }
        self.send(from, Message::AppendReply { term, success: true, prev_index, matched, round });
        // Beyond `matched` our log may still differ from the leader's.
        self.commit_to(commit.min(matched));
    }

    pub(super) fn on_append_reply(
        &mut self,
        from: Member,
        success: bool,
        prev_index: Index,
        matched: Index,
        round: u64,
    ) {
        self.heard_from(from, round);
        let progress = &mut self.progress[from];
        if success {
            progress.accept(matched);
            self.advance();
        } else if progress.refuse(prev_index, matched) {
            self.replicate(from, true);
        }
        self.confirm_reads();
    }

    /// A follower has answered: it takes us for the leader of this term.
    pub(super) fn heard_from(&mut self, from: Member, round: u64) {
        let progress = &mut self.progress[from];
        progress.heard = self.now;
        progress.round = progress.round.max(round);
    }

    /// The largest value that a majority has reached.
    pub(super) fn agreed(&self, of: impl Fn(&Progress) -> u64, own: u64) -> u64 {
        let mut values: Vec<u64> = self.peers().map(|peer| of(&self.progress[peer])).chain([own]).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values[self.quorum() - 1]
    }

    /// Commits what a majority has, if it ends with an entry of this term: an older one may still be overwritten (Raft,
    /// section 5.4.2 and figure 8).
    pub(super) fn advance(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        // Our own entries count: the driver makes them durable before it carries out anything that tells of the commit.
        let mut index = self.agreed(|progress| progress.matched, self.log.last_index());
        if self.config.commit_on_minority {
            index = self.log.last_index();
        }
        if self.log.term_at(index) == Some(self.hard.term) || self.config.commit_old_term {
            self.commit_to(index);
        }
    }

    pub(super) fn commit_to(&mut self, index: Index) {
        self.commit = self.commit.max(index.min(self.log.last_index()));
        if self.commit > self.applied {
            let entries = self.log.range(self.applied, self.commit).to_vec();
            self.applied = self.commit;
            self.actions.push(Action::Apply { entries });
        }
        self.release_early_reads();
    }
}

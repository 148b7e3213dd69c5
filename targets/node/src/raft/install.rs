//! Snapshots for followers that lack what the leader's log no longer has (Raft, section 7).
//!
//! A snapshot travels in pieces, each answered with how much has arrived, so that a large one neither blocks signs of
//! life nor has to fit into one message; a follower that restarts meanwhile begins anew.

use super::core::{Raft, Role};
use super::progress::{Install, Mode};
use super::{Action, Index, Member, Message, Snapshot, Term};
use std::sync::Arc;

/// A snapshot of which some pieces have arrived.
#[derive(Clone, Debug)]
pub(super) struct Incoming {
    index: Index,
    last_term: Term,
    data: String,
}

/// What a piece says about itself.
pub(super) struct Piece<'a> {
    pub(super) index: Index,
    pub(super) last_term: Term,
    pub(super) offset: usize,
    pub(super) data: &'a str,
    pub(super) last: bool,
}

impl Raft {
    /// Whether a follower that answers is being sent a snapshot: then the log after it should stay, or it would need the
    /// next snapshot at once.
    pub fn is_installing(&self) -> bool {
        let recent = |at| self.now.saturating_sub(at) < 2 * self.config.election_ms;
        self.role == Role::Leader
            && self.peers().any(|p| {
                let progress = &self.progress[p];
                matches!(progress.mode, Mode::Install(_)) && recent(progress.heard)
            })
    }

    /// Begins to send our snapshot.
    pub(super) fn install(&mut self, peer: Member) {
        let snapshot = self.log.snapshot().clone();
        self.say(format!("sends member {peer} a snapshot up to entry {}", snapshot.index));
        self.progress[peer].mode = Mode::Install(Install { snapshot, offset: 0, sent: self.now });
        self.send_piece(peer);
    }

    /// A piece without an answer is sent again now and then; meanwhile the follower gets signs of life. Those are about
    /// the beginning of the log, which is the same everywhere.
    pub(super) fn go_on_installing(&mut self, peer: Member, always: bool) {
        let Mode::Install(install) = &self.progress[peer].mode else { return };
        if self.now >= install.sent + self.config.election_ms {
            self.send_piece(peer);
        } else if always {
            let (term, round) = (self.hard.term, self.round);
            let sign = Message::Append { term, prev_index: 0, prev_term: 0, entries: Vec::new(), commit: 0, round };
            self.send(peer, sign);
        }
    }

    fn send_piece(&mut self, peer: Member) {
        let (term, round, now) = (self.hard.term, self.round, self.now);
        let Mode::Install(install) = &mut self.progress[peer].mode else { return };
        install.sent = now;
        let (data, offset) = (&install.snapshot.data, install.offset);
        let mut end = (offset + self.config.piece_len.max(4)).min(data.len());
        while !data.is_char_boundary(end) {
            end -= 1;
        }
        let message = Message::Install {
            term,
            index: install.snapshot.index,
            last_term: install.snapshot.term,
            offset,
            data: data[offset..end].to_owned(),
            last: end == data.len(),
            round,
        };
        self.send(peer, message);
    }

    pub(super) fn on_install_reply(&mut self, from: Member, index: Index, received: usize, round: u64) {
        self.heard_from(from, round);
        if let Mode::Install(install) = &mut self.progress[from].mode
            && install.snapshot.index == index
            // The same again: a repeated answer, which must not make two streams of one.
            && received != install.offset
            && install.snapshot.data.is_char_boundary(received)
        {
            install.offset = received;
            self.send_piece(from);
        }
        self.confirm_reads();
    }

    pub(super) fn on_install(&mut self, from: Member, piece: &Piece<'_>, round: u64) {
        let (term, index) = (self.hard.term, piece.index);
        let done = Message::AppendReply { term, success: true, prev_index: index, matched: index, round };
        if index <= self.commit {
            self.incoming = None;
            self.send(from, done);
            return;
        }
        if piece.offset == 0 {
            self.incoming = Some(Incoming { index, last_term: piece.last_term, data: String::new() });
        }
        let incoming = self.incoming.as_mut().filter(|i| (i.index, i.last_term) == (index, piece.last_term));
        let mut received = 0;
        if let Some(incoming) = incoming {
            if incoming.data.len() == piece.offset {
                incoming.data.push_str(piece.data);
                if piece.last {
                    let data = Arc::from(std::mem::take(&mut incoming.data));
                    self.incoming = None;
                    self.restore(Snapshot { index, term: piece.last_term, data });
                    self.send(from, done);
                    return;
                }
            }
            received = incoming.data.len();
        }
        self.send(from, Message::InstallReply { term, index, received, round });
    }

    /// Law: what the snapshot holds is committed, so it replaces the state; entries after it stay only if they follow it.
    fn restore(&mut self, snapshot: Snapshot) {
        self.say(format!("restores a snapshot up to entry {}", snapshot.index));
        self.log.compact(snapshot.clone());
        self.commit = snapshot.index;
        self.applied = snapshot.index;
        self.actions.push(Action::Restore { hard: self.hard, snapshot, keep: self.log.entries().to_vec() });
    }
}

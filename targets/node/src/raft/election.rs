//! Elections: who may lead, and when.
//!
//! Law (election safety, Raft, section 5.2): at most one leader in a term, because a member votes once in a term and
//! remembers that. Law (leader completeness, section 5.4): whoever is elected has everything that was ever committed,
//! because a majority holds it and none of them votes for a log that is behind its own.

use super::core::{Raft, Role};
use super::progress::Progress;
use super::{Action, HardState, Index, Member, Message, Term, Token};
use rand::RngExt;
use std::sync::Arc;

impl Raft {
    /// Draws the next moment to stand; spread, so that votes are seldom split (Raft, section 5.2).
    pub(super) fn rearm(&mut self) {
        let election_ms = self.config.election_ms;
        self.election_due = self.now + election_ms + self.rng.random_range(0..=election_ms);
    }

    /// Whether somebody leads, as far as this member can tell: then nobody else is to be helped into office (leader
    /// stickiness, thesis, section 4.2.3).
    fn is_led(&self) -> bool {
        let heard = |at| self.now.saturating_sub(at) < self.config.election_ms;
        self.role == Role::Leader || self.leader_heard.is_some_and(heard)
    }

    /// Whether a vote may be asked for in a later term than ours. A request that may not is not even answered: it must
    /// not depose a leader that works, unless that leader wants it.
    pub(super) fn may_ask(&self, message: &Message) -> bool {
        let disturbs =
            matches!(message, Message::Vote { term, transfer: false, .. } if *term > self.hard.term) && self.is_led();
        !disturbs || self.config.commit_old_term
    }

    /// Nobody leads any more.
    pub(super) fn on_election_due(&mut self) {
        if self.config.commit_old_term { self.stand(false) } else { self.ask_around() }
    }

    /// Pre-vote: would we win? (Thesis, section 9.6.) So a member that was cut off does not disturb when it returns.
    fn ask_around(&mut self) {
        self.role = Role::PreCandidate;
        self.leader = None;
        self.rearm();
        self.ask_votes(None);
    }

    /// Raft, section 5.2. `transfer`: the leader wants it.
    pub(super) fn stand(&mut self, transfer: bool) {
        self.role = Role::Candidate;
        self.leader = None;
        self.hard = HardState { term: self.hard.term + 1, vote: Some(self.config.id) };
        self.save(Vec::new());
        self.say(format!("stands for election in term {}", self.hard.term));
        self.rearm();
        self.ask_votes(Some(transfer));
    }

    /// Asks everybody: whether they would vote, or for the vote and with whose leave.
    fn ask_votes(&mut self, transfer: Option<bool>) {
        self.granted = vec![false; self.config.members];
        self.granted[self.config.id] = true;
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        for peer in self.peers() {
            let message = match transfer {
                None => Message::PreVote { term: self.hard.term + 1, last_index, last_term },
                Some(transfer) => Message::Vote { term: self.hard.term, last_index, last_term, transfer },
            };
            self.send(peer, message);
        }
        self.count_votes();
    }

    fn count_votes(&mut self) {
        if self.granted.iter().filter(|granted| **granted).count() < self.quorum() {
            return;
        }
        match self.role {
            Role::PreCandidate => self.stand(false),
            Role::Candidate => self.lead(),
            Role::Follower | Role::Leader => {}
        }
    }

    fn lead(&mut self) {
        self.role = Role::Leader;
        self.leader = Some(self.config.id);
        self.transfer = None;
        self.progress = vec![Progress::new(&self.log, self.now); self.config.members];
        self.say(format!("leader of term {}", self.hard.term));
        if !self.config.commit_old_term {
            // Entries of earlier terms are only committed together with one of this term (Raft, section 5.4.2): so there
            // must be one, soon (thesis, section 6.4).
            self.append(Arc::from(""));
        }
        self.broadcast(true);
        self.advance();
    }

    /// Becomes a follower in `term`.
    pub(super) fn follow(&mut self, term: Term, leader: Option<Member>) {
        if term > self.hard.term {
            self.hard = HardState { term, vote: None };
            self.save(Vec::new());
        }
        if self.role == Role::Leader {
            let failed: Vec<Token> =
                self.reads.drain(..).map(|read| read.token).chain(self.early_reads.drain(..)).collect();
            self.actions.extend(failed.into_iter().map(|token| Action::ReadFailed { token }));
        }
        if self.role != Role::Follower {
            self.rearm();
        }
        self.role = Role::Follower;
        if let Some(leader) = leader.filter(|_| leader != self.leader) {
            self.say(format!("follows member {leader} in term {term}"));
        }
        self.leader = leader;
    }

    /// Steps down when a majority no longer answers: it may have elected somebody else, whom clients had better ask
    /// (thesis, section 6.2).
    pub(super) fn check_majority(&mut self) {
        let limit = 2 * self.config.election_ms;
        let heard = self.peers().filter(|&p| self.now.saturating_sub(self.progress[p].heard) < limit).count();
        if heard + 1 < self.quorum() {
            self.say("no majority answers: stepping down".to_owned());
            self.follow(self.hard.term, None);
        }
    }

    /// Raft, section 5.4.1: the log of whoever is elected must hold everything committed.
    fn is_up_to_date(&self, last_index: Index, last_term: Term) -> bool {
        (last_term, last_index) >= (self.log.last_term(), self.log.last_index())
    }

    pub(super) fn on_pre_vote(&mut self, from: Member, term: Term, last_index: Index, last_term: Term) {
        let granted = term > self.hard.term && !self.is_led() && self.is_up_to_date(last_index, last_term);
        let term = if granted { term } else { self.hard.term };
        self.send(from, Message::PreVoteReply { term, granted });
    }

    pub(super) fn on_vote(&mut self, from: Member, term: Term, last_index: Index, last_term: Term) {
        let free = self.hard.vote.is_none_or(|vote| vote == from);
        let granted = term == self.hard.term && free && self.is_up_to_date(last_index, last_term);
        if granted {
            self.hard.vote = Some(from);
            // Durable before the answer leaves, or this member could vote twice in a term.
            self.save(Vec::new());
            self.rearm();
        }
        self.send(from, Message::VoteReply { term: self.hard.term, granted });
    }

    /// A vote came in; `asked` is the role in which it was asked for, `of` the term that it counts in.
    pub(super) fn on_vote_reply(&mut self, from: Member, asked: Role, of: Term, granted: bool) {
        let term = if asked == Role::PreCandidate { self.hard.term + 1 } else { self.hard.term };
        if self.role == asked && granted && of == term {
            self.granted[from] = true;
            self.count_votes();
        }
    }
}

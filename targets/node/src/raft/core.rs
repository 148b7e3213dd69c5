//! One member's part in the protocol.

use super::install::{Incoming, Piece};
use super::progress::Progress;
use super::reads::PendingRead;
use super::transfer::Transfer;
use super::{Action, Entry, Event, HardState, Index, Log, Member, Message, Millis, Term, Token};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// What a member is told once.
#[derive(Clone, Debug)]
pub struct Config {
    /// Which member this is.
    pub id: Member,
    /// How many members there are.
    pub members: usize,
    /// A follower without a leader for this long, up to twice as long, stands for election.
    pub election_ms: Millis,
    /// Pause between a leader's signs of life.
    pub heartbeat_ms: Millis,
    /// Length of the pieces in which snapshots are sent (bytes; at least 4, so that any character fits).
    pub piece_len: usize,
    /// For election timeouts.
    pub seed: u64,
    /// Planted bug: commits what only the leader has.
    pub commit_on_minority: bool,
    /// Planted bug: commits old terms by counting, see [`Bug`](crate::bug::Bug::CommitOldTerm).
    pub commit_old_term: bool,
}

/// What a member is at the moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// Follows whoever leads.
    Follower,
    /// Asks whether it would be elected.
    PreCandidate,
    /// Stands for election.
    Candidate,
    /// Leads.
    Leader,
}

/// One member.
#[derive(Clone, Debug)]
pub struct Raft {
    pub(super) config: Config,
    pub(super) hard: HardState,
    pub(super) log: Log,
    pub(super) commit: Index,
    pub(super) applied: Index,
    pub(super) role: Role,
    pub(super) leader: Option<Member>,
    /// When the leader was last heard.
    pub(super) leader_heard: Option<Millis>,
    pub(super) election_due: Millis,
    pub(super) heartbeat_due: Millis,
    pub(super) granted: Vec<bool>,
    pub(super) progress: Vec<Progress>,
    /// Number of the latest round of heartbeats.
    pub(super) round: u64,
    pub(super) reads: Vec<PendingRead>,
    /// Reads that came before this term had committed anything.
    pub(super) early_reads: Vec<Token>,
    /// Leadership that is being handed over.
    pub(super) transfer: Option<Transfer>,
    /// A snapshot that is arriving.
    pub(super) incoming: Option<Incoming>,
    pub(super) rng: ChaCha8Rng,
    pub(super) actions: Vec<Action>,
    pub(super) now: Millis,
}

impl Raft {
    /// A member that comes back with what was durable.
    pub fn new(config: Config, hard: HardState, log: Log, now: Millis) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(config.seed ^ ((config.id as u64 + 1) << 32));
        let (members, base) = (config.members, log.base());
        let mut raft = Self {
            progress: vec![Progress::new(&log, now); members],
            config,
            hard,
            log,
            commit: base,
            applied: base,
            role: Role::Follower,
            leader: None,
            leader_heard: None,
            election_due: 0,
            heartbeat_due: 0,
            granted: vec![false; members],
            round: 0,
            reads: Vec::new(),
            early_reads: Vec::new(),
            transfer: None,
            incoming: None,
            rng,
            actions: Vec::new(),
            now,
        };
        // Nobody leads yet as far as we know: the first to ask may have it soon.
        let election_ms = raft.config.election_ms;
        raft.election_due = now + raft.rng.random_range(election_ms / 8..=election_ms);
        raft
    }

    /// What it is.
    pub fn role(&self) -> Role {
        self.role
    }
    /// Who leads, as far as it knows.
    pub fn leader(&self) -> Option<Member> {
        self.leader
    }
    /// Its term.
    pub fn term(&self) -> Term {
        self.hard.term
    }
    /// The last entry known to be committed.
    pub fn commit(&self) -> Index {
        self.commit
    }
    /// Its log.
    pub fn log(&self) -> &Log {
        &self.log
    }

    /// What follows from `event` at `now`.
    pub fn step(&mut self, now: Millis, event: Event) -> Vec<Action> {
        self.now = now;
        match event {
            Event::Tick => self.tick(),
            Event::Receive { from, message } => self.receive(from, message),
            Event::Propose { token, data } => self.propose(token, data),
            Event::Read { token } => self.read(token),
            Event::Transfer { to } => self.transfer(to),
            Event::Flush => self.flush(),
            Event::Compacted { snapshot } => self.log.compact(snapshot),
        }
        std::mem::take(&mut self.actions)
    }

    pub(super) fn quorum(&self) -> usize {
        self.config.members / 2 + 1
    }

    pub(super) fn peers(&self) -> impl Iterator<Item = Member> + use<> {
        let id = self.config.id;
        (0..self.config.members).filter(move |peer| *peer != id)
    }

    pub(super) fn send(&mut self, to: Member, message: Message) {
        self.actions.push(Action::Send { to, message });
    }

    pub(super) fn say(&mut self, what: String) {
        self.actions.push(Action::Say { what });
    }

    pub(super) fn save(&mut self, entries: Vec<Entry>) {
        self.actions.push(Action::Save { hard: self.hard, entries });
    }

    fn tick(&mut self) {
        if self.role == Role::Leader {
            self.check_majority();
            self.go_on_transferring();
            if self.role == Role::Leader && self.now >= self.heartbeat_due {
                self.broadcast(true);
            }
        } else if self.now >= self.election_due {
            self.on_election_due();
        }
    }

    fn receive(&mut self, from: Member, message: Message) {
        if !self.may_ask(&message) {
            return;
        }
        let term = message.term();
        // A pre-vote is about a term that nobody is in yet, and so is a granted answer to it.
        let asks_ahead = matches!(message, Message::PreVote { .. } | Message::PreVoteReply { granted: true, .. });
        if term > self.hard.term && !asks_ahead {
            self.follow(term, None);
        }
        match message {
            Message::PreVote { term, last_index, last_term } => self.on_pre_vote(from, term, last_index, last_term),
            Message::Vote { term, last_index, last_term, .. } => self.on_vote(from, term, last_index, last_term),
            Message::TimeoutNow { term } => {
                if term == self.hard.term {
                    self.on_timeout_now(from);
                }
            }
            Message::PreVoteReply { term, granted } => self.on_vote_reply(from, Role::PreCandidate, term, granted),
            Message::VoteReply { term, granted } => self.on_vote_reply(from, Role::Candidate, term, granted),
            Message::Append { term, prev_index, prev_term, entries, commit, round } => {
                if self.hears_leader(from, term, round) {
                    self.on_append(from, prev_index, prev_term, &entries, commit, round);
                }
            }
            Message::Install { term, index, last_term, offset, data, last, round } => {
                if self.hears_leader(from, term, round) {
                    self.on_install(from, &Piece { index, last_term, offset, data: &data, last }, round);
                }
            }
            Message::AppendReply { success, prev_index, matched, round, .. } => {
                if self.is_answer_to_leader(term) {
                    self.on_append_reply(from, success, prev_index, matched, round);
                }
            }
            Message::InstallReply { index, received, round, .. } => {
                if self.is_answer_to_leader(term) {
                    self.on_install_reply(from, index, received, round);
                }
            }
        }
    }

    /// Whether an answer of `term` is to what we sent as the leader of this very term.
    fn is_answer_to_leader(&self, term: Term) -> bool {
        self.role == Role::Leader && term == self.hard.term
    }

    /// Whether the sender leads the current term; tells it about a newer one.
    fn hears_leader(&mut self, from: Member, term: Term, round: u64) -> bool {
        if term < self.hard.term {
            let term = self.hard.term;
            self.send(from, Message::AppendReply { term, success: false, prev_index: 0, matched: 0, round });
            return false;
        }
        self.follow(term, Some(from));
        self.leader_heard = Some(self.now);
        self.rearm();
        true
    }
}

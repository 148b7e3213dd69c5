//! One member's part in the protocol.

use super::{Action, Entry, Event, HardState, Index, Log, Member, Message, Millis, Snapshot, Term, Token};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::sync::Arc;

/// Most entries in one message.
const APPEND_MAX: usize = 512;

/// Most entries on their way to one follower.
const WINDOW_MAX: u64 = 4096;

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

/// What a leader knows of a member.
#[derive(Clone, Debug, Default)]
struct Progress {
    /// The next entry to send.
    next: Index,
    /// The last entry known to be there.
    matched: Index,
    /// The last round that was answered.
    round: u64,
    /// When it last answered.
    heard: Millis,
    /// When a snapshot was last sent: not again with every message.
    installed: Option<Millis>,
}

/// A read that waits for a round of heartbeats.
#[derive(Clone, Debug)]
struct PendingRead {
    token: Token,
    round: u64,
    index: Index,
}

/// One member.
#[derive(Clone, Debug)]
pub struct Raft {
    config: Config,
    hard: HardState,
    log: Log,
    commit: Index,
    applied: Index,
    role: Role,
    leader: Option<Member>,
    /// When the leader was last heard.
    leader_heard: Option<Millis>,
    election_due: Millis,
    heartbeat_due: Millis,
    granted: Vec<bool>,
    progress: Vec<Progress>,
    /// Number of the latest round of heartbeats.
    round: u64,
    reads: Vec<PendingRead>,
    /// Reads that came before this term had committed anything.
    early_reads: Vec<Token>,
    rng: ChaCha8Rng,
    actions: Vec<Action>,
    now: Millis,
}

impl Raft {
    /// A member that comes back with what was durable.
    pub fn new(config: Config, hard: HardState, log: Log, now: Millis) -> Self {
        let rng = ChaCha8Rng::seed_from_u64(config.seed ^ ((config.id as u64 + 1) << 32));
        let (members, base) = (config.members, log.base());
        let mut raft = Self {
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
            progress: vec![Progress::default(); members],
            round: 0,
            reads: Vec::new(),
            early_reads: Vec::new(),
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
            Event::Flush => self.flush(),
            Event::Compacted { snapshot } => self.log.compact(snapshot),
        }
        std::mem::take(&mut self.actions)
    }

    fn quorum(&self) -> usize {
        self.config.members / 2 + 1
    }

    fn peers(&self) -> impl Iterator<Item = Member> + use<> {
        let id = self.config.id;
        (0..self.config.members).filter(move |peer| *peer != id)
    }

    fn send(&mut self, to: Member, message: Message) {
        self.actions.push(Action::Send { to, message });
    }

    fn say(&mut self, what: String) {
        self.actions.push(Action::Say { what });
    }

    fn save(&mut self, entries: Vec<Entry>) {
        self.actions.push(Action::Save { hard: self.hard, entries });
    }

    fn rearm(&mut self) {
        let election_ms = self.config.election_ms;
        self.election_due = self.now + election_ms + self.rng.random_range(0..=election_ms);
    }

    fn tick(&mut self) {
        if self.role == Role::Leader {
            // A leader that a majority no longer answers may have a successor: clients had better ask that one
            // (thesis, section 6.2).
            let limit = 2 * self.config.election_ms;
            let heard = self.peers().filter(|&p| self.now.saturating_sub(self.progress[p].heard) < limit).count();
            if heard + 1 < self.quorum() {
                self.say("no majority answers: stepping down".to_owned());
                self.follow(self.hard.term, None);
                return;
            }
            if self.now >= self.heartbeat_due {
                self.broadcast(true);
            }
        } else if self.now >= self.election_due {
            if self.config.commit_old_term { self.stand() } else { self.ask_around() }
        }
    }

    /// Pre-vote: would we win? (Thesis, section 9.6.) So a member that was cut off does not disturb when it returns.
    fn ask_around(&mut self) {
        self.role = Role::PreCandidate;
        self.leader = None;
        self.rearm();
        self.ask_votes(true);
    }

    /// Raft, section 5.2.
    fn stand(&mut self) {
        self.role = Role::Candidate;
        self.leader = None;
        self.hard = HardState { term: self.hard.term + 1, vote: Some(self.config.id) };
        self.save(Vec::new());
        self.rearm();
        self.ask_votes(false);
    }

    fn ask_votes(&mut self, pre: bool) {
        self.granted = vec![false; self.config.members];
        self.granted[self.config.id] = true;
        let (last_index, last_term) = (self.log.last_index(), self.log.last_term());
        for peer in self.peers() {
            let message = if pre {
                Message::PreVote { term: self.hard.term + 1, last_index, last_term }
            } else {
                Message::Vote { term: self.hard.term, last_index, last_term }
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
            Role::PreCandidate => self.stand(),
            Role::Candidate => self.lead(),
            _ => {}
        }
    }

    fn lead(&mut self) {
        self.role = Role::Leader;
        self.leader = Some(self.config.id);
        let next = self.log.last_index() + 1;
        self.progress = vec![Progress { next, heard: self.now, ..Progress::default() }; self.config.members];
        self.say(format!("leader of term {}", self.hard.term));
        if !self.config.commit_old_term {
            // Entries of earlier terms are only committed together with one of this term (Raft, section 5.4.2): so there
            // must be one, soon.
            self.append(Arc::from(""));
        }
        self.broadcast(true);
        self.advance();
    }

    /// Becomes a follower in `term`.
    fn follow(&mut self, term: Term, leader: Option<Member>) {
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
        if leader.is_some() && leader != self.leader {
            self.say(format!("follows member {} in term {term}", leader.unwrap_or_default()));
        }
        self.leader = leader;
    }

    fn append(&mut self, data: Arc<str>) -> Index {
        let entry = Entry { index: self.log.last_index() + 1, term: self.hard.term, data };
        let index = entry.index;
        self.log.put(std::slice::from_ref(&entry));
        self.save(vec![entry]);
        index
    }

    fn propose(&mut self, token: Token, data: Arc<str>) {
        if self.role != Role::Leader {
            self.actions.push(Action::Refused { token });
            return;
        }
        let index = self.append(data);
        self.actions.push(Action::Accepted { token, index, term: self.hard.term });
    }

    /// Read-index (thesis, section 6.4): the answer may not be older than what is committed now, and nobody else may lead
    /// now.
    fn read(&mut self, token: Token) {
        if self.role != Role::Leader {
            self.actions.push(Action::Refused { token });
        } else if self.log.term_at(self.commit) != Some(self.hard.term) && !self.config.commit_old_term {
            // What earlier leaders committed is only known once this term has committed something.
            self.early_reads.push(token);
        } else {
            self.reads.push(PendingRead { token, round: self.round + 1, index: self.commit });
        }
    }

    fn flush(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        if self.reads.iter().any(|read| read.round > self.round) {
            self.round += 1;
            self.broadcast(true);
            self.confirm_reads();
        } else if !self.config.commit_old_term {
            self.broadcast(false);
        }
        self.advance();
    }

    /// Sends every follower what it lacks; `always` also when that is nothing.
    fn broadcast(&mut self, always: bool) {
        if always {
            self.heartbeat_due = self.now + self.config.heartbeat_ms;
        }
        for peer in self.peers() {
            self.replicate(peer, always);
        }
    }

    fn replicate(&mut self, peer: Member, always: bool) {
        let progress = &self.progress[peer];
        let prev_index = progress.next - 1;
        let Some(prev_term) = self.log.term_at(prev_index) else {
            return self.install(peer);
        };
        let window = (progress.matched + WINDOW_MAX).saturating_sub(prev_index) as usize;
        let entries = self.log.after(prev_index, APPEND_MAX.min(window)).to_vec();
        if entries.is_empty() && !always {
            return;
        }
        self.progress[peer].next += entries.len() as u64;
        let (term, commit, round) = (self.hard.term, self.commit, self.round);
        self.send(peer, Message::Append { term, prev_index, prev_term, entries, commit, round });
    }

    fn install(&mut self, peer: Member) {
        let again = self.config.election_ms;
        if self.progress[peer].installed.is_some_and(|at| self.now < at + again) {
            return;
        }
        self.progress[peer].installed = Some(self.now);
        let snapshot = self.log.snapshot().clone();
        self.say(format!("sends member {peer} a snapshot up to entry {}", snapshot.index));
        let (term, round) = (self.hard.term, self.round);
        self.send(peer, Message::Install { term, snapshot, round });
    }

    fn receive(&mut self, from: Member, message: Message) {
        let term = message.term();
        // A pre-vote is about a term that nobody is in yet, and so is a granted answer to it.
        let asks_ahead = matches!(message, Message::PreVote { .. } | Message::PreVoteReply { granted: true, .. });
        if term > self.hard.term && !asks_ahead {
            self.follow(term, None);
        }
        match message {
            Message::PreVote { term, last_index, last_term } => self.on_pre_vote(from, term, last_index, last_term),
            Message::Vote { term, last_index, last_term } => self.on_vote(from, term, last_index, last_term),
            Message::PreVoteReply { term, granted } => {
                if self.role == Role::PreCandidate && granted && term == self.hard.term + 1 {
                    self.granted[from] = true;
                    self.count_votes();
                }
            }
            Message::VoteReply { term, granted } => {
                if self.role == Role::Candidate && granted && term == self.hard.term {
                    self.granted[from] = true;
                    self.count_votes();
                }
            }
            Message::Append { term, prev_index, prev_term, entries, commit, round } => {
                if self.hears_leader(from, term, round) {
                    self.on_append(from, prev_index, prev_term, entries, commit, round);
                }
            }
            Message::Install { term, snapshot, round } => {
                if self.hears_leader(from, term, round) {
                    self.on_install(from, snapshot, round);
                }
            }
            Message::AppendReply { term, success, matched, round } => {
                if self.role == Role::Leader && term == self.hard.term {
                    self.on_append_reply(from, success, matched, round);
                }
            }
        }
    }

    /// Raft, section 5.4.1: the log of whoever is elected must hold everything committed.
    fn is_up_to_date(&self, last_index: Index, last_term: Term) -> bool {
        (last_term, last_index) >= (self.log.last_term(), self.log.last_index())
    }

    fn on_pre_vote(&mut self, from: Member, term: Term, last_index: Index, last_term: Term) {
        // Not while a leader is heard (thesis, section 9.6).
        let led = self.role == Role::Leader
            || self.leader_heard.is_some_and(|at| self.now.saturating_sub(at) < self.config.election_ms);
        let granted = term > self.hard.term && !led && self.is_up_to_date(last_index, last_term);
        let term = if granted { term } else { self.hard.term };
        self.send(from, Message::PreVoteReply { term, granted });
    }

    fn on_vote(&mut self, from: Member, term: Term, last_index: Index, last_term: Term) {
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

    /// Whether the sender leads the current term; tells it about a newer one.
    fn hears_leader(&mut self, from: Member, term: Term, round: u64) -> bool {
        if term < self.hard.term {
            let reply = Message::AppendReply { term: self.hard.term, success: false, matched: 0, round };
            self.send(from, reply);
            return false;
        }
        self.follow(term, Some(from));
        self.leader_heard = Some(self.now);
        self.rearm();
        true
    }

    /// Raft, section 5.3.
    fn on_append(
        &mut self,
        from: Member,
        prev_index: Index,
        prev_term: Term,
        entries: Vec<Entry>,
        commit: Index,
        round: u64,
    ) {
        let term = self.hard.term;
        let known = prev_index < self.log.base() || self.log.term_at(prev_index) == Some(prev_term);
        if !known {
            // The whole differing term is skipped at once (Raft, end of section 5.3).
            let matched = if prev_index > self.log.last_index() {
                self.log.last_index()
            } else {
                self.log.first_of_term(prev_index).saturating_sub(1)
            };
            self.send(from, Message::AppendReply { term, success: false, matched, round });
            return;
        }
        let matched = prev_index + entries.len() as u64;
        // Only what differs is replaced: an old message must not cut off what a newer one brought.
        let new = entries.iter().position(|e| e.index > self.log.base() && self.log.term_at(e.index) != Some(e.term));
        if let Some(new) = new {
            let new = entries[new..].to_vec();
            self.log.put(&new);
            self.save(new);
        }
        self.send(from, Message::AppendReply { term, success: true, matched, round });
        self.commit_to(commit.min(matched));
    }

    /// Raft, section 7.
    fn on_install(&mut self, from: Member, snapshot: Snapshot, round: u64) {
        let matched = snapshot.index;
        if snapshot.index > self.commit {
            self.say(format!("restores a snapshot up to entry {}", snapshot.index));
            self.log.compact(snapshot.clone());
            self.commit = snapshot.index;
            self.applied = snapshot.index;
            self.actions.push(Action::Restore { hard: self.hard, snapshot, keep: self.log.entries().to_vec() });
        }
        self.send(from, Message::AppendReply { term: self.hard.term, success: true, matched, round });
    }

    fn on_append_reply(&mut self, from: Member, success: bool, matched: Index, round: u64) {
        let progress = &mut self.progress[from];
        progress.heard = self.now;
        progress.round = progress.round.max(round);
        if success {
            progress.installed = None;
            progress.matched = progress.matched.max(matched);
            progress.next = progress.next.max(progress.matched + 1);
            self.advance();
        } else if matched + 1 < progress.next {
            progress.next = (matched + 1).max(progress.matched + 1);
            self.replicate(from, true);
        }
        self.confirm_reads();
    }

    /// The largest value that a majority has reached.
    fn agreed(&self, of: impl Fn(&Progress) -> u64, own: u64) -> u64 {
        let mut values: Vec<u64> = self.peers().map(|peer| of(&self.progress[peer])).chain([own]).collect();
        values.sort_unstable_by(|a, b| b.cmp(a));
        values[self.quorum() - 1]
    }

    /// Commits what a majority has, if it ends with an entry of this term (Raft, section 5.4.2).
    fn advance(&mut self) {
        if self.role != Role::Leader {
            return;
        }
        // Our own entries count: the driver makes them durable before it carries anything later out.
        let mut index = self.agreed(|progress| progress.matched, self.log.last_index());
        if self.config.commit_on_minority {
            index = self.log.last_index();
        }
        if self.log.term_at(index) == Some(self.hard.term) || self.config.commit_old_term {
            self.commit_to(index);
        }
    }

    fn commit_to(&mut self, index: Index) {
        self.commit = self.commit.max(index.min(self.log.last_index()));
        if self.commit > self.applied {
            let entries = self.log.range(self.applied, self.commit).to_vec();
            self.applied = self.commit;
            self.actions.push(Action::Apply { entries });
        }
        if self.role == Role::Leader && self.log.term_at(self.commit) == Some(self.hard.term) {
            for token in std::mem::take(&mut self.early_reads) {
                self.read(token);
            }
        }
    }

    fn confirm_reads(&mut self) {
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

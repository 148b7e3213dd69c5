//! The core thread: feeds Raft, keeps disk and state machine, answers clients.
//!
//! One thread owns everything that changes. It takes what has come in since the last round as one batch, makes what
//! follows durable with one fsync, and only then sends, applies and answers (group commit).

use crate::bug::{Bug, Bugs};
use crate::kv::{Applied, Request, Store};
use crate::lease::Lease;
use crate::metrics::Metrics;
use crate::peers::{PeerMessage, Peers};
use crate::raft::{Action, Entry, Event, HardState, Index, Member, Message, Raft, Role, Snapshot, Term, Token};
use crate::storage::{Recovered, Storage};
use serde::{Deserialize, Serialize};
use serde_json::{Value as Json, json};
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, RecvTimeoutError};
use std::time::{Duration, Instant, SystemTime};
use tokio::sync::oneshot;

/// How often time is looked at.
const TICK: Duration = Duration::from_millis(5);
/// Most that is taken into one batch.
const BATCH_MAX: usize = 1024;
/// A request without an answer for this long is sent again, to whoever leads then.
const RETRY_AFTER: Duration = Duration::from_millis(400);

/// While a member is being sent a snapshot, the next one is taken after this many times the usual number of entries.
const PATIENCE: u64 = 10;

/// What comes in.
#[derive(Debug)]
pub enum Input {
    /// From another member.
    Peer {
        /// Which.
        from: Member,
        /// What.
        message: PeerMessage,
    },
    /// From a client: change something.
    Write {
        /// The encoded [`Request`].
        data: Arc<str>,
        /// Give up then.
        deadline: Instant,
        /// For the answer.
        reply: oneshot::Sender<Answer>,
    },
    /// From a client: read a key.
    Read {
        /// Which.
        key: String,
        /// Give up then.
        deadline: Instant,
        /// For the answer.
        reply: oneshot::Sender<Answer>,
    },
    /// Hand leadership to another member.
    Transfer {
        /// Its name.
        to: String,
        /// For the answer: whether it was begun, or why not.
        reply: oneshot::Sender<Result<(), &'static str>>,
    },
    /// How are you?
    Status {
        /// For the answer.
        reply: oneshot::Sender<Json>,
    },
}

/// What came of a write.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Done {
    /// Entry at which it was applied.
    pub index: Index,
    /// The result.
    pub applied: Applied,
}

/// What a client is told.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The write was applied.
    Done(Done),
    /// The value read.
    Value(Json),
    /// No answer in time; `definite`: it certainly never reached any log.
    NoAnswer {
        /// Why.
        why: &'static str,
        /// Whether it certainly had no effect.
        definite: bool,
    },
}

/// Who waits for an entry.
#[derive(Clone, Copy, Debug)]
enum Origin {
    Local(Token),
    Peer(Member, Token),
}

/// A proposal in our log, while we lead.
#[derive(Debug)]
struct Accepted {
    term: Term,
    origin: Origin,
    since: Instant,
}

/// A client's request on its way.
#[derive(Debug)]
struct Waiting {
    what: What,
    since: Instant,
    deadline: Instant,
    reply: oneshot::Sender<Answer>,
    /// When to send it (again).
    next_try: Instant,
    tries: u32,
    /// A read that may be answered once this is applied.
    read_index: Option<Index>,
}

#[derive(Debug)]
enum What {
    Write(Arc<str>),
    Read(String),
}

/// Everything that one node is.
pub struct Server {
    raft: Raft,
    storage: Storage,
    store: Store,
    applied: Index,
    applied_term: Term,
    hard: HardState,
    bugs: Bugs,
    /// Only with the planted bug `clock-lease`: leases, and when reads inside Raft came in.
    lease: Lease,
    asked: HashMap<Token, SystemTime>,
    snapshot_every: u64,
    peers: Peers,
    names: Vec<String>,
    id: Member,
    metrics: Arc<Metrics>,
    begun: Instant,
    next_token: Token,
    waiting: HashMap<Token, Waiting>,
    /// Tokens of proposals and reads inside Raft.
    origins: HashMap<Token, Origin>,
    /// Accepted proposals by entry.
    accepted: BTreeMap<Index, Accepted>,
    actions: Vec<Action>,
}

/// What a server is made of.
pub struct Parts {
    /// The protocol's configuration.
    pub config: crate::raft::Config,
    /// Names of all members.
    pub names: Vec<String>,
    /// Planted bugs.
    pub bugs: Bugs,
    /// Entries between two snapshots.
    pub snapshot_every: u64,
    /// The way to the others.
    pub peers: Peers,
    /// Counters.
    pub metrics: Arc<Metrics>,
}

impl Server {
    /// A server that goes on from what `recovered` holds.
    ///
    /// # Errors
    /// When the snapshot is not one of this state machine.
    pub fn new(parts: Parts, storage: Storage, recovered: Recovered) -> anyhow::Result<Self> {
        let snapshot = recovered.log.snapshot().clone();
        let store = decode(&snapshot)?;
        let id = parts.config.id;
        let lease = Lease::new(Duration::from_millis(parts.config.election_ms));
        Ok(Self {
            raft: Raft::new(parts.config, recovered.hard, recovered.log, 0),
            storage,
            store,
            applied: snapshot.index,
            applied_term: snapshot.term,
            hard: recovered.hard,
            bugs: parts.bugs,
            lease,
            asked: HashMap::new(),
            snapshot_every: parts.snapshot_every,
            peers: parts.peers,
            names: parts.names,
            id,
            metrics: parts.metrics,
            begun: Instant::now(),
            // Answers to an earlier life of this node may still be under way: they must not fit a request of this one.
            next_token: Token::from(rand::random::<u32>() >> 1) << 32,
            waiting: HashMap::new(),
            origins: HashMap::new(),
            accepted: BTreeMap::new(),
            actions: Vec::new(),
        })
    }

    /// Serves until the inbox is closed.
    ///
    /// # Errors
    /// When the disk says no: after that nothing may be promised any more.
    pub fn run(&mut self, inbox: &Receiver<Input>) -> anyhow::Result<()> {
        loop {
            match inbox.recv_timeout(TICK) {
                Ok(input) => {
                    self.take(input);
                    for _ in 1..BATCH_MAX {
                        let Ok(input) = inbox.try_recv() else { break };
                        self.take(input);
                    }
                }
                Err(RecvTimeoutError::Timeout) => {}
                Err(RecvTimeoutError::Disconnected) => return Ok(()),
            }
            self.step(Event::Tick);
            self.retry();
            self.step(Event::Flush);
            self.carry_out()?;
            self.snapshot()?;
        }
    }

    fn step(&mut self, event: Event) {
        let now = self.begun.elapsed().as_millis() as u64;
        self.actions.extend(self.raft.step(now, event));
    }

    fn token(&mut self) -> Token {
        self.next_token += 1;
        self.next_token - 1
    }

    fn take(&mut self, input: Input) {
        match input {
            Input::Peer { from, message } => self.take_peer(from, message),
            Input::Transfer { to, reply } => {
                let _ = reply.send(self.transfer(&to));
            }
            Input::Status { reply } => {
                let _ = reply.send(self.status());
            }
            Input::Write { data, deadline, reply } => self.enter(What::Write(data), deadline, reply),
            Input::Read { key, deadline, reply } => {
                if self.bugs.has(Bug::StaleRead) {
                    let _ = reply.send(Answer::Value(self.store.get(&key)));
                    return;
                }
                self.enter(What::Read(key), deadline, reply);
            }
        }
    }

    fn transfer(&mut self, to: &str) -> Result<(), &'static str> {
        let to = self.names.iter().position(|name| name == to).ok_or("there is no such member")?;
        if self.raft.role() != Role::Leader {
            return Err("this member does not lead");
        }
        if to != self.id {
            self.step(Event::Transfer { to });
        }
        Ok(())
    }

    fn enter(&mut self, what: What, deadline: Instant, reply: oneshot::Sender<Answer>) {
        Metrics::add(&self.metrics.requests, 1);
        let token = self.token();
        let now = Instant::now();
        let waiting = Waiting { what, since: now, deadline, reply, next_try: now, tries: 0, read_index: None };
        self.waiting.insert(token, waiting);
        self.try_now(token);
    }

    /// Hands a client's request to whoever leads; when nobody does, the next tick tries again.
    fn try_now(&mut self, token: Token) {
        let Some(leader) = self.raft.leader() else { return };
        let Some(waiting) = self.waiting.get_mut(&token) else { return };
        waiting.next_try = Instant::now() + RETRY_AFTER;
        if waiting.tries > 0 {
            Metrics::add(&self.metrics.retries, 1);
        }
        waiting.tries += 1;
        let what = match &waiting.what {
            What::Write(data) => Some(data.clone()),
            What::Read(_) => None,
        };
        match (leader == self.id, what) {
            (true, what) => self.submit(what, Origin::Local(token)),
            (false, Some(data)) => self.peers.send(leader, PeerMessage::Propose { token, data }),
            (false, None) => self.peers.send(leader, PeerMessage::Read { token }),
        }
    }

    /// Gives Raft a proposal, or a read when there is no data.
    fn submit(&mut self, data: Option<Arc<str>>, origin: Origin) {
        let token = self.token();
        if data.is_none() && self.bugs.has(Bug::ClockLease) {
            let now = SystemTime::now();
            if self.raft.role() == Role::Leader && self.lease.holds(self.raft.term(), now) {
                return self.read_at(origin, self.raft.commit());
            }
            self.asked.insert(token, now);
        }
        self.origins.insert(token, origin);
        self.step(match data {
            Some(data) => Event::Propose { token, data },
            None => Event::Read { token },
        });
    }

    fn take_peer(&mut self, from: Member, message: PeerMessage) {
        match message {
            PeerMessage::Raft(message) => self.step(Event::Receive { from, message }),
            PeerMessage::Propose { token, data } => self.submit(Some(data), Origin::Peer(from, token)),
            PeerMessage::Read { token } => self.submit(None, Origin::Peer(from, token)),
            PeerMessage::Proposed { token, done } => self.answer(token, Answer::Done(done)),
            PeerMessage::ReadIndex { token, index } => self.may_read(token, index),
            PeerMessage::NotHere { token } => self.again_soon(token),
        }
    }

    fn answer(&mut self, token: Token, answer: Answer) {
        if let Some(waiting) = self.waiting.remove(&token) {
            // A client that hung up is nobody's loss.
            let _ = waiting.reply.send(answer);
        }
    }

    /// Refused by somebody who does not lead: there may be a new leader in a moment.
    fn again_soon(&mut self, token: Token) {
        if let Some(waiting) = self.waiting.get_mut(&token) {
            waiting.next_try = Instant::now() + 4 * TICK;
        }
    }

    /// A read that came from `origin` may be answered from what is applied up to `index`.
    fn read_at(&mut self, origin: Origin, index: Index) {
        match origin {
            Origin::Local(token) => self.may_read(token, index),
            Origin::Peer(peer, token) => self.peers.send(peer, PeerMessage::ReadIndex { token, index }),
        }
    }

    fn may_read(&mut self, token: Token, index: Index) {
        if index <= self.applied {
            let Some(What::Read(key)) = self.waiting.get(&token).map(|w| &w.what) else { return };
            let value = self.store.get(key);
            if let Some(waiting) = self.waiting.get(&token) {
                self.metrics.reads.observe(waiting.since.elapsed());
            }
            self.answer(token, Answer::Value(value));
        } else if let Some(waiting) = self.waiting.get_mut(&token) {
            waiting.read_index = Some(index);
        }
    }

    /// Gives up what is over its deadline and sends again what has waited long enough.
    fn retry(&mut self) {
        let now = Instant::now();
        let mut late: Vec<Token> = Vec::new();
        let mut due: Vec<Token> = Vec::new();
        for (token, waiting) in &self.waiting {
            if now >= waiting.deadline {
                late.push(*token);
            } else if now >= waiting.next_try {
                due.push(*token);
            }
        }
        for token in late {
            // Without a single try it cannot be in any log.
            let definite = self.waiting.get(&token).is_some_and(|waiting| waiting.tries == 0);
            let why = if definite { "no leader" } else { "no answer in time" };
            Metrics::add(&self.metrics.given_up, 1);
            self.answer(token, Answer::NoAnswer { why, definite });
        }
        due.into_iter().for_each(|token| self.try_now(token));
    }

    /// Does what Raft asked for: disk first, then everything else in order. Only a leader's entries leave before, so that
    /// all disks write at once (see the law in [`raft`](crate::raft)).
    fn carry_out(&mut self) -> anyhow::Result<()> {
        let mut actions = std::mem::take(&mut self.actions);
        let is_early = |action: &mut Action| matches!(action, Action::Send { message: Message::Append { .. }, .. });
        for early in actions.extract_if(.., is_early).collect::<Vec<_>>() {
            self.act(early)?;
        }
        let mut dirty = false;
        for action in &actions {
            match action {
                Action::Save { hard, entries } => {
                    self.hard = *hard;
                    self.storage.save(*hard, entries)?;
                    Metrics::add(&self.metrics.appended, entries.len() as u64);
                    dirty = true;
                }
                Action::Restore { hard, snapshot, keep } => {
                    self.hard = *hard;
                    self.storage.compact(*hard, snapshot, keep)?;
                }
                _ => {}
            }
        }
        let begun = Instant::now();
        self.storage.sync()?;
        if dirty {
            self.metrics.syncs.observe(begun.elapsed());
        }
        for action in actions {
            self.act(action)?;
        }
        Metrics::set(&self.metrics.term, self.raft.term());
        Metrics::set(&self.metrics.commit, self.raft.commit());
        Metrics::set(&self.metrics.leads, u64::from(self.raft.role() == Role::Leader));
        Ok(())
    }

    fn act(&mut self, action: Action) -> anyhow::Result<()> {
        match action {
            Action::Save { .. } => {}
            Action::Restore { snapshot, .. } => {
                self.store = decode(&snapshot)?;
                (self.applied, self.applied_term) = (snapshot.index, snapshot.term);
                // What became of these is not known here any more: whoever waits asks again and is recognised.
                self.accepted = self.accepted.split_off(&(snapshot.index + 1));
                Metrics::add(&self.metrics.snapshots, 1);
                self.release_reads();
            }
            Action::Send { to, message } => self.peers.send(to, PeerMessage::Raft(message)),
            Action::Apply { entries } => {
                for entry in entries {
                    self.apply(&entry)?;
                }
                self.release_reads();
            }
            Action::Accepted { token, index, term } => {
                if let Some(origin) = self.origins.remove(&token) {
                    let entry = Accepted { term, origin, since: Instant::now() };
                    if let Some(lost) = self.accepted.insert(index, entry) {
                        self.tell(lost.origin, None);
                    }
                }
            }
            Action::Refused { token } | Action::ReadFailed { token } => {
                self.asked.remove(&token);
                if let Some(origin) = self.origins.remove(&token) {
                    self.tell(origin, None);
                }
            }
            Action::ReadAt { token, index } => {
                if let Some(asked) = self.asked.remove(&token) {
                    self.lease.grant(self.raft.term(), asked);
                }
                if let Some(origin) = self.origins.remove(&token) {
                    self.read_at(origin, index);
                }
            }
            Action::Say { what } => {
                if what.starts_with("leader of") {
                    Metrics::add(&self.metrics.elections_won, 1);
                }
                tracing::info!(term = self.raft.term(), commit = self.raft.commit(), "{what}");
            }
        }
        Ok(())
    }

    fn apply(&mut self, entry: &Entry) -> anyhow::Result<()> {
        Metrics::add(&self.metrics.applied, 1);
        (self.applied, self.applied_term) = (entry.index, entry.term);
        // Another term's entry in this place: ours was overwritten, and whoever waits for it tries again.
        let accepted = self.accepted.remove(&entry.index);
        let (ours, lost) = match accepted {
            Some(accepted) if accepted.term == entry.term => (Some(accepted), None),
            lost => (None, lost),
        };
        if let Some(lost) = lost {
            self.tell(lost.origin, None);
        }
        if entry.data.is_empty() {
            return Ok(());
        }
        let request: Request = serde_json::from_str(&entry.data)?;
        let applied = self.store.apply(entry.index, request, !self.bugs.has(Bug::ApplyTwice));
        if let Some(ours) = ours {
            self.metrics.commits.observe(ours.since.elapsed());
            self.tell(ours.origin, Some(Done { index: entry.index, applied }));
        }
        Ok(())
    }

    /// Tells whoever waits what came of a proposal; `None`: of nothing here, neither a proposal nor a read; try again.
    fn tell(&mut self, origin: Origin, done: Option<Done>) {
        match (origin, done) {
            (Origin::Local(token), Some(done)) => self.answer(token, Answer::Done(done)),
            (Origin::Local(token), None) => self.again_soon(token),
            (Origin::Peer(peer, token), Some(done)) => self.peers.send(peer, PeerMessage::Proposed { token, done }),
            (Origin::Peer(peer, token), None) => self.peers.send(peer, PeerMessage::NotHere { token }),
        }
    }

    fn release_reads(&mut self) {
        let ready: Vec<Token> = self
            .waiting
            .iter()
            .filter(|(_, waiting)| waiting.read_index.is_some_and(|index| index <= self.applied))
            .map(|(token, _)| *token)
            .collect();
        ready.into_iter().for_each(|token| self.may_read(token, 0));
    }

    fn snapshot(&mut self) -> anyhow::Result<()> {
        let grown = self.applied.saturating_sub(self.raft.log().base());
        // Whoever is being sent a snapshot needs the log after it, unless that takes for ever.
        let patience = if self.raft.is_installing() { PATIENCE } else { 1 };
        if grown < self.snapshot_every.saturating_mul(patience) {
            return Ok(());
        }
        let data = Arc::from(serde_json::to_string(&self.store)?);
        let snapshot = Snapshot { index: self.applied, term: self.applied_term, data };
        let log = self.raft.log();
        let keep = log.range(self.applied, log.last_index()).to_vec();
        self.storage.compact(self.hard, &snapshot, &keep)?;
        Metrics::add(&self.metrics.snapshots, 1);
        tracing::info!(index = snapshot.index, "snapshot taken");
        self.step(Event::Compacted { snapshot });
        Ok(())
    }

    fn status(&self) -> Json {
        let name = |member: Member| self.names.get(member).cloned();
        let role = match self.raft.role() {
            Role::Leader => "leader",
            Role::Follower => "follower",
            Role::Candidate | Role::PreCandidate => "candidate",
        };
        json!({
            "id": name(self.id),
            "role": role,
            "term": self.raft.term(),
            "leader": self.raft.leader().and_then(name),
            "commit": self.raft.commit(),
            "applied": self.applied,
            "last_index": self.raft.log().last_index(),
            "snapshot_index": self.raft.log().base(),
            "peers": self.names,
            "keys": self.store.keys(),
            "state_hash": format!("{:016x}", self.store.hash()),
        })
    }
}

fn decode(snapshot: &Snapshot) -> anyhow::Result<Store> {
    if snapshot.data.is_empty() { Ok(Store::default()) } else { Ok(serde_json::from_str(&snapshot.data)?) }
}

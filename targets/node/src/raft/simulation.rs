//! A deterministic simulation of a whole cluster, for tests: seeded loss, delay, duplication, reordering, partitions and
//! crashes, against the properties of Raft's figure 3 and the law of read-index.

use super::{Action, Config, Entry, Event, HardState, Index, Log, Member, Message, Raft, Role, Snapshot, Term, Token};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

/// What a member finds after a crash.
#[derive(Clone)]
struct Disk {
    hard: HardState,
    log: Log,
}

/// Planted bugs that are outside of Raft itself.
#[derive(Clone, Copy, Default)]
pub(super) struct Outside {
    /// Term and vote are lost in a crash.
    pub(super) forget_vote: bool,
    /// What was written in the last moment is lost in a crash.
    pub(super) no_fsync: bool,
    /// Reads are answered from what the member has applied.
    pub(super) stale_read: bool,
}

pub(super) struct World {
    rng: ChaCha8Rng,
    pub(super) now: u64,
    config: Config,
    outside: Outside,
    pub(super) members: Vec<Option<Raft>>,
    disks: Vec<Disk>,
    /// With the bug `no_fsync`: what is really on the disks.
    durable: Vec<Disk>,
    /// State machine of each member: the entry it has applied, and a checksum over all entries up to there.
    states: Vec<(Index, u32)>,
    /// (due, to, from, message)
    wires: Vec<(u64, Member, Member, Message)>,
    cut: Vec<bool>,
    /// The leader seen in each term.
    leaders: BTreeMap<Term, Member>,
    /// What was applied at each index by whoever was first, and the checksum of the state after it.
    applied: BTreeMap<Index, (Term, Arc<str>, u32)>,
    /// What was applied by somebody when the read came in.
    reads: HashMap<Token, Index>,
    tokens: Token,
    pub(super) reads_answered: u64,
    pub(super) snapshots_restored: u64,
}

fn empty() -> Snapshot {
    Snapshot { index: 0, term: 0, data: Arc::from("") }
}

impl World {
    pub(super) fn new(seed: u64, members: usize, outside: Outside, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            id: 0,
            members,
            election_ms: 100,
            heartbeat_ms: 20,
            piece_len: 7,
            seed,
            commit_on_minority: false,
            commit_old_term: false,
        };
        change(&mut config);
        let disk = Disk { hard: HardState::default(), log: Log::new(empty(), Vec::new()) };
        let mut world = Self {
            rng: ChaCha8Rng::seed_from_u64(seed),
            now: 0,
            config,
            outside,
            members: vec![None; members],
            durable: vec![disk.clone(); members],
            disks: vec![disk; members],
            states: vec![(0, 0); members],
            wires: Vec::new(),
            cut: vec![false; members * members],
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            reads: HashMap::new(),
            tokens: 0,
            reads_answered: 0,
            snapshots_restored: 0,
        };
        (0..members).for_each(|id| world.boot(id));
        world
    }

    fn boot(&mut self, id: Member) {
        if self.outside.no_fsync {
            self.disks[id] = self.durable[id].clone();
        }
        let Disk { mut hard, log } = self.disks[id].clone();
        if self.outside.forget_vote {
            hard = HardState::default();
        }
        self.states[id] = decode(log.snapshot());
        // Another seed for every life, or all would always stand at the same moment.
        let seed = self.config.seed ^ self.now;
        self.members[id] = Some(Raft::new(Config { id, seed, ..self.config.clone() }, hard, log, self.now));
    }

    /// Feeds one event; says which law is broken.
    pub(super) fn step(&mut self, id: Member, event: Event) -> Result<(), String> {
        let Some(raft) = &mut self.members[id] else { return Ok(()) };
        let actions = raft.step(self.now, event);
        if raft.role() == Role::Leader {
            self.check_leader(id)?;
        }
        for action in actions {
            match action {
                Action::Save { hard, entries } => {
                    self.disks[id].hard = hard;
                    self.disks[id].log.put(&entries);
                }
                Action::Restore { hard, snapshot, keep } => self.restore(id, hard, snapshot, keep)?,
                Action::Send { to, message } => self.post(id, to, message),
                Action::Apply { entries } => self.apply(id, &entries)?,
                Action::ReadAt { token, index } => self.check_read(token, index)?,
                _ => {}
            }
        }
        Ok(())
    }

    /// Election safety and leader completeness (Raft, figure 3).
    fn check_leader(&mut self, id: Member) -> Result<(), String> {
        let Some(raft) = &self.members[id] else { return Ok(()) };
        let term = raft.term();
        match self.leaders.get(&term) {
            Some(first) if *first == id => return Ok(()),
            Some(first) => return Err(format!("election safety: members {first} and {id} both lead term {term}")),
            None => self.leaders.insert(term, id),
        };
        for (index, (term, ..)) in self.applied.range(raft.log().base() + 1..) {
            if raft.log().term_at(*index) != Some(*term) {
                return Err(format!("leader completeness: member {id} leads without the committed entry {index}"));
            }
        }
        Ok(())
    }

    /// A read must see what was committed when it came in (thesis, section 6.4).
    fn check_read(&mut self, token: Token, index: Index) -> Result<(), String> {
        let committed = self.reads.remove(&token).unwrap_or(0);
        self.reads_answered += 1;
        if index < committed {
            return Err(format!("read: answered from entry {index}, but {committed} was committed before"));
        }
        Ok(())
    }

    fn post(&mut self, from: Member, to: Member, message: Message) {
        if self.cut[from * self.config.members + to] || self.rng.random_bool(0.03) {
            return;
        }
        let copies = if self.rng.random_bool(0.02) { 2 } else { 1 };
        for _ in 0..copies {
            let slow = self.rng.random_bool(0.05);
            let due = self.now + if slow { self.rng.random_range(1..80) } else { self.rng.random_range(1..5) };
            self.wires.push((due, to, from, message.clone()));
        }
    }

    /// State machine safety: nobody ever applies something else at an index, or comes to another state.
    fn apply(&mut self, id: Member, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let (at, sum) = self.states[id];
            if entry.index != at + 1 {
                return Err(format!("state machine safety: member {id} applies {} after {at}", entry.index));
            }
            let sum = crc32fast::hash(format!("{sum}{}", entry.data).as_bytes());
            self.states[id] = (entry.index, sum);
            let ours = (entry.term, entry.data.clone(), sum);
            let first = self.applied.entry(entry.index).or_insert_with(|| ours.clone());
            if *first != ours {
                let index = entry.index;
                return Err(format!("state machine safety: member {id} applies {ours:?} at {index}, not {first:?}"));
            }
        }
        // Now and then the log is compacted.
        if let Some(last) = entries.last().filter(|_| self.rng.random_bool(0.02)) {
            let data = Arc::from(format!("état {:010}", self.states[id].1));
            let snapshot = Snapshot { index: last.index, term: last.term, data };
            self.disks[id].log.compact(snapshot.clone());
            self.step(id, Event::Compacted { snapshot })?;
        }
        Ok(())
    }

    fn restore(&mut self, id: Member, hard: HardState, snapshot: Snapshot, keep: Vec<Entry>) -> Result<(), String> {
        self.snapshots_restored += 1;
        let state = decode(&snapshot);
        match self.applied.get(&snapshot.index) {
            Some((term, _, sum)) if (*term, *sum) == (snapshot.term, state.1) => {}
            other => return Err(format!("state machine safety: member {id} restores {snapshot:?}, not {other:?}")),
        }
        self.states[id] = state;
        self.disks[id] = Disk { hard, log: Log::new(snapshot, keep) };
        Ok(())
    }

    /// Log matching (Raft, figure 3): where two logs have an entry of the same index and term, they are the same before.
    pub(super) fn check_logs(&self) -> Result<(), String> {
        let logs: Vec<&Log> = self.members.iter().flatten().map(Raft::log).collect();
        for (i, a) in logs.iter().enumerate() {
            for b in &logs[i + 1..] {
                let (low, high) = (a.base().max(b.base()) + 1, a.last_index().min(b.last_index()));
                let same = |index: Index| a.range(index - 1, index) == b.range(index - 1, index);
                let agree = (low..=high).rev().find(|index| a.term_at(*index) == b.term_at(*index));
                if let Some(index) = agree.and_then(|agree| (low..=agree).find(|index| !same(*index))) {
                    return Err(format!("log matching: two logs differ at {index} and agree later"));
                }
            }
        }
        Ok(())
    }

    fn crash(&mut self, id: Member) {
        self.members[id] = None;
    }

    fn leader(&self) -> Option<Member> {
        self.members.iter().position(|m| m.as_ref().is_some_and(|m| m.role() == Role::Leader))
    }

    fn disturb(&mut self) {
        let members = self.config.members;
        match self.rng.random_range(0..100) {
            0..30 => {
                let id = self.rng.random_range(0..members);
                if self.members[id].is_some() { self.crash(id) } else { self.boot(id) }
            }
            30..60 => {
                let side: Vec<bool> = (0..members).map(|_| self.rng.random()).collect();
                let one_way = self.rng.random_bool(0.3);
                for (at, cut) in self.cut.iter_mut().enumerate() {
                    let (from, to) = (at / members, at % members);
                    *cut = side[from] != side[to] && (!one_way || side[from]);
                }
            }
            60..70 => {
                // Whoever leads is cut off.
                let leader = self.leader();
                for (at, cut) in self.cut.iter_mut().enumerate() {
                    *cut |= [at / members, at % members].into_iter().any(|member| Some(member) == leader);
                }
            }
            70..75 => (0..members).for_each(|id| self.crash(id)),
            75..90 => {
                // Whoever leads dies; somebody else comes back.
                let other = self.members.iter().position(Option::is_none);
                self.leader().into_iter().for_each(|id| self.crash(id));
                other.into_iter().for_each(|id| self.boot(id));
            }
            _ => self.heal(),
        }
    }

    fn heal(&mut self) {
        self.cut.fill(false);
        for id in 0..self.config.members {
            if self.members[id].is_none() {
                self.boot(id);
            }
        }
    }

    fn token(&mut self) -> Token {
        self.tokens += 1;
        self.tokens
    }

    fn load(&mut self, id: Member) -> Result<(), String> {
        if self.rng.random_bool(0.1) {
            let token = self.token();
            self.step(id, Event::Propose { token, data: Arc::from(format!("p{token}")) })?;
        }
        if self.members[id].is_some() && self.rng.random_bool(0.05) {
            let token = self.token();
            let committed = self.applied.keys().next_back().copied().unwrap_or(0);
            self.reads.insert(token, committed);
            if self.outside.stale_read {
                return self.check_read(token, self.states[id].0);
            }
            self.step(id, Event::Read { token })?;
        }
        if self.rng.random_bool(0.002) {
            let to = self.rng.random_range(0..self.config.members);
            self.step(id, Event::Transfer { to })?;
        }
        Ok(())
    }

    fn millisecond(&mut self, busy: bool) -> Result<(), String> {
        self.now += 1;
        let now = self.now;
        let due: Vec<_> = self.wires.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, to, from, message) in due {
            self.step(to, Event::Receive { from, message })?;
        }
        for id in 0..self.config.members {
            if busy {
                self.load(id)?;
            }
            self.step(id, Event::Tick)?;
            self.step(id, Event::Flush)?;
            if self.rng.random_bool(0.005) && self.members[id].is_some() {
                self.durable[id] = self.disks[id].clone();
            }
        }
        if now.is_multiple_of(200) { self.check_logs() } else { Ok(()) }
    }

    /// Load and disturbance until `until`.
    pub(super) fn run(&mut self, until: u64) -> Result<(), String> {
        while self.now < until {
            self.millisecond(true)?;
            if self.rng.random_bool(0.015) {
                self.disturb();
            }
        }
        Ok(())
    }

    /// Calm: everybody up, all links whole.
    pub(super) fn settle(&mut self) -> Result<(), String> {
        self.heal();
        self.calm(2000)
    }

    /// Time passes without load or disturbance (milliseconds).
    pub(super) fn calm(&mut self, length: u64) -> Result<(), String> {
        let end = self.now + length;
        while self.now < end {
            self.millisecond(false)?;
        }
        Ok(())
    }
}

/// A snapshot's data is the checksum of the state.
fn decode(snapshot: &Snapshot) -> (Index, u32) {
    (snapshot.index, snapshot.data.rsplit(' ').next().and_then(|sum| sum.parse().ok()).unwrap_or(0))
}

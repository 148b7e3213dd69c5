//! A deterministic simulation of a whole cluster: seeded loss, delay, duplication, reordering, partitions and crashes,
//! against the properties of Raft's figure 3. The planted bugs must break them.

use super::{Action, Config, Entry, Event, HardState, Log, Member, Message, Raft, Role, Snapshot};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::BTreeMap;
use std::sync::Arc;

/// What a member finds after a crash.
#[derive(Clone)]
struct Disk {
    hard: HardState,
    log: Log,
}

struct World {
    rng: ChaCha8Rng,
    now: u64,
    config: Config,
    forget_vote: bool,
    members: Vec<Option<Raft>>,
    disks: Vec<Disk>,
    /// (due, to, from, message)
    wires: Vec<(u64, Member, Member, Message)>,
    cut: Vec<bool>,
    /// The leader seen in each term.
    leaders: BTreeMap<u64, Member>,
    /// What was applied at each index, by anybody.
    applied: BTreeMap<u64, (u64, Arc<str>)>,
    proposals: u64,
}

fn empty() -> Snapshot {
    Snapshot { index: 0, term: 0, data: Arc::from("") }
}

impl World {
    fn new(seed: u64, members: usize, change: impl FnOnce(&mut Config)) -> Self {
        let mut config = Config {
            id: 0,
            members,
            election_ms: 100,
            heartbeat_ms: 20,
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
            forget_vote: false,
            members: vec![None; members],
            disks: vec![disk; members],
            wires: Vec::new(),
            cut: vec![false; members * members],
            leaders: BTreeMap::new(),
            applied: BTreeMap::new(),
            proposals: 0,
        };
        (0..members).for_each(|id| world.boot(id));
        world
    }

    fn boot(&mut self, id: Member) {
        let Disk { mut hard, log } = self.disks[id].clone();
        if self.forget_vote {
            hard = HardState::default();
        }
        // Another seed for every life, or all would always stand at the same moment.
        let seed = self.config.seed ^ self.now;
        self.members[id] = Some(Raft::new(Config { id, seed, ..self.config.clone() }, hard, log, self.now));
    }

    /// Feeds one event; returns what is broken.
    fn step(&mut self, id: Member, event: Event) -> Result<(), String> {
        let Some(raft) = &mut self.members[id] else { return Ok(()) };
        let actions = raft.step(self.now, event);
        if raft.role() == Role::Leader {
            let term = raft.term();
            let first = *self.leaders.entry(term).or_insert(id);
            if first != id {
                return Err(format!("election safety: members {first} and {id} both lead term {term}"));
            }
        }
        for action in actions {
            match action {
                Action::Save { hard, entries } => {
                    self.disks[id].hard = hard;
                    self.disks[id].log.put(&entries);
                }
                Action::Restore { hard, snapshot, keep } => {
                    self.disks[id] = Disk { hard, log: Log::new(snapshot, keep) }
                }
                Action::Send { to, message } => self.post(id, to, message),
                Action::Apply { entries } => self.apply(id, &entries)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn post(&mut self, from: Member, to: Member, message: Message) {
        if self.cut[from * self.config.members + to] || self.rng.random_bool(0.03) {
            return;
        }
        let copies = if self.rng.random_bool(0.02) { 2 } else { 1 };
        for _ in 0..copies {
            let due = self.now
                + if self.rng.random_bool(0.05) { self.rng.random_range(1..80) } else { self.rng.random_range(1..5) };
            self.wires.push((due, to, from, message.clone()));
        }
    }

    /// State machine safety: nobody ever applies something else at an index.
    fn apply(&mut self, id: Member, entries: &[Entry]) -> Result<(), String> {
        for entry in entries {
            let ours = (entry.term, entry.data.clone());
            let first = self.applied.entry(entry.index).or_insert_with(|| ours.clone());
            if *first != ours {
                return Err(format!(
                    "state machine safety: member {id} applies {ours:?} at {}, not {first:?}",
                    entry.index
                ));
            }
        }
        // Now and then the log is compacted.
        if let Some(last) = entries.last().filter(|_| self.rng.random_bool(0.02)) {
            let snapshot = Snapshot { index: last.index, term: last.term, data: Arc::from("state") };
            self.disks[id].log.compact(snapshot.clone());
            self.step(id, Event::Compacted { snapshot })?;
        }
        Ok(())
    }

    fn disturb(&mut self) {
        let members = self.config.members;
        match self.rng.random_range(0..100) {
            0..30 => {
                let id = self.rng.random_range(0..members);
                if self.members[id].take().is_none() {
                    self.boot(id);
                }
            }
            30..60 => {
                let side: Vec<bool> = (0..members).map(|_| self.rng.random()).collect();
                let one_way = self.rng.random_bool(0.3);
                for from in 0..members {
                    for to in 0..members {
                        self.cut[from * members + to] = side[from] != side[to] && (!one_way || side[from]);
                    }
                }
            }
            60..70 => {
                // Whoever leads is cut off.
                let Some(leader) =
                    self.members.iter().flatten().find(|m| m.role() == Role::Leader).and_then(|m| m.leader())
                else {
                    return;
                };
                for other in 0..members {
                    self.cut[leader * members + other] = true;
                    self.cut[other * members + leader] = true;
                }
            }
            70..75 => self.members.iter_mut().for_each(|member| *member = None),
            75..90 => {
                // Whoever leads dies; somebody else comes back.
                let leader = self.members.iter().position(|m| m.as_ref().is_some_and(|m| m.role() == Role::Leader));
                let other = self.members.iter().position(Option::is_none);
                leader.into_iter().for_each(|id| self.members[id] = None);
                other.into_iter().for_each(|id| self.boot(id));
            }
            _ => {
                self.cut.fill(false);
                (0..members)
                    .filter(|id| self.members[*id].is_none())
                    .collect::<Vec<_>>()
                    .into_iter()
                    .for_each(|id| self.boot(id));
            }
        }
    }

    fn run(&mut self, until: u64) -> Result<(), String> {
        while self.now < until {
            self.now += 1;
            let now = self.now;
            let due: Vec<_> = self.wires.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, to, from, message) in due {
                self.step(to, Event::Receive { from, message })?;
            }
            for id in 0..self.config.members {
                if self.rng.random_bool(0.1) {
                    self.proposals += 1;
                    let data = Arc::from(format!("p{}", self.proposals));
                    self.step(id, Event::Propose { token: self.proposals, data })?;
                }
                self.step(id, Event::Tick)?;
                self.step(id, Event::Flush)?;
            }
            if self.rng.random_bool(0.015) {
                self.disturb();
            }
        }
        Ok(())
    }

    /// Calm: everybody up, all links whole.
    fn settle(&mut self) -> Result<(), String> {
        self.cut.fill(false);
        for id in 0..self.config.members {
            if self.members[id].is_none() {
                self.boot(id);
            }
        }
        let end = self.now + 2000;
        while self.now < end {
            self.now += 1;
            let now = self.now;
            let due: Vec<_> = self.wires.extract_if(.., |(at, ..)| *at <= now).collect();
            for (_, to, from, message) in due {
                self.step(to, Event::Receive { from, message })?;
            }
            for id in 0..self.config.members {
                self.step(id, Event::Tick)?;
                self.step(id, Event::Flush)?;
            }
        }
        Ok(())
    }
}

#[test]
fn no_seed_breaks_the_properties() {
    let mut committed = 0;
    for seed in 0..60 {
        let mut world = World::new(seed, if seed % 3 == 0 { 3 } else { 5 }, |_| {});
        world.run(4000).unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        world.settle().unwrap_or_else(|broken| panic!("seed {seed}: {broken}"));
        let commits: Vec<u64> = world.members.iter().flatten().map(Raft::commit).collect();
        assert!(commits.iter().all(|commit| *commit == commits[0]), "seed {seed}: in calm all agree: {commits:?}");
        committed += commits[0];
    }
    assert!(committed > 60 * 100, "the simulation commits something: {committed}");
}

/// Whether some seed breaks a property.
fn is_found(change: impl Fn(&mut Config), forget_vote: bool) -> bool {
    (0..2000).any(|seed| {
        let mut world = World::new(seed, 5, &change);
        world.forget_vote = forget_vote;
        world.run(6000).is_err()
    })
}

#[test]
fn planted_bugs_break_them() {
    assert!(is_found(|config| config.commit_on_minority = true, false), "commit-on-minority");
    assert!(is_found(|_| {}, true), "forget-vote");
    assert!(is_found(|config| config.commit_old_term = true, false), "commit-old-term");
}

#[test]
fn a_read_waits_for_a_majority() {
    let mut world = World::new(5, 3, |_| {});
    world.settle().unwrap();
    let leader = world.members.iter().flatten().find(|m| m.role() == Role::Leader).and_then(Raft::leader).unwrap();
    let raft = world.members[leader].as_mut().unwrap();
    let actions = raft.step(world.now, Event::Read { token: 9 });
    assert!(actions.is_empty(), "nobody has confirmed yet: {actions:?}");
    let sent = raft.step(world.now, Event::Flush);
    let round = sent.iter().find_map(|action| match action {
        Action::Send { message: Message::Append { round, .. }, .. } => Some(*round),
        _ => None,
    });
    let reply =
        Message::AppendReply { term: raft.term(), success: true, matched: raft.commit(), round: round.unwrap() };
    let other = (leader + 1) % 3;
    let stale =
        Message::AppendReply { term: raft.term(), success: true, matched: raft.commit(), round: round.unwrap() - 1 };
    assert!(raft.step(world.now, Event::Receive { from: other, message: stale }).is_empty());
    let done = raft.step(world.now, Event::Receive { from: other, message: reply });
    assert!(done.contains(&Action::ReadAt { token: 9, index: raft.commit() }), "{done:?}");
}

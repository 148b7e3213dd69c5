//! Any model, level by level: after each return the set of all configurations that are possible, and nothing before.
//!
//! A *level* is the return of one operation. An operation is linearized only when such a return forces it, as in
//! [`crate::linear`]'s search (Lowe 2017). What can be settled for good are returns for which every operation that was
//! open at the time has ended, because only then is it known what it did: those levels are *committed*, which replaces
//! the set before by the set after. What comes later waits in a window as long as the slowest open operation. For the
//! window one way through is kept; an operation that ends may contradict it from its call on, and then another way is
//! looked for, from there and then from the committed set. There is none exactly when the history up to this event has
//! no order. Both directions are in `steps`, with the reductions.
//!
//! What it costs: exponential at worst, in what is open at once and in what the model leaves undetermined (a queue whose
//! elements came in concurrently, until they are taken). Limits turn that into an error, never into a verdict.

use super::configuration::{Configuration, SLOTS, Slots};
use super::states::States;
use super::steps::{Prepared, Search};
use super::streamed::Streamed;
use super::{Broken, Limits};
use std::collections::VecDeque;

/// States and kinds are looked through for what can go when there are this many.
const STATES_MIN: usize = 1 << 12;

/// Or when they take this much (bytes).
const STATES_BYTES_MIN: u64 = 4 << 20;

/// An operation of the window.
struct Record {
    /// `None` when it is not known to do anything that matters.
    kind: Option<u32>,
    call: u64,
    /// Its completion, of whatever type; `u64::MAX` while it is open.
    end: u64,
    slot: u32,
    /// Ended without effect, or counted among the unfinished ones.
    is_gone: bool,
}

/// A return.
struct Level {
    position: u64,
    /// The operation that returns, and those open at the time, itself included: numbers of records.
    goal: u64,
    open: Box<[u64]>,
}

/// Unfinished operations of one kind: when they were called.
pub(super) struct Unfinished {
    pub(super) kind: u32,
    pub(super) calls: Vec<u64>,
}

/// One key.
pub(super) struct Levels<M: Streamed> {
    states: States<M>,
    /// Operations in the order of their calls; `base` is the number of the first.
    records: VecDeque<Record>,
    base: u64,
    /// (who the caller says it is, number of its record).
    open: Vec<(u32, u64)>,
    free_slots: Vec<u32>,
    slots: u32,
    unfinished: Vec<Unfinished>,
    /// After the last committed level.
    frontier: Vec<Configuration>,
    /// Returns that are not committed yet.
    window: VecDeque<Level>,
    /// One way through the window: where it stands after each of its levels.
    path: VecDeque<Configuration>,
    /// As many states and kinds were in use when last looked, and took so many bytes.
    kept: (usize, u64),
    pub(super) configurations: u64,
}

impl<M: Streamed> Levels<M> {
    /// An object that is in one of these states, with unfinished operations that may still take effect.
    pub(super) fn new(
        model: M,
        initial: impl IntoIterator<Item = M::State>,
        unfinished: impl IntoIterator<Item = (M::Op, u64)>,
    ) -> Self {
        let mut states = States::new(model);
        let of = |state| Configuration { state, lin: Slots::default(), free: Slots::default(), spent: Vec::new() };
        let frontier = initial.into_iter().map(|state| of(states.state(state))).collect();
        let mut this = Self {
            states,
            records: VecDeque::new(),
            base: 0,
            open: Vec::new(),
            free_slots: Vec::new(),
            slots: 0,
            unfinished: Vec::new(),
            frontier,
            window: VecDeque::new(),
            path: VecDeque::new(),
            kept: (0, 0),
            configurations: 0,
        };
        for (op, call) in unfinished {
            let kind = this.kind(&op, call, u64::MAX);
            this.add_unfinished(kind, call);
        }
        this
    }

    /// About how many bytes it holds.
    pub(super) fn bytes(&self) -> u64 {
        let configurations = self.frontier.iter().chain(&self.path).map(Configuration::bytes).sum::<u64>();
        let calls: usize = self.unfinished.iter().map(|class| class.calls.len() * 8 + 32).sum();
        let window: usize = self.window.iter().map(|level| level.open.len() * 8 + size_of::<Level>()).sum();
        let records = self.records.len() * size_of::<Record>();
        let shared = self.frontier.first().map_or(0, |first| self.states.shared_bytes(first.state));
        self.states.bytes() + shared + configurations + (calls + window + records) as u64
    }

    /// An operation begins. `op`: what it does should nobody ever see it end.
    pub(super) fn call(&mut self, id: u32, position: u64, op: Option<&M::Op>) -> Result<(), Broken> {
        let slot = match self.free_slots.pop() {
            Some(slot) => slot,
            None if self.slots as usize == SLOTS => {
                return Err(Broken::GaveUp(format!("more than {SLOTS} operations open at a time")));
            }
            None => {
                self.slots += 1;
                self.slots - 1
            }
        };
        let kind = op.map(|op| self.kind(op, position, u64::MAX));
        self.open.push((id, self.base + self.records.len() as u64));
        self.records.push_back(Record { kind, call: position, end: u64::MAX, slot, is_gone: false });
        Ok(())
    }

    /// It ends for certain: `op` is what it did, `None` when it did nothing that matters.
    pub(super) fn end(&mut self, id: u32, position: u64, op: Option<&M::Op>, limits: &Limits) -> Result<(), Broken> {
        let open: Box<[u64]> = self.open.iter().map(|&(_, number)| number).collect();
        let Some(number) = self.close(id, position) else { return Ok(()) };
        let call = self.record(number).call;
        let kind = op.map(|op| self.kind(op, call, position));
        let record = self.record_mut(number);
        let before = std::mem::replace(&mut record.kind, kind);
        record.is_gone = kind.is_none();
        if kind.is_some() {
            self.window.push_back(Level { position, goal: number, open });
        }
        if kind.is_some() || before.is_some() { self.settle(call, limits) } else { self.commit(limits) }
    }

    /// Nobody will ever see it end.
    pub(super) fn leave(&mut self, id: u32, position: u64, op: Option<&M::Op>, limits: &Limits) -> Result<(), Broken> {
        let Some(number) = self.close(id, position) else { return Ok(()) };
        let call = self.record(number).call;
        let kind = op.map(|op| self.kind(op, call, u64::MAX)).filter(|&kind| !self.states.traits(kind).is_read_only);
        let record = self.record_mut(number);
        record.is_gone = true;
        let before = record.kind;
        if let Some(kind) = kind {
            self.add_unfinished(kind, call);
        }
        if kind.is_some() || before.is_some() { self.settle(call, limits) } else { self.commit(limits) }
    }

    fn kind(&mut self, op: &M::Op, call: u64, end: u64) -> u32 {
        let dated = self.states.model.dated(op, call, end);
        self.states.kind(&dated)
    }

    fn add_unfinished(&mut self, kind: u32, call: u64) {
        match self.unfinished.iter_mut().find(|class| class.kind == kind) {
            Some(class) => {
                let at = class.calls.partition_point(|&other| other < call);
                class.calls.insert(at, call);
            }
            None => self.unfinished.push(Unfinished { kind, calls: vec![call] }),
        }
    }

    /// Takes it off the list of open operations.
    fn close(&mut self, id: u32, position: u64) -> Option<u64> {
        let at = self.open.iter().position(|&(other, _)| other == id)?;
        let (_, number) = self.open.remove(at);
        let record = self.record_mut(number);
        record.end = position;
        let slot = record.slot;
        self.free_slots.push(slot);
        Some(number)
    }

    fn record(&self, number: u64) -> &Record {
        &self.records[(number - self.base) as usize]
    }

    fn record_mut(&mut self, number: u64) -> &mut Record {
        &mut self.records[(number - self.base) as usize]
    }

    /// Finds a way through the window again, after something became known of an operation called at `call`.
    fn settle(&mut self, call: u64, limits: &Limits) -> Result<(), Broken> {
        if self.open.is_empty() {
            // All is known: committing decides, and says more.
            self.path.clear();
            return self.commit(limits);
        }
        let from = self.window.partition_point(|level| level.position < call);
        self.path.truncate(from);
        let prepared: Vec<Prepared> = self.window.iter().skip(from).map(|level| self.prepare(level)).collect();
        let starts = match from {
            // There may have been no way to keep while nothing was open.
            0 => self.frontier.clone(),
            _ => vec![self.path[from - 1].clone()],
        };
        let mut search = Search::new(&mut self.states, limits);
        let mut found = search.find(&prepared, starts);
        self.configurations += search.configurations;
        if matches!(found, Ok(None)) && from > 0 {
            self.path.clear();
            let prepared: Vec<Prepared> = self.window.iter().map(|level| self.prepare(level)).collect();
            let mut search = Search::new(&mut self.states, limits);
            found = search.find(&prepared, self.frontier.clone());
            self.configurations += search.configurations;
        }
        self.path.extend(found?.ok_or(Broken::Impossible)?);
        self.commit(limits)
    }

    /// Commits every return at whose time nothing was open that is open still.
    fn commit(&mut self, limits: &Limits) -> Result<(), Broken> {
        while let Some(level) = self.window.front() {
            if level.open.iter().any(|&number| self.record(number).end == u64::MAX) {
                break;
            }
            let prepared = self.prepare(level);
            let frontier = std::mem::take(&mut self.frontier);
            let mut search = Search::new(&mut self.states, limits);
            let next = search.all(&prepared, frontier);
            self.configurations += search.configurations;
            self.frontier = next?;
            if self.frontier.is_empty() {
                return Err(Broken::Impossible);
            }
            self.window.pop_front();
            self.path.pop_front();
        }
        let oldest = self.window.front().map_or(u64::MAX, |level| level.position);
        while self.records.front().is_some_and(|record| record.end < oldest) {
            self.records.pop_front();
            self.base += 1;
        }
        self.sweep();
        Ok(())
    }

    /// Forgets states and kinds that nothing refers to any more.
    fn sweep(&mut self) {
        let is_small = self.states.len() < STATES_MIN.max(2 * self.kept.0);
        if is_small && self.states.bytes() < STATES_BYTES_MIN.max(2 * self.kept.1) {
            return;
        }
        let mut states = Vec::new();
        let mut kinds: Vec<&mut u32> = self.records.iter_mut().filter_map(|record| record.kind.as_mut()).collect();
        kinds.extend(self.unfinished.iter_mut().map(|class| &mut class.kind));
        for configuration in self.frontier.iter_mut().chain(&mut self.path) {
            states.push(&mut configuration.state);
            kinds.extend(configuration.spent.iter_mut().map(|(kind, _)| kind));
        }
        self.states.keep(kinds.into_iter(), states.into_iter());
        for configuration in self.frontier.iter_mut().chain(&mut self.path) {
            configuration.spent.sort_unstable();
        }
        self.kept = (self.states.len(), self.states.bytes());
    }

    /// What a search has to know of a level.
    fn prepare(&self, level: &Level) -> Prepared {
        let mut prepared = Prepared::default();
        let mut open: Vec<&Record> = level.open.iter().map(|&number| self.record(number)).collect();
        open.sort_unstable_by_key(|record| record.end);
        for record in open.into_iter().filter(|record| !record.is_gone) {
            let Some(kind) = record.kind else { continue };
            let traits = self.states.traits(kind);
            if traits.overwrites {
                prepared.overwriting.add(record.slot);
            }
            let list = if traits.is_read_only { &mut prepared.reads } else { &mut prepared.writes };
            list.push((record.slot, kind));
        }
        let goal = self.record(level.goal);
        prepared.goal = (goal.slot, goal.kind.unwrap_or_default());
        for class in &self.unfinished {
            let called = class.calls.partition_point(|&call| call < level.position) as u32;
            if called > 0 {
                prepared.unfinished.push((class.kind, called));
            }
        }
        prepared
    }
}

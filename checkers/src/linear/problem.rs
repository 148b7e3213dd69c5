//! One key's operations, reduced to numbers.

use crate::model::{Model, StepLimits, TooMuch};
use hashbrown::HashTable;
use std::collections::HashMap;
use std::hash::{BuildHasherDefault, Hash, Hasher};
use std::time::{Duration, Instant};

/// `returns` of an operation whose completion nobody saw.
pub(crate) const NEVER: u32 = u32::MAX;

/// An operation of a model and its window in the history.
#[derive(Clone, Debug)]
pub(crate) struct Item<O> {
    /// What was done.
    pub(crate) op: O,
    /// Index of the invocation.
    pub(crate) call: u32,
    /// Index of the completion; [`NEVER`] for an unfinished operation, which may take effect at any time or never.
    pub(crate) ret: u32,
}

impl<O> Item<O> {
    pub(crate) fn is_finished(&self) -> bool {
        self.ret != NEVER
    }
}

/// What a search may use up.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Budget {
    pub(crate) deadline: Option<Instant>,
    /// For one search (bytes).
    pub(crate) memory_max: u64,
    /// Configurations or model steps.
    pub(crate) configurations_max: u64,
}

impl Budget {
    /// Why the search must stop, if it must.
    pub(crate) fn exceeded(&self, configurations: u64, memory: u64, watch: &mut Watch) -> Option<&'static str> {
        if memory > self.memory_max {
            return Some("out of memory");
        }
        if configurations > self.configurations_max {
            return Some("too many configurations");
        }
        watch.is_late().then_some(OUT_OF_TIME)
    }

    /// Whether the deadline has passed.
    pub(crate) fn is_late(&self) -> bool {
        self.deadline.is_some_and(|deadline| Instant::now() >= deadline)
    }
}

/// Why a search gave up that its deadline ended.
pub(crate) const OUT_OF_TIME: &str = "out of time";

/// When to look at the clock. Steps of a search take from nanoseconds to milliseconds, by model and state, and looking at
/// the clock after each of the short ones would cost more than they do.
pub(crate) struct Watch {
    deadline: Option<Instant>,
    looked: Instant,
    /// Steps from one look to the next, and how many are left.
    every: u32,
    left: u32,
}

impl Watch {
    /// So few that a search whose steps become slow at once does not go far.
    const EVERY_MAX: u32 = 64;

    pub(crate) fn new(deadline: Option<Instant>) -> Self {
        Self { deadline, looked: Instant::now(), every: 1, left: 0 }
    }

    /// Whether the deadline has passed, as far as this knows: asked at each step.
    pub(crate) fn is_late(&mut self) -> bool {
        let Some(deadline) = self.deadline else { return false };
        if self.left > 0 {
            self.left -= 1;
            return false;
        }
        let now = Instant::now();
        let took = now - self.looked;
        self.every = if took < Duration::from_millis(1) {
            (2 * self.every).min(Self::EVERY_MAX)
        } else if took > Duration::from_millis(5) {
            (self.every / 4).max(1)
        } else {
            self.every
        };
        (self.looked, self.left) = (now, self.every - 1);
        now >= deadline
    }
}

/// What an engine found out.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Decision {
    /// An order exists.
    Linearizable,
    /// None exists.
    NotLinearizable,
    /// Not known, and why.
    GaveUp(&'static str),
}

/// A decision and what it took.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Decided {
    pub(crate) decision: Decision,
    pub(crate) engine: &'static str,
    pub(crate) configurations: u64,
    /// An order exists of everything up to this event, without it; 0 where that is not known.
    pub(crate) reach: u32,
    /// Whether none exists with it.
    pub(crate) is_first: bool,
}

/// A model over numbers: states and kinds of operations are small integers.
///
/// The hooks after `step` let a search forget what no remaining operation can tell apart; their defaults forget nothing.
/// Positions are indexes of events: an operation remains at `position` when its completion is not before it.
pub(crate) trait Stepper {
    fn initial(&mut self) -> u32;

    /// The state after an operation of this kind.
    fn step(&mut self, state: u32, kind: u32) -> Option<u32>;

    /// Whether operations of this kind leave every state as it is.
    fn is_read_only(&self, kind: u32) -> bool;

    /// Why a step was not taken to its end, if one was not: what it said then means nothing.
    fn gave_up(&self) -> Option<&'static str> {
        None
    }

    /// About how many bytes it holds.
    fn memory(&self) -> u64 {
        0
    }

    /// Whether a read-only operation of this kind is possible in a state.
    fn reads(&mut self, state: u32, kind: u32) -> bool {
        self.step(state, kind).is_some()
    }

    /// The representative of all states that no operation remaining at `position` can tell from `state`.
    fn settle(&mut self, state: u32, _position: u32) -> u32 {
        state
    }

    /// The representative of all kinds that do the same as `kind`, as far as operations remaining at `position` can tell.
    fn class(&self, kind: u32, _position: u32) -> u32 {
        kind
    }

    /// Whether an unfinished operation of this kind may be left out from `position` on.
    fn is_useless(&self, _kind: u32, _position: u32) -> bool {
        false
    }

    /// The only state in which an operation of this kind is possible, if there is only one.
    fn required(&self, _kind: u32) -> Option<u32> {
        None
    }

    /// The state after an operation of this kind, if it is always the same.
    fn produced(&self, _kind: u32) -> Option<u32> {
        None
    }

    /// Whether [`Stepper::leads`] knows anything.
    const KNOWS_THE_WAY: bool = false;

    /// Whether operations that do not start over may lead from the state after one of this kind to a state in which `goal`
    /// is possible.
    fn leads(&mut self, _state: u32, _kind: u32, _goal: u32) -> bool {
        true
    }

    /// Whether an operation of this kind may lead anywhere, whatever [`Stepper::leads`] says.
    fn starts_over(&self, _kind: u32) -> bool {
        true
    }

    /// Whether an unfinished operation that led to this state may as well not have happened.
    fn is_pointless(&self, _state: u32) -> bool {
        false
    }

    /// Whether `goal` lacks something that is neither there in `state` nor brought about by any of the kinds that may come
    /// before it. Asked where [`Stepper::KNOWS_THE_WAY`].
    fn is_beyond(&mut self, _state: u32, _goal: u32, _choices: impl Iterator<Item = u32> + Clone) -> bool {
        false
    }

    /// Whether [`Stepper::is_needed_later`] or [`Stepper::loses`] may hold: then a search that fails does not say where.
    const LOOKS_AHEAD: bool = false;

    /// Whether states have parts: then [`Stepper::loses`] is asked instead of [`Stepper::is_needed_later`].
    const HAS_PARTS: bool = false;

    /// Whether the step from `before` to `after` takes away what is needed yet, and nothing brings it back: neither what is
    /// called after `position` nor these kinds, which have not taken effect (`open` ones will).
    fn loses(&mut self, _before: u32, _after: u32, _position: u32, _open: &[u32], _unfinished: &[u32]) -> bool {
        false
    }

    /// Whether an operation called after `position` is possible in `state` only, while nothing that is called after
    /// `position` produces this state.
    fn is_needed_later(&self, _state: u32, _position: u32) -> bool {
        false
    }
}

/// Operations of one key with their kinds.
pub(crate) struct Problem {
    pub(crate) ops: Vec<NumberedOp>,
}

/// An operation whose model operation is a number.
#[derive(Clone, Copy, Debug)]
pub(crate) struct NumberedOp {
    pub(crate) kind: u32,
    pub(crate) call: u32,
    pub(crate) ret: u32,
}

/// Any model as a [`Stepper`]: states get numbers as they are found, steps are remembered.
pub(crate) struct InternStepper<'m, M: Model> {
    model: &'m M,
    kinds: Vec<M::Op>,
    states: Vec<M::State>,
    /// number of a state | half its hash << 32: so the table grows without hashing states again, which may be large.
    by_state: HashTable<u64>,
    steps: FastMap<(u32, u32), Option<u32>>,
    memory: u64,
    limits: StepLimits,
    gave_up: Option<&'static str>,
}

impl<'m, M: Model> InternStepper<'m, M> {
    /// Numbers the operations of `items`.
    pub(crate) fn new(model: &'m M, items: &[Item<M::Op>]) -> (Self, Problem) {
        let mut kinds = Vec::new();
        let mut by_op: FastMap<&M::Op, u32> = FastMap::default();
        let ops = items
            .iter()
            .map(|item| {
                let kind = *by_op.entry(&item.op).or_insert_with(|| {
                    kinds.push(item.op.clone());
                    kinds.len() as u32 - 1
                });
                NumberedOp { kind, call: item.call, ret: item.ret }
            })
            .collect();
        let stepper = Self {
            model,
            kinds,
            states: Vec::new(),
            by_state: HashTable::new(),
            steps: FastMap::default(),
            memory: 0,
            limits: StepLimits::NONE,
            gave_up: None,
        };
        (stepper, Problem { ops })
    }

    /// No single step may take more than this.
    pub(crate) fn within(mut self, budget: &Budget) -> Self {
        // A search holds back a quarter for what grows at once.
        self.limits = StepLimits { deadline: budget.deadline, bytes_max: budget.memory_max / 4 };
        self
    }

    /// The number of a state.
    pub(crate) fn intern(&mut self, state: M::State) -> u32 {
        let mut hasher = FastHasher::default();
        state.hash(&mut hasher);
        let hash = hasher.finish() as u32;
        let is_it = |&entry: &u64| (entry >> 32) as u32 == hash && self.states[entry as u32 as usize] == state;
        if let Some(&known) = self.by_state.find(spread(hash), is_it) {
            return known as u32;
        }
        let number = self.states.len() as u32;
        self.memory += self.model.state_bytes(&state) as u64 + 32;
        self.states.push(state);
        let entry = u64::from(number) | u64::from(hash) << 32;
        self.by_state.insert_unique(spread(hash), entry, |&entry| spread((entry >> 32) as u32));
        number
    }
}

impl<M: Model> Stepper for InternStepper<'_, M> {
    fn initial(&mut self) -> u32 {
        self.intern(self.model.initial())
    }

    fn step(&mut self, state: u32, kind: u32) -> Option<u32> {
        if let Some(&known) = self.steps.get(&(state, kind)) {
            return known;
        }
        let (state_before, op) = (&self.states[state as usize], &self.kinds[kind as usize]);
        let next = match self.model.step_within(state_before, op, &self.limits) {
            Ok(next) => next.map(|next| self.intern(next)),
            Err(TooMuch(why)) => {
                self.gave_up = Some(why);
                return None;
            }
        };
        self.steps.insert((state, kind), next);
        self.memory += 24;
        next
    }

    fn gave_up(&self) -> Option<&'static str> {
        self.gave_up
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn is_read_only(&self, kind: u32) -> bool {
        self.model.is_read_only(&self.kinds[kind as usize])
    }
}

/// What a table needs of a hash of which half is kept: it looks at the lowest bits and at the highest.
pub(super) fn spread(hash: u32) -> u64 {
    u64::from(hash).wrapping_mul(0x9e37_79b9_7f4a_7c15)
}

/// Sorts what is almost in order already, as operations in the order of their calls are in the order of their returns:
/// each passes only those that were open with it.
pub(crate) fn sort_nearly_sorted<T: Copy, K: Ord>(items: &mut [T], key: impl Fn(&T) -> K) {
    // So many steps cost less than sorting without regard to the order that is there.
    let mut steps_left = 8 * items.len();
    for at in 1..items.len() {
        let item = items[at];
        let item_key = key(&item);
        let mut to = at;
        while to > 0 && key(&items[to - 1]) > item_key {
            items[to] = items[to - 1];
            to -= 1;
        }
        items[to] = item;
        let steps = at - to;
        if steps > steps_left {
            return items.sort_unstable_by_key(key);
        }
        steps_left -= steps;
    }
}

/// A map for small keys of our own making: nobody chooses them to collide.
pub(crate) type FastMap<K, V> = HashMap<K, V, BuildHasherDefault<FastHasher>>;

/// Multiply and rotate, as in FxHash (Firefox), with a final mix because tables look at the top bits.
#[derive(Clone, Copy, Default)]
pub(crate) struct FastHasher(u64);

impl Hasher for FastHasher {
    fn write(&mut self, bytes: &[u8]) {
        for chunk in bytes.chunks(8) {
            let mut word = [0; 8];
            word[..chunk.len()].copy_from_slice(chunk);
            self.write_u64(u64::from_le_bytes(word));
        }
    }

    fn write_u8(&mut self, n: u8) {
        self.write_u64(u64::from(n));
    }

    fn write_u32(&mut self, n: u32) {
        self.write_u64(u64::from(n));
    }

    fn write_u64(&mut self, n: u64) {
        self.0 = (self.0.rotate_left(5) ^ n).wrapping_mul(0x517c_c1b7_2722_0a95);
    }

    fn write_usize(&mut self, n: usize) {
        self.write_u64(n as u64);
    }

    fn finish(&self) -> u64 {
        let mixed = (self.0 ^ (self.0 >> 32)).wrapping_mul(0xd6e8_feb8_6659_fd93);
        mixed ^ (mixed >> 32)
    }
}

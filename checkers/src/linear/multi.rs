//! Registers that are read and written together, with what a search may forget about them.
//!
//! A *part* is a value of a key. A transaction comes to what it needs from before (parts) and what it leaves behind (the
//! last value that it writes to each key). A state is the parts that are there, without those that no remaining transaction
//! can tell from others. Where a part is needed by what has not taken effect yet, and nothing that is left brings it
//! back, it may not be overwritten: with values that are written once, that leaves hardly anything to choose.

use super::problem::{FastMap, Item, NumberedOp, Problem, Stepper};
use crate::Value;
use crate::model::{Micro, MultiRegister};
use std::collections::BTreeMap;

/// The part that stands for all that are not observed.
const UNOBSERVED: u32 = 0;

/// When a part is observed, needed and produced, over the whole history; -1 for never.
#[derive(Clone, Copy)]
struct Part {
    key: u32,
    /// Latest completion of a transaction that needs it.
    observed_until: i64,
    /// Latest invocation of a finished transaction that needs it.
    needed_from: i64,
    /// Latest invocation of a transaction that leaves it behind.
    produced_from: i64,
}

/// A transaction: the parts that it needs, and per key that it writes the part that it leaves behind; both sorted by key.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Kind {
    needs: Box<[u32]>,
    /// (key, part).
    leaves: Box<[(u32, u32)]>,
    /// Its answers contradict each other.
    is_impossible: bool,
}

/// Several registers as a [`Stepper`].
pub(crate) struct MultiStepper {
    kinds: Vec<Kind>,
    /// Per kind: (until when it is so, the kind to take for it), ascending.
    stages: Vec<Box<[(i64, u32)]>>,
    parts: Vec<Part>,
    keys: u32,
    /// The initial part of each key.
    initial: Vec<u32>,
    /// States: parts that are there, sorted by key, and until when all of them are observed.
    states: Vec<(Box<[u32]>, i64)>,
    by_state: FastMap<Box<[u32]>, u32>,
    steps: FastMap<(u32, u32), Option<u32>>,
    memory: u64,
}

impl MultiStepper {
    /// Numbers the operations of `items`.
    pub(crate) fn new(model: &MultiRegister, items: &[Item<Vec<Micro>>]) -> (Self, Problem) {
        let mut numbers = Numbers::new(model);
        let mut ops = Vec::with_capacity(items.len());
        for item in items {
            let kind = numbers.kind(&item.op);
            ops.push(NumberedOp { kind, call: item.call, ret: item.ret });
        }
        let Numbers { mut parts, keys, initial, mut kinds, mut by_kind, .. } = numbers;
        for (op, item) in ops.iter().zip(items) {
            let (call, ret) = (i64::from(op.call), i64::from(op.ret));
            let kind = &kinds[op.kind as usize];
            for part in &kind.needs {
                let part = &mut parts[*part as usize];
                part.observed_until = part.observed_until.max(ret);
                if item.is_finished() {
                    part.needed_from = part.needed_from.max(call);
                }
            }
            for (_, part) in &kind.leaves {
                let part = &mut parts[*part as usize];
                part.produced_from = part.produced_from.max(call);
            }
        }
        let mut stages: Vec<Box<[(i64, u32)]>> = Vec::with_capacity(kinds.len());
        // The list grows while it is walked, by kinds that are stages of others.
        while stages.len() < kinds.len() {
            stages.push(stages_of(stages.len() as u32, &parts, &mut kinds, &mut by_kind));
        }
        let stepper = Self {
            kinds,
            stages,
            parts,
            keys: keys.len() as u32,
            initial,
            states: Vec::new(),
            by_state: FastMap::default(),
            steps: FastMap::default(),
            memory: 0,
        };
        (stepper, Problem { ops })
    }

    fn intern(&mut self, state: Box<[u32]>) -> u32 {
        if let Some(&known) = self.by_state.get(&state) {
            return known;
        }
        let until = state.iter().map(|part| self.parts[*part as usize].observed_until).min().unwrap_or(i64::MAX);
        // Once in the list and once in the map.
        self.memory += 2 * size_of_val(&*state) as u64 + 64;
        self.states.push((state.clone(), until));
        let number = self.states.len() as u32 - 1;
        self.by_state.insert(state, number);
        number
    }

    /// Whether a part is there.
    fn holds(&self, state: u32, part: u32) -> bool {
        let key = self.parts[part as usize].key;
        self.at(state, key) == Some(part)
    }

    /// What is known of a key.
    fn at(&self, state: u32, key: u32) -> Option<u32> {
        let parts = &self.states[state as usize].0;
        let at = parts.binary_search_by_key(&key, |part| self.parts[*part as usize].key);
        at.ok().map(|at| parts[at])
    }

    fn next(&self, state: u32, kind: u32) -> Option<Box<[u32]>> {
        let kind = &self.kinds[kind as usize];
        if kind.is_impossible || !kind.needs.iter().all(|part| self.holds(state, *part)) {
            return None;
        }
        let key_of = |part: &u32| self.parts[*part as usize].key;
        let before = self.states[state as usize].0.iter().copied();
        let stays = |part: &u32| kind.leaves.binary_search_by_key(&key_of(part), |(key, _)| *key).is_err();
        let new = kind.leaves.iter().map(|(_, part)| *part).filter(|part| *part != UNOBSERVED);
        let mut next: Vec<u32> = before.filter(stays).chain(new).collect();
        next.sort_unstable_by_key(key_of);
        Some(next.into())
    }
}

/// What to take a kind for, when.
fn stages_of(of: u32, parts: &[Part], kinds: &mut Vec<Kind>, by_kind: &mut FastMap<Kind, u32>) -> Box<[(i64, u32)]> {
    let mut kind = kinds[of as usize].clone();
    let until = |(_, part): &(u32, u32)| parts[*part as usize].observed_until;
    let mut order: Vec<usize> = (0..kind.leaves.len()).collect();
    order.sort_by_key(|at| until(&kind.leaves[*at]));
    let mut stages = Vec::with_capacity(order.len());
    let mut number = of;
    for at in order {
        stages.push((until(&kind.leaves[at]), number));
        kind.leaves[at].1 = UNOBSERVED;
        number = *by_kind.entry(kind.clone()).or_insert_with(|| {
            kinds.push(kind.clone());
            kinds.len() as u32 - 1
        });
    }
    stages.push((i64::MAX, number));
    stages.into()
}

/// Numbers for keys, parts and kinds.
struct Numbers<'m> {
    model: &'m MultiRegister,
    keys: FastMap<Value, u32>,
    parts: Vec<Part>,
    by_part: FastMap<(u32, Value), u32>,
    initial: Vec<u32>,
    kinds: Vec<Kind>,
    by_kind: FastMap<Kind, u32>,
}

impl<'m> Numbers<'m> {
    fn new(model: &'m MultiRegister) -> Self {
        let unobserved = Part { key: u32::MAX, observed_until: -1, needed_from: -1, produced_from: i64::MAX };
        Self {
            model,
            keys: FastMap::default(),
            parts: vec![unobserved],
            by_part: FastMap::default(),
            initial: Vec::new(),
            kinds: Vec::new(),
            by_kind: FastMap::default(),
        }
    }

    fn key(&mut self, key: &Value) -> u32 {
        if let Some(&known) = self.keys.get(key) {
            return known;
        }
        let number = self.keys.len() as u32;
        self.keys.insert(key.clone(), number);
        let initial = self.part(number, &self.model.initial);
        self.initial.push(initial);
        number
    }

    fn part(&mut self, key: u32, value: &Value) -> u32 {
        let parts = &mut self.parts;
        *self.by_part.entry((key, value.clone())).or_insert_with(|| {
            parts.push(Part { key, observed_until: -1, needed_from: -1, produced_from: -1 });
            parts.len() as u32 - 1
        })
    }

    fn kind(&mut self, op: &[Micro]) -> u32 {
        let mut needs: BTreeMap<u32, u32> = BTreeMap::new();
        let mut leaves: BTreeMap<u32, u32> = BTreeMap::new();
        let mut is_impossible = false;
        for micro in op {
            match micro {
                Micro::Read(_, None) => {}
                Micro::Read(key, Some(value)) => {
                    let key = self.key(key);
                    let part = self.part(key, value);
                    let known = leaves.get(&key).copied().unwrap_or_else(|| *needs.entry(key).or_insert(part));
                    is_impossible |= known != part;
                }
                Micro::Write(key, value) => {
                    let key = self.key(key);
                    let part = self.part(key, value);
                    leaves.insert(key, part);
                }
            }
        }
        let kind = Kind { needs: needs.into_values().collect(), leaves: leaves.into_iter().collect(), is_impossible };
        let kinds = &mut self.kinds;
        *self.by_kind.entry(kind).or_insert_with_key(|kind| {
            kinds.push(kind.clone());
            kinds.len() as u32 - 1
        })
    }
}

impl Stepper for MultiStepper {
    fn initial(&mut self) -> u32 {
        self.intern((0..self.keys).map(|key| self.initial[key as usize]).collect())
    }

    fn step(&mut self, state: u32, kind: u32) -> Option<u32> {
        if let Some(&known) = self.steps.get(&(state, kind)) {
            return known;
        }
        let next = self.next(state, kind).map(|next| self.intern(next));
        self.steps.insert((state, kind), next);
        self.memory += 24;
        next
    }

    fn is_read_only(&self, kind: u32) -> bool {
        let kind = &self.kinds[kind as usize];
        kind.leaves.iter().all(|(_, part)| kind.needs.contains(part))
    }

    fn memory(&self) -> u64 {
        self.memory
    }

    fn reads(&mut self, state: u32, kind: u32) -> bool {
        let kind = &self.kinds[kind as usize];
        !kind.is_impossible && kind.needs.iter().all(|part| self.holds(state, *part))
    }

    fn settle(&mut self, state: u32, position: u32) -> u32 {
        let (parts, until) = &self.states[state as usize];
        let is_observed = |part: &u32| self.parts[*part as usize].observed_until >= i64::from(position);
        if *until >= i64::from(position) {
            return state;
        }
        let settled = parts.iter().copied().filter(is_observed).collect();
        self.intern(settled)
    }

    fn class(&self, kind: u32, position: u32) -> u32 {
        let stage = self.stages[kind as usize].iter().find(|(until, _)| *until >= i64::from(position));
        stage.map_or(kind, |(_, kind)| *kind)
    }

    fn is_useless(&self, kind: u32, position: u32) -> bool {
        let is_observed = |part: u32| self.parts[part as usize].observed_until >= i64::from(position);
        !self.kinds[kind as usize].leaves.iter().any(|(_, part)| is_observed(*part))
    }

    const KNOWS_THE_WAY: bool = true;

    /// What the goal lacks goes first.
    fn leads(&mut self, state: u32, kind: u32, goal: u32) -> bool {
        let lacks = |part: &u32| !self.holds(state, *part);
        let leaves = &self.kinds[kind as usize].leaves;
        let is_lacking = |part: u32| self.kinds[goal as usize].needs.iter().any(|need| *need == part && lacks(need));
        kind == goal || leaves.iter().any(|(_, part)| is_lacking(*part))
    }

    fn is_beyond(&mut self, state: u32, goal: u32, choices: impl Iterator<Item = u32> + Clone) -> bool {
        let goal = &self.kinds[goal as usize];
        let is_out_of_reach = |need: &u32| {
            let leaves = |kind: u32| self.kinds[kind as usize].leaves.iter().any(|(_, part)| part == need);
            !self.holds(state, *need) && !choices.clone().any(leaves)
        };
        goal.is_impossible || goal.needs.iter().any(is_out_of_reach)
    }

    const LOOKS_AHEAD: bool = true;

    const HAS_PARTS: bool = true;

    fn loses(&mut self, before: u32, after: u32, position: u32, open: &[u32], unfinished: &[u32]) -> bool {
        let is_gone = |part: &&u32| !self.holds(after, **part);
        self.states[before as usize].0.iter().filter(is_gone).any(|part| {
            let of = &self.parts[*part as usize];
            let needs = |kind: &u32| self.kinds[*kind as usize].needs.contains(part);
            let leaves = |kind: &u32| self.kinds[*kind as usize].leaves.iter().any(|(_, other)| other == part);
            (of.needed_from > i64::from(position) || open.iter().any(needs))
                && of.produced_from < i64::from(position)
                && !open.iter().chain(unfinished).any(leaves)
        })
    }
}

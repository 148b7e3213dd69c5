//! Registers whose values are written once while they can be told apart, without any search: O(c log c) an operation,
//! where c is how many are open at once.
//!
//! The conditions are those of [`super::super::zones`]: a value, its readers, the compare-and-set that found it, the
//! readers of that one, … form a block; from its first return to its last call a block owns the register, if in that
//! order (a *forward* zone: no two may overlap), else it fits anywhere between its last call and its first return (a
//! *backward* zone: none may lie inside a forward one). Here they are kept while the history grows. Three facts make
//! that possible:
//!
//! - Events come in order, so the first return of a block never changes, and its last call only grows; conflicts arise
//!   only when it grows, and only with zones that return in between, of which a valid history has as many as were open.
//! - Whatever returns from now on was called at the oldest open call `T` or later. A block that cannot grow to `T`
//!   without a conflict can never be observed again: its values are forgotten, and whoever observes one of them is
//!   wrong for that reason. A value may even be written again then: it is another one.
//! - Of zones that lie before `T` as a whole it is enough to know the latest moment by which some other value must have
//!   had its turn ([`Zones::replaced_until`]).
//!
//! What stays are unfinished writes that nobody observed: they may take effect at any time.
//!
//! Positions count from 1; 0 is before everything, where the initial value was written.

use super::super::problem::FastMap;
use crate::Value;
use crate::model::RegisterOp;
use std::collections::{BTreeMap, VecDeque};

/// Why zones cannot go on.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Stop {
    /// No order is possible.
    Impossible,
    /// Something that zones know nothing about: another engine has to take over.
    NotUnique,
}

/// No return yet.
const NONE: u64 = u64::MAX;

/// Where a value comes from.
#[derive(Clone, Debug)]
enum Place {
    /// Certainly written: which stage of which block.
    Stage(u32, u64),
    /// By an operation that need not have happened: its call, and the value it expects if it is a compare-and-set.
    Pending(u64, Option<Value>),
}

/// One value of a block.
struct Stage {
    value: Value,
    /// First return of the operation that produced it, and of those that observed it.
    produced: u64,
    observed: u64,
}

/// Values that follow each other with nothing in between.
struct Block {
    /// First return of all.
    ret: u64,
    /// Last call of all that certainly happened.
    call: u64,
    /// Number of the first stage that is kept.
    first: u64,
    stages: VecDeque<Stage>,
}

impl Block {
    fn is_forward(&self) -> bool {
        self.ret < self.call
    }

    fn last(&self) -> u64 {
        self.first + self.stages.len() as u64 - 1
    }

    fn stage_mut(&mut self, number: u64) -> Option<&mut Stage> {
        self.stages.get_mut(usize::try_from(number.checked_sub(self.first)?).ok()?)
    }

    /// First return among the stages after this one.
    fn first_return_after(&self, number: u64) -> u64 {
        let later = self.stages.iter().skip((number + 1 - self.first) as usize);
        later.map(|stage| stage.produced.min(stage.observed)).min().unwrap_or(NONE)
    }
}

/// One register.
pub(super) struct Zones {
    blocks: Vec<Option<Block>>,
    unused: Vec<u32>,
    /// Values that can still be observed.
    places: FastMap<Value, Place>,
    /// Blocks with a return, by their first: ascending.
    by_return: VecDeque<(u64, u32)>,
    /// Forward zones, by their first return: they do not overlap.
    forward: BTreeMap<u64, u32>,
    /// Every block that returned first before this has been replaced by one that is forgotten.
    replaced_until: u64,
    /// Calls of open operations, ascending.
    open: Vec<u64>,
    /// As many blocks were left when last looked.
    kept: usize,
}

impl Zones {
    pub(super) fn new() -> Self {
        let initial = Stage { value: Value::Nil, produced: 0, observed: NONE };
        Self {
            blocks: vec![Some(Block { ret: 0, call: 0, first: 0, stages: VecDeque::from([initial]) })],
            unused: Vec::new(),
            places: FastMap::from_iter([(Value::Nil, Place::Stage(0, 0))]),
            by_return: VecDeque::from([(0, 0)]),
            forward: BTreeMap::new(),
            replaced_until: 0,
            open: Vec::new(),
            kept: 0,
        }
    }

    /// About how many bytes it holds.
    pub(super) fn bytes(&self) -> u64 {
        (self.blocks.len() * (size_of::<Block>() + 64)
            + self.places.capacity() * (size_of::<(Value, Place)>() + 1)
            + self.by_return.capacity() * 16
            + self.open.capacity() * 8
            + self.forward.len() * 32) as u64
    }

    /// Whether nothing is open.
    pub(super) fn is_quiet(&self) -> bool {
        self.open.is_empty()
    }

    /// How many values unfinished operations may still bring about. All pending ones, when nothing is open.
    pub(super) fn pending(&self) -> usize {
        self.places.len().saturating_sub(self.by_return.len())
    }

    /// An operation begins. `op`: what it does if nobody sees it end.
    pub(super) fn call(&mut self, position: u64, op: Option<&RegisterOp>) -> Result<(), Stop> {
        let (value, expected) = match op {
            Some(RegisterOp::Write(value)) => (value, None),
            Some(RegisterOp::Cas(expected, new)) if expected != new => (new, Some(expected.clone())),
            _ => {
                self.open.push(position);
                return Ok(());
            }
        };
        if self.places.contains_key(value) {
            // Perhaps it only has not been forgotten yet.
            self.sweep(position);
            if self.places.contains_key(value) {
                return Err(Stop::NotUnique);
            }
        }
        self.open.push(position);
        self.places.insert(value.clone(), Place::Pending(position, expected));
        Ok(())
    }

    /// The operation called at `call` certainly took effect.
    pub(super) fn succeed(&mut self, call: u64, position: u64, op: &RegisterOp) -> Result<(), Stop> {
        self.close(call);
        match op {
            RegisterOp::Read(value) => self.observe(value, call, position)?,
            RegisterOp::Cas(expected, new) if expected == new => self.observe(new, call, position)?,
            RegisterOp::Write(value) | RegisterOp::Cas(_, value) => {
                let (block, number) = self.confirm(value)?;
                let of = self.block_mut(block);
                if let Some(stage) = of.stage_mut(number) {
                    stage.produced = stage.produced.min(position);
                }
                self.returned(block, position);
            }
            RegisterOp::CasRefused(_) => return Err(Stop::NotUnique),
        }
        if self.by_return.len() > 2 * self.kept + 16 {
            self.sweep(position + 1);
        }
        Ok(())
    }

    /// It certainly did not. `op` as at its call.
    pub(super) fn fail(&mut self, call: u64, op: Option<&RegisterOp>) -> Result<(), Stop> {
        self.close(call);
        match op {
            Some(RegisterOp::Cas(expected, new)) if expected == new => Ok(()),
            Some(RegisterOp::Write(value) | RegisterOp::Cas(_, value)) => match self.places.get(value) {
                Some(Place::Pending(..)) => {
                    self.places.remove(value);
                    Ok(())
                }
                // Somebody observed what never was.
                _ => Err(Stop::Impossible),
            },
            _ => Ok(()),
        }
    }

    /// Nobody will ever see it end.
    pub(super) fn leave(&mut self, call: u64) {
        self.close(call);
    }

    fn close(&mut self, call: u64) {
        if let Ok(at) = self.open.binary_search(&call) {
            self.open.remove(at);
        }
    }

    fn block(&self, block: u32) -> &Block {
        self.blocks[block as usize].as_ref().expect("a block that is referred to is kept")
    }

    fn block_mut(&mut self, block: u32) -> &mut Block {
        self.blocks[block as usize].as_mut().expect("a block that is referred to is kept")
    }

    /// An operation that found `value`.
    fn observe(&mut self, value: &Value, call: u64, position: u64) -> Result<(), Stop> {
        let (block, number) = self.confirm(value)?;
        let of = self.block_mut(block);
        // It began when the value had been replaced for certain.
        if of.first_return_after(number) < call {
            return Err(Stop::Impossible);
        }
        if let Some(stage) = of.stage_mut(number) {
            stage.observed = stage.observed.min(position);
        }
        self.returned(block, position);
        self.grow(block, call)
    }

    fn returned(&mut self, block: u32, position: u64) {
        let of = self.block_mut(block);
        if of.ret == NONE {
            of.ret = position;
            self.by_return.push_back((position, block));
        }
    }

    /// The stage of a value, which certainly was there: then so were those it follows from.
    fn confirm(&mut self, value: &Value) -> Result<(u32, u64), Stop> {
        let mut chain: Vec<(Value, u64)> = Vec::new();
        let mut at = value.clone();
        let (block, mut number) = loop {
            match self.places.get(&at) {
                // Nobody wrote it, or something else has taken its place for good.
                None => return Err(Stop::Impossible),
                Some(Place::Stage(block, number)) => break (*block, *number),
                Some(Place::Pending(call, None)) => {
                    let stage = Stage { value: at.clone(), produced: NONE, observed: NONE };
                    let block = Block { ret: NONE, call: *call, first: 0, stages: VecDeque::from([stage]) };
                    let block = self.add(block);
                    self.places.insert(at, Place::Stage(block, 0));
                    break (block, 0);
                }
                // A circle of operations that found each other's value never got started.
                Some(Place::Pending(..)) if chain.iter().any(|(value, _)| *value == at) => {
                    return Err(Stop::Impossible);
                }
                Some(Place::Pending(call, Some(expected))) => {
                    let expected = expected.clone();
                    chain.push((std::mem::replace(&mut at, expected), *call));
                }
            }
        };
        for (value, call) in chain.into_iter().rev() {
            let of = self.block_mut(block);
            // What is there once cannot be taken twice.
            if number != of.last() {
                return Err(Stop::Impossible);
            }
            of.stages.push_back(Stage { value: value.clone(), produced: NONE, observed: NONE });
            number += 1;
            self.places.insert(value, Place::Stage(block, number));
            self.grow(block, call)?;
        }
        Ok((block, number))
    }

    fn add(&mut self, block: Block) -> u32 {
        match self.unused.pop() {
            Some(free) => {
                self.blocks[free as usize] = Some(block);
                free
            }
            None => {
                self.blocks.push(Some(block));
                self.blocks.len() as u32 - 1
            }
        }
    }

    /// An operation called at `call` belongs to this block.
    fn grow(&mut self, block: u32, call: u64) -> Result<(), Stop> {
        if call <= self.block(block).call {
            return Ok(());
        }
        if !self.may_grow(block, call) {
            return Err(Stop::Impossible);
        }
        let of = self.block_mut(block);
        of.call = call;
        if of.is_forward() {
            let ret = of.ret;
            self.forward.insert(ret, block);
        }
        Ok(())
    }

    /// Whether its last call could be this later one without a conflict with another zone.
    fn may_grow(&self, block: u32, call: u64) -> bool {
        let of = self.block(block);
        let ret = of.ret;
        if ret == NONE {
            return true;
        }
        if call < ret {
            // A backward zone, inside a forward one? Only the last that starts before can contain it.
            let before = self.forward.range(..call).next_back();
            return before.is_none_or(|(_, &other)| self.block(other).call < ret);
        }
        if ret < self.replaced_until {
            return false;
        }
        let before = self.forward.range(..ret).next_back();
        if before.is_some_and(|(_, &other)| self.block(other).call > ret) {
            return false;
        }
        // Up to its last call so far there is no conflict.
        let from = ret.max(of.call);
        let first = self.by_return.partition_point(|&(other, _)| other <= from);
        let between = self.by_return.range(first..).take_while(|&&(other, _)| other < call);
        between.filter(|&&(_, other)| other != block).all(|&(_, other)| self.block(other).call < ret)
    }

    /// The last values of blocks that could still be observed by an operation that begins now.
    pub(super) fn possible_values(&self, position: u64) -> Vec<Value> {
        let possible = self.by_return.iter().filter(|&&(_, block)| self.may_grow(block, position));
        possible.filter_map(|&(_, block)| self.block(block).stages.back()).map(|stage| stage.value.clone()).collect()
    }

    /// Operations that may have happened, or happen yet.
    pub(super) fn pending_ops(&self) -> Vec<(RegisterOp, u64)> {
        let op = |(value, place): (&Value, &Place)| match place {
            Place::Stage(..) => None,
            Place::Pending(call, None) => Some((RegisterOp::Write(value.clone()), *call)),
            Place::Pending(call, Some(expected)) => Some((RegisterOp::Cas(expected.clone(), value.clone()), *call)),
        };
        self.places.iter().filter_map(op).collect()
    }

    /// Forgets what can never be observed again.
    fn sweep(&mut self, now: u64) {
        let oldest = self.open.first().copied().unwrap_or(now);
        // By when other values must have had their turn, because of this block: the latest, and the second.
        let (mut latest, mut second) = ((0, u32::MAX), 0);
        for &(_, block) in &self.by_return {
            let until = self.block(block).replaces_until(oldest);
            if until > latest.0 {
                (latest, second) = ((until, block), latest.0);
            } else {
                second = second.max(until);
            }
        }
        let mut by_return = std::mem::take(&mut self.by_return);
        let replaced_until = self.replaced_until;
        by_return.retain(|&(ret, block)| {
            let others = if latest.1 == block { second } else { latest.0 };
            let of = self.block(block);
            let is_gone = ret < others.max(replaced_until) && ret.max(of.call) < oldest;
            if is_gone {
                self.replaced_until = self.replaced_until.max(of.replaces_until(oldest));
                self.forget(block);
            } else {
                self.forget_stages(block, oldest);
            }
            !is_gone
        });
        self.by_return = by_return;
        self.kept = self.by_return.len();
    }

    fn forget(&mut self, block: u32) {
        if let Some(of) = self.blocks[block as usize].take() {
            of.stages.iter().for_each(|stage| drop(self.places.remove(&stage.value)));
            self.forward.remove(&of.ret);
            self.unused.push(block);
        }
    }

    /// Forgets values of a block that later ones have replaced for good.
    fn forget_stages(&mut self, block: u32, oldest: u64) {
        let mut of = self.blocks[block as usize].take().expect("a block that is referred to is kept");
        while of.stages.len() > 1 && of.first_return_after(of.first) < oldest {
            if let Some(stage) = of.stages.pop_front() {
                self.places.remove(&stage.value);
            }
            of.first += 1;
        }
        self.blocks[block as usize] = Some(of);
    }
}

impl Block {
    /// Blocks that returned first before this cannot grow to `oldest` any more, because of this one; 0 for all can.
    fn replaces_until(&self, oldest: u64) -> u64 {
        // A forward zone begins before `oldest`, so nothing else can be there until its last call and at `oldest`; a
        // backward one lies before it, so nothing else can be there before its last call and at `oldest`.
        if self.ret < oldest { self.call } else { 0 }
    }
}

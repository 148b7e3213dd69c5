//! What contradicts each other in a register of which most values are written once, and some again.
//!
//! Where one value only is written twice (nil by deleting, say), [`super::zones`] does not apply, and a search may walk
//! through everything before it knows that a read came too late. So what is said about such values is *forgotten*: reads
//! and refused compare-and-sets are left out, writes of them write some value that nobody reads, and a compare-and-set
//! that found one is a plain write. Each of that makes more orders possible, never fewer: had the history had an order,
//! so would what is left. It has unique values, and is decided in O(n log n). When it has no order, the blocks that
//! contradict each other, one or two, say why.

use super::values::{INITIAL, NumberedRegisterOp, RegisterHistory, RegisterOpAt};
use super::zones::{self, Block, NOBODY, ValueUse, Window};
use super::{Decision, problem::sort_nearly_sorted};

/// Of so many operations, one value at least must be another one, or there is little to be found.
const OPS_PER_VALUE_MAX: usize = 4;

/// A history with what was forgotten of it.
struct Relaxed {
    history: RegisterHistory,
    /// Places of its operations in the history that it was made of.
    sources: Vec<u32>,
}

impl Relaxed {
    /// `None` where too few values are unique.
    fn new(history: &RegisterHistory) -> Option<Self> {
        if history.values * OPS_PER_VALUE_MAX < history.ops.len() {
            return None;
        }
        let mut producers = vec![0u32; history.values];
        producers[INITIAL as usize] = 1;
        for at in &history.ops {
            if let NumberedRegisterOp::Write(value) | NumberedRegisterOp::Cas(_, value) = at.op {
                producers[value as usize] += 1;
            }
        }
        let is_unique = |value: u32| producers[value as usize] <= 1;
        let mut values = history.values as u32;
        let (mut ops, mut sources) = (Vec::with_capacity(history.ops.len()), Vec::with_capacity(history.ops.len()));
        for (source, at) in history.ops.iter().enumerate() {
            let mut left = |value| {
                if is_unique(value) {
                    return value;
                }
                values += 1;
                values - 1
            };
            let op = match at.op {
                NumberedRegisterOp::Read(value) if is_unique(value) => at.op,
                NumberedRegisterOp::Read(_) | NumberedRegisterOp::CasRefused(_) => continue,
                NumberedRegisterOp::Write(value) => NumberedRegisterOp::Write(left(value)),
                // One that changes nothing would be the second producer of its value.
                NumberedRegisterOp::Cas(found, new) if is_unique(found) => NumberedRegisterOp::Cas(found, left(new)),
                NumberedRegisterOp::Cas(_, new) => NumberedRegisterOp::Write(left(new)),
            };
            ops.push(RegisterOpAt { op, ..*at });
            sources.push(source as u32);
        }
        Some(Self { history: RegisterHistory { ops, values: values as usize }, sources })
    }
}

/// Whether no order exists, as far as unique values tell.
pub(super) fn is_impossible(history: &RegisterHistory) -> bool {
    let relaxed = Relaxed::new(history);
    relaxed.is_some_and(|relaxed| zones::decide(&relaxed.history) == Some(Decision::NotLinearizable))
}

/// An operation that is part of a contradiction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Contradicting {
    /// Its place in the history.
    pub(super) at: u32,
    /// Whether it is taken for a write, whatever it found.
    pub(super) is_plain_write: bool,
}

/// Operations that contradict each other, whatever all others do; in the order of the history. `None` where unique values
/// do not tell.
pub(super) fn contradiction(history: &RegisterHistory) -> Option<Vec<Contradicting>> {
    let relaxed = Relaxed::new(history)?;
    let ops = &relaxed.history.ops[..];
    let uses = zones::uses_of(&relaxed.history)?;
    let members = conflict(ops, &uses)?;
    let contradicting = |at: u32| {
        let source = relaxed.sources[at as usize];
        let (before, now) = (history.ops[source as usize].op, ops[at as usize].op);
        let is_plain_write = matches!((before, now), (NumberedRegisterOp::Cas(..), NumberedRegisterOp::Write(_)));
        Contradicting { at: source, is_plain_write }
    };
    Some(members.into_iter().map(contradicting).collect())
}

/// No block.
const NONE: u32 = u32::MAX;

/// The operations of one block that is impossible in itself, or of two that do not go together, or one that found what
/// nobody wrote.
fn conflict(ops: &[RegisterOpAt], uses: &[ValueUse]) -> Option<Vec<u32>> {
    let mut block_of = vec![NONE; uses.len()];
    let mut zones: Vec<(u32, Window)> = Vec::new();
    for root in 0..uses.len() {
        let block = Block::from_root(ops, uses, root, |value| block_of[value] = root as u32);
        match block {
            Some(Block { zone: Some(zone), .. }) => zones.push((root as u32, zone)),
            Some(Block { zone: None, .. }) => {
                follow(ops, uses, root as u32, &mut block_of);
                return Some(members(ops, uses, &block_of, [root as u32; 2]));
            }
            None => {}
        }
    }
    let is_homeless = |at: &RegisterOpAt| match at.op {
        NumberedRegisterOp::Read(value) | NumberedRegisterOp::Cas(value, _) => {
            at.is_finished() && uses[value as usize].producer == NOBODY && value != INITIAL
        }
        _ => false,
    };
    if let Some(at) = ops.iter().position(is_homeless) {
        return Some(vec![at as u32]);
    }
    let pair = colliding(&zones)?;
    Some(members(ops, uses, &block_of, pair))
}

/// Adds to a block what comes of all that took the same value: that one of them took it, others may know.
fn follow(ops: &[RegisterOpAt], uses: &[ValueUse], root: u32, block_of: &mut [u32]) {
    let taken = |(at, op): (usize, &RegisterOpAt)| match op.op {
        NumberedRegisterOp::Cas(found, new) if uses[new as usize].producer == at as u32 => Some((found, new)),
        _ => None,
    };
    let mut taken: Vec<(u32, u32)> = ops.iter().enumerate().filter_map(taken).collect();
    taken.sort_unstable();
    let mut todo: Vec<u32> = (0..uses.len() as u32).filter(|&value| block_of[value as usize] == root).collect();
    while let Some(value) = todo.pop() {
        let first = taken.partition_point(|(found, _)| *found < value);
        for &(_, new) in taken[first..].iter().take_while(|(found, _)| *found == value) {
            if std::mem::replace(&mut block_of[new as usize], root) != root {
                todo.push(new);
            }
        }
    }
}

/// Two blocks that both own the register at some moment, or one of which has no room beside the other.
fn colliding(zones: &[(u32, Window)]) -> Option<[u32; 2]> {
    let is_forward = |zone: &Window| zone.ret < zone.call;
    let mut forward: Vec<(u32, Window)> = zones.iter().filter(|(_, zone)| is_forward(zone)).copied().collect();
    sort_nearly_sorted(&mut forward, |(_, zone)| zone.ret);
    if let Some(pair) = forward.windows(2).find(|pair| pair[1].1.ret < pair[0].1.call) {
        return Some([pair[0].0, pair[1].0]);
    }
    zones.iter().filter(|(_, zone)| !is_forward(zone)).find_map(|(root, zone)| {
        let before = forward.partition_point(|(_, other)| other.ret < zone.call);
        let (other, around) = forward.get(before.checked_sub(1)?)?;
        (around.call >= zone.ret).then_some([*other, *root])
    })
}

/// The operations of some blocks.
fn members(ops: &[RegisterOpAt], uses: &[ValueUse], block_of: &[u32], roots: [u32; 2]) -> Vec<u32> {
    let is_in = |value: u32| roots.contains(&block_of[value as usize]);
    let is_member = |(at, op): &(usize, &RegisterOpAt)| match op.op {
        NumberedRegisterOp::Read(value) => is_in(value),
        NumberedRegisterOp::Write(value) => is_in(value) && uses[value as usize].producer == *at as u32,
        NumberedRegisterOp::Cas(_, new) => is_in(new) && uses[new as usize].producer == *at as u32,
        NumberedRegisterOp::CasRefused(_) => false,
    };
    ops.iter().enumerate().filter(is_member).map(|(at, _)| at as u32).collect()
}

//! Registers whose values are written once each: no search at all, O(n log n).
//!
//! A value that has one producer only ties all its readers to it. A write, its readers, the compare-and-set that found
//! its value, the readers of that one, … must follow each other with nothing in between: a *block*. An operation of
//! earlier stages of a block may not begin after one of later stages has ended. Between its first completion and its
//! last invocation, a block owns the register (a *forward zone*), unless all of its operations overlap in some point,
//! where it can be squeezed in anywhere (a *backward zone*, from the last invocation to the first completion). An order
//! exists exactly when no two forward zones overlap and no backward zone lies inside a forward zone.
//!
//! Gibbons and Korach, "Testing shared memories" (SIAM J. Comput. 26, 1997, section 4.2), in the words of Golab, Li and
//! Shah, "Analyzing consistency properties for fun and profit" (PODC 2011); extended here by compare-and-set, whose
//! operations chain zones into blocks. Compared with search and brute force by the tests of this module's parent.
//!
//! What it does not do: values with several producers, nil written again, refused compare-and-sets. Those return `None`.

use super::problem::{Decision, NEVER, sort_nearly_sorted};
use super::values::{INITIAL, NumberedRegisterOp, RegisterHistory, RegisterOpAt};

/// The initial value was written before everything else.
const BEFORE_ALL: u32 = 0;

/// No operation.
const NOBODY: u32 = u32::MAX;

/// A window in the history. Places are one more than the indexes of events, so that there is one before all.
#[derive(Clone, Copy)]
struct Window {
    call: u32,
    ret: u32,
}

/// Everything that happens to one value.
#[derive(Clone, Copy)]
struct ValueUse {
    producer: u32,
    /// The latest invocation and the earliest completion of finished reads.
    reads: Window,
    readers: u32,
    /// Compare-and-sets that expect it and are not known to be useless: how many, and all their numbers in one, so that
    /// the last one left is known.
    takers: u32,
    takers_xor: u32,
}

impl ValueUse {
    const NONE: Self =
        Self { producer: NOBODY, reads: Window { call: BEFORE_ALL, ret: NEVER }, readers: 0, takers: 0, takers_xor: 0 };

    fn toggle_taker(&mut self, taker: u32, is_there: bool) {
        self.takers_xor ^= taker;
        self.takers = if is_there { self.takers + 1 } else { self.takers - 1 };
    }
}

/// Decides, or returns `None` where values are not unique.
pub(crate) fn decide(history: &RegisterHistory) -> Option<Decision> {
    let ops = &history.ops[..];
    let mut uses = vec![ValueUse::NONE; history.values];
    for (i, at) in ops.iter().enumerate() {
        let produced = match at.op {
            NumberedRegisterOp::Read(value) => {
                let value = &mut uses[value as usize];
                let read = window(at);
                value.reads.call = value.reads.call.max(read.call);
                value.reads.ret = value.reads.ret.min(read.ret);
                value.readers += 1;
                continue;
            }
            NumberedRegisterOp::CasRefused(_) => return None,
            NumberedRegisterOp::Write(value) => value,
            NumberedRegisterOp::Cas(expected, new) => {
                uses[expected as usize].toggle_taker(i as u32, true);
                new
            }
        };
        let producer = &mut uses[produced as usize].producer;
        if produced == INITIAL || *producer != NOBODY {
            return None;
        }
        *producer = i as u32;
    }
    drop_unobserved(ops, &mut uses);
    let fits = blocks(ops, &uses).is_some_and(|zones| zones_fit(&zones));
    Some(if fits { Decision::Linearizable } else { Decision::NotLinearizable })
}

/// Unfinished operations whose value nobody observes need not have happened, and then neither need those whose value
/// only they observed.
fn drop_unobserved(ops: &[RegisterOpAt], uses: &mut [ValueUse]) {
    for first in 0..uses.len() {
        let mut value = first;
        loop {
            let at = &mut uses[value];
            if at.readers > 0 || at.takers > 0 || at.producer == NOBODY || ops[at.producer as usize].is_finished() {
                break;
            }
            let i = std::mem::replace(&mut at.producer, NOBODY);
            let NumberedRegisterOp::Cas(expected, _) = ops[i as usize].op else { break };
            uses[expected as usize].toggle_taker(i, false);
            value = expected as usize;
        }
    }
}

/// The zones of all blocks, or `None` when a block is impossible in itself.
fn blocks(ops: &[RegisterOpAt], uses: &[ValueUse]) -> Option<Vec<Window>> {
    let mut zones = Vec::with_capacity(uses.len());
    // Finished operations that are part of a block.
    let mut placed = 0;
    for (root, at) in uses.iter().enumerate() {
        let mut zone = match ops.get(at.producer as usize) {
            Some(write) if matches!(write.op, NumberedRegisterOp::Write(_)) => {
                placed += u32::from(write.is_finished());
                window(write)
            }
            None if root == INITIAL as usize => Window { call: BEFORE_ALL, ret: BEFORE_ALL },
            _ => continue,
        };
        let mut value = at;
        loop {
            // Readers of one value may come in any order among themselves: they extend the zone together.
            if value.reads.ret < zone.call {
                return None;
            }
            zone.call = zone.call.max(value.reads.call);
            zone.ret = zone.ret.min(value.reads.ret);
            placed += value.readers;
            match value.takers {
                0 => break,
                1 => {}
                // A value that is there once cannot be taken twice.
                _ => return None,
            }
            let taker = &ops[value.takers_xor as usize];
            let NumberedRegisterOp::Cas(_, new) = taker.op else { unreachable!("takers are cas") };
            placed += u32::from(taker.is_finished());
            let taker = window(taker);
            if taker.ret < zone.call {
                return None;
            }
            zone.call = zone.call.max(taker.call);
            zone.ret = zone.ret.min(taker.ret);
            value = &uses[new as usize];
        }
        zones.push(zone);
    }
    // Those outside of all blocks observed a value that nobody can have written.
    let finished = ops.iter().filter(|op| op.is_finished()).count();
    (placed as usize == finished).then_some(zones)
}

fn window(at: &RegisterOpAt) -> Window {
    // There are fewer events than that: see `History::push`.
    Window { call: at.call + 1, ret: if at.is_finished() { at.ret + 1 } else { NEVER } }
}

/// `call` of a zone is its last invocation, `ret` its first completion.
fn zones_fit(zones: &[Window]) -> bool {
    let is_forward = |zone: &&Window| zone.ret < zone.call;
    let mut forward: Vec<Window> = zones.iter().filter(is_forward).copied().collect();
    // They come in the order in which their values were first seen.
    sort_nearly_sorted(&mut forward, |zone| zone.ret);
    if forward.windows(2).any(|pair| pair[1].ret < pair[0].call) {
        return false;
    }
    // The place of the zone before among the forward ones: that of the next one is near.
    let mut before = 0;
    zones.iter().filter(|zone| !is_forward(zone)).all(|zone| {
        // Forward zones are disjoint: only the last one that starts before can contain this one.
        before = partition_point_near(&forward, before, |other| other.ret < zone.call);
        before == 0 || forward[before - 1].call < zone.ret
    })
}

/// As `partition_point`, from a guess.
fn partition_point_near<T>(items: &[T], guess: usize, is_before: impl Fn(&T) -> bool) -> usize {
    let (mut at, mut steps_left) = (guess, 8);
    while at < items.len() && is_before(&items[at]) && steps_left > 0 {
        (at, steps_left) = (at + 1, steps_left - 1);
    }
    while at > 0 && !is_before(&items[at - 1]) && steps_left > 0 {
        (at, steps_left) = (at - 1, steps_left - 1);
    }
    if steps_left > 0 { at } else { items.partition_point(is_before) }
}

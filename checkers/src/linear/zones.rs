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
//! What it does not do: values with several producers, nil written again, refused compare-and-sets. Those return `None`;
//! [`super::relaxed`] forgets them, which is enough to find most of what is wrong.

use super::problem::{Decision, NEVER, sort_nearly_sorted};
use super::values::{INITIAL, NumberedRegisterOp, RegisterHistory, RegisterOpAt};
use std::hint::select_unpredictable;

/// The initial value was written before everything else.
pub(super) const BEFORE_ALL: u32 = 0;

/// No operation.
pub(super) const NOBODY: u32 = u32::MAX;

/// A window in the history. Places are one more than the indexes of events, so that there is one before all.
#[derive(Clone, Copy)]
pub(super) struct Window {
    pub(super) call: u32,
    pub(super) ret: u32,
}

/// Everything that happens to one value.
#[derive(Clone, Copy)]
pub(super) struct ValueUse {
    /// Who writes it, and is not known to be useless; [`NOBODY`] without one.
    pub(super) producer: u32,
    /// The latest invocation and the earliest completion of finished reads.
    reads: Window,
    readers: u32,
    /// Compare-and-sets that expect it and are not known to be useless: how many, and all their numbers in one, so that
    /// the last one left is known.
    pub(super) takers: u32,
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
    let uses = uses_of(history)?;
    let fits = blocks(&history.ops, &uses).is_some_and(|zones| zones_fit(&zones));
    Some(if fits { Decision::Linearizable } else { Decision::NotLinearizable })
}

/// What happens to each value; `None` where values are not unique.
pub(super) fn uses_of(history: &RegisterHistory) -> Option<Vec<ValueUse>> {
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
    Some(uses)
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
    for root in 0..uses.len() {
        if let Some(block) = Block::from_root(ops, uses, root, |_| {}) {
            placed += block.finished;
            zones.push(block.zone?);
        }
    }
    // Those outside of all blocks observed a value that nobody can have written.
    let finished = ops.iter().filter(|op| op.is_finished()).count();
    (placed as usize == finished).then_some(zones)
}

/// Values that must follow each other.
pub(super) struct Block {
    /// `None` when it is impossible in itself.
    pub(super) zone: Option<Window>,
    /// How many finished operations are part of it.
    pub(super) finished: u32,
}

impl Block {
    /// The block that begins with value `root`, if one does; `seen` is told all of its values.
    #[inline]
    pub(super) fn from_root(
        ops: &[RegisterOpAt],
        uses: &[ValueUse],
        root: usize,
        mut seen: impl FnMut(usize),
    ) -> Option<Self> {
        let mut value = root;
        let mut finished = 0;
        let mut zone = match ops.get(uses[root].producer as usize) {
            Some(write) if matches!(write.op, NumberedRegisterOp::Write(_)) => {
                finished += u32::from(write.is_finished());
                window(write)
            }
            None if root == INITIAL as usize => Window { call: BEFORE_ALL, ret: BEFORE_ALL },
            _ => return None,
        };
        loop {
            seen(value);
            let at = &uses[value];
            // Readers of one value may come in any order among themselves: they extend the zone together.
            if at.reads.ret < zone.call {
                return Some(Self { zone: None, finished });
            }
            zone.call = zone.call.max(at.reads.call);
            zone.ret = zone.ret.min(at.reads.ret);
            finished += at.readers;
            match at.takers {
                0 => return Some(Self { zone: Some(zone), finished }),
                1 => {}
                // A value that is there once cannot be taken twice.
                _ => return Some(Self { zone: None, finished }),
            }
            let taker = &ops[at.takers_xor as usize];
            let NumberedRegisterOp::Cas(_, new) = taker.op else { unreachable!("takers are cas") };
            finished += u32::from(taker.is_finished());
            let taker = window(taker);
            if taker.ret < zone.call {
                seen(new as usize);
                return Some(Self { zone: None, finished });
            }
            zone.call = zone.call.max(taker.call);
            zone.ret = zone.ret.min(taker.ret);
            value = new as usize;
        }
    }
}

fn window(at: &RegisterOpAt) -> Window {
    // There are fewer events than that: see `History::push`.
    Window { call: at.call + 1, ret: if at.is_finished() { at.ret + 1 } else { NEVER } }
}

/// `call` of a zone is its last invocation, `ret` its first completion.
pub(super) fn zones_fit(zones: &[Window]) -> bool {
    // The initial value was there before all: that is no place in the history.
    let places = zones.iter().flat_map(|zone| [zone.call, zone.ret]).filter(|&at| at != BEFORE_ALL && at != NEVER);
    let (from, to) = places.fold((NEVER, BEFORE_ALL), |(from, to), at| (from.min(at), to.max(at)));
    // Where hardly anything else happened meanwhile, looking at each place is faster than sorting.
    match from < to && (to - from) as usize <= 8 * zones.len() {
        true => dense_zones_fit(zones, from, (to - from) as usize + 2),
        false => sorted_zones_fit(zones),
    }
}

/// By a list of all places in the history that zones reach, from the one before `from` on.
fn dense_zones_fit(zones: &[Window], from: u32, len: usize) -> bool {
    let place = |at: u32| at.saturating_sub(from - 1);
    // Per place: where the forward zone ends that begins there; then, where the last one ends that began there or before.
    // Which way a zone goes, nobody can foresee: no branch here. Backward zones go to a place behind all others.
    let mut ends = vec![0; len + 1];
    for zone in zones {
        let at = select_unpredictable(zone.ret < zone.call, place(zone.ret) as usize, len);
        ends[at] = place(zone.call);
    }
    let (ends, mut end, mut overlap) = (&mut ends[..len], 0, false);
    for (at, here) in ends.iter_mut().enumerate() {
        overlap |= *here != 0 && (at as u32) < end;
        end = if *here != 0 { *here } else { end };
        *here = end;
    }
    let has_no_room = |zone: &Window| {
        let before = (place(zone.call) as usize).wrapping_sub(1);
        let end = ends.get(before).copied().unwrap_or(0);
        (zone.ret >= zone.call) & (end != 0) & (zone.ret != NEVER && end >= place(zone.ret))
    };
    !overlap && !zones.iter().any(has_no_room)
}

fn sorted_zones_fit(zones: &[Window]) -> bool {
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// All places different, as those of a history are; the initial value or not.
        #[test]
        fn both_ways_to_fit_zones_agree(mut places in Just((1..40u32).collect::<Vec<_>>()).prop_shuffle(), count in 1usize..9, initial: Option<u32>) {
            let never = places[0].is_multiple_of(4);
            let mut zones: Vec<Window> =
                places.drain(..2 * count).collect::<Vec<_>>().chunks(2).map(|at| Window { call: at[0], ret: at[1] }).collect();
            if never {
                zones[0].ret = NEVER;
            }
            if let Some(last) = initial {
                zones.push(Window { call: if last % 2 == 0 { places[0] } else { BEFORE_ALL }, ret: BEFORE_ALL });
            }
            let at = || zones.iter().flat_map(|zone| [zone.call, zone.ret]).filter(|&at| at != BEFORE_ALL && at != NEVER);
            let (from, to) = (at().min().unwrap(), at().max().unwrap());
            prop_assert_eq!(sorted_zones_fit(&zones), dense_zones_fit(&zones, from, (to - from) as usize + 2));
        }
    }
}

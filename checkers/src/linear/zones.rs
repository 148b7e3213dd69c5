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

use super::problem::{Decision, Item};
use super::values::{INITIAL, NumberedRegisterOp, Values};
use crate::model::RegisterOp;

/// The initial value was written before everything else.
const BEFORE_ALL: i64 = -1;

/// A window in the history.
#[derive(Clone, Copy)]
struct Window {
    call: i64,
    ret: i64,
}

/// Everything that happens to one value.
#[derive(Clone, Default)]
struct ValueUse {
    producer: Option<usize>,
    /// Finished reads.
    readers: Vec<usize>,
    /// Compare-and-sets that expect it and are not known to be useless.
    takers: Vec<usize>,
}

/// Decides, or returns `None` where values are not unique.
pub(crate) fn decide(items: &[Item<RegisterOp>]) -> Option<Decision> {
    let mut values = Values::new();
    let ops: Vec<NumberedRegisterOp> = items.iter().map(|item| values.number(&item.op)).collect();
    let mut uses = vec![ValueUse::default(); values.len()];
    for (i, op) in ops.iter().enumerate() {
        let produced = match *op {
            NumberedRegisterOp::Read(value) => {
                uses[value as usize].readers.push(i);
                continue;
            }
            NumberedRegisterOp::CasRefused(_) => return None,
            NumberedRegisterOp::Write(value) => value,
            NumberedRegisterOp::Cas(expected, new) => {
                uses[expected as usize].takers.push(i);
                new
            }
        };
        if produced == INITIAL || uses[produced as usize].producer.replace(i).is_some() {
            return None;
        }
    }
    drop_unobserved(items, &ops, &mut uses);
    let zones = match blocks(items, &ops, &uses) {
        Some(zones) => zones,
        None => return Some(Decision::NotLinearizable),
    };
    Some(if zones_fit(zones) { Decision::Linearizable } else { Decision::NotLinearizable })
}

/// Unfinished operations whose value nobody observes need not have happened, and then neither need those whose value
/// only they observed.
fn drop_unobserved(items: &[Item<RegisterOp>], ops: &[NumberedRegisterOp], uses: &mut [ValueUse]) {
    let mut todo: Vec<usize> = (0..uses.len()).collect();
    while let Some(value) = todo.pop() {
        let is_unobserved = uses[value].readers.is_empty() && uses[value].takers.is_empty();
        let Some(i) = uses[value].producer.filter(|&i| is_unobserved && !items[i].is_finished()) else { continue };
        uses[value].producer = None;
        if let NumberedRegisterOp::Cas(expected, _) = ops[i] {
            uses[expected as usize].takers.retain(|&taker| taker != i);
            todo.push(expected as usize);
        }
    }
}

/// The zones of all blocks, or `None` when a block is impossible in itself.
fn blocks(items: &[Item<RegisterOp>], ops: &[NumberedRegisterOp], uses: &[ValueUse]) -> Option<Vec<Window>> {
    let mut zones = Vec::new();
    let mut placed = 0;
    for (root, at) in uses.iter().enumerate() {
        let start = match at.producer {
            Some(i) if matches!(ops[i], NumberedRegisterOp::Write(_)) => window(&items[i]),
            None if root == INITIAL as usize => Window { call: BEFORE_ALL, ret: BEFORE_ALL },
            _ => continue,
        };
        placed += usize::from(at.producer.is_some());
        let mut zone = Window { call: start.call, ret: start.ret };
        let mut value = root;
        loop {
            // Readers of one value may come in any order among themselves: they extend the zone together, afterwards.
            let latest_call = zone.call;
            for &reader in &uses[value].readers {
                let reader = window(&items[reader]);
                if reader.ret < latest_call {
                    return None;
                }
                zone.call = zone.call.max(reader.call);
                zone.ret = zone.ret.min(reader.ret);
            }
            placed += uses[value].readers.len();
            match uses[value].takers[..] {
                [] => break,
                [taker] => {
                    let NumberedRegisterOp::Cas(_, new) = ops[taker] else { unreachable!("takers are cas") };
                    let taker = window(&items[taker]);
                    if taker.ret < zone.call {
                        return None;
                    }
                    zone.call = zone.call.max(taker.call);
                    zone.ret = zone.ret.min(taker.ret);
                    placed += 1;
                    value = new as usize;
                }
                // A value that is there once cannot be taken twice.
                _ => return None,
            }
        }
        zones.push(zone);
    }
    // Finished operations outside of all blocks observed a value that nobody can have written.
    let finished = items.iter().filter(|item| item.is_finished()).count();
    let unfinished_placed = unfinished_on_chains(items, ops, uses);
    (placed == finished + unfinished_placed).then_some(zones)
}

/// Unfinished operations that blocks contain: those reachable from the initial value or a write.
fn unfinished_on_chains(items: &[Item<RegisterOp>], ops: &[NumberedRegisterOp], uses: &[ValueUse]) -> usize {
    let mut count = 0;
    for (root, at) in uses.iter().enumerate() {
        match at.producer {
            Some(i) if matches!(ops[i], NumberedRegisterOp::Write(_)) => count += usize::from(!items[i].is_finished()),
            None if root == INITIAL as usize => {}
            _ => continue,
        }
        let mut value = root;
        while let [taker] = uses[value].takers[..] {
            let NumberedRegisterOp::Cas(_, new) = ops[taker] else { unreachable!("takers are cas") };
            count += usize::from(!items[taker].is_finished());
            value = new as usize;
        }
    }
    count
}

fn window(item: &Item<RegisterOp>) -> Window {
    Window { call: i64::from(item.call), ret: if item.is_finished() { i64::from(item.ret) } else { i64::MAX } }
}

/// `call` of a zone is its last invocation, `ret` its first completion.
fn zones_fit(zones: Vec<Window>) -> bool {
    let (mut forward, backward): (Vec<Window>, Vec<Window>) = zones.into_iter().partition(|zone| zone.ret < zone.call);
    forward.sort_unstable_by_key(|zone| zone.ret);
    if forward.windows(2).any(|pair| pair[1].ret < pair[0].call) {
        return false;
    }
    backward.iter().all(|zone| {
        // Forward zones are disjoint: only the last one that starts before can contain this one.
        let before = forward.partition_point(|other| other.ret < zone.call);
        before == 0 || forward[before - 1].call < zone.ret
    })
}

//! Locks and semaphores, when every process does one thing after the other.
//!
//! An acquisition is best placed right before its answer and a release right after its call: then permits are held as
//! briefly as they can be, all at once, and no order of a process's own operations is touched. So an order exists exactly
//! when these certain holds are never too many. Acquisitions that nobody saw end only stand in the way and never
//! happened; a release that nobody saw end happened at once. Certain holds of one permit are disjoint, so their
//! order is the order of the tokens.

use super::super::problem::{Decision, FastMap, Item};
use crate::model::{Lock, LockOp};

/// What a process holds, and until when it is busy.
#[derive(Clone, Copy, Default)]
struct Holder {
    holds: u32,
    busy_until: u32,
}

/// Decides, or returns `None` where a process does two things at a time.
pub(crate) fn decide(lock: &Lock, items: &[Item<LockOp>]) -> Option<Decision> {
    let mut by_call: Vec<&Item<LockOp>> = items.iter().collect();
    by_call.sort_unstable_by_key(|item| item.call);
    let mut holders: FastMap<u32, Holder> = FastMap::default();
    // (event, whether a permit is taken there, the token): at the answer of an acquisition, at the call of a release.
    let mut moments: Vec<(u32, bool, Option<i64>)> = Vec::with_capacity(items.len());
    let mut is_possible = true;
    for item in by_call {
        let (LockOp::Acquire(process, _) | LockOp::Release(process)) = item.op;
        let holder = holders.entry(process).or_default();
        if item.call < holder.busy_until {
            return None;
        }
        holder.busy_until = item.ret;
        match item.op {
            LockOp::Acquire(_, token) if item.is_finished() => {
                holder.holds += 1;
                if !lock.reentrant || holder.holds == 1 {
                    moments.push((item.ret, true, token));
                } else if token.is_some() && lock.fencing {
                    return None;
                }
            }
            LockOp::Acquire(..) => {}
            LockOp::Release(_) if holder.holds == 0 => is_possible &= !item.is_finished(),
            LockOp::Release(_) => {
                holder.holds -= 1;
                if !lock.reentrant || holder.holds == 0 {
                    moments.push((item.call, false, None));
                }
            }
        }
    }
    if !is_possible {
        return Some(Decision::NotLinearizable);
    }
    moments.sort_unstable();
    let (mut held, mut largest) = (0, None);
    for (_, is_taken, token) in moments {
        if !is_taken {
            held -= 1;
            continue;
        }
        held += 1;
        let is_stale = lock.fencing && token.is_some() && token <= largest;
        if held > lock.permits || is_stale {
            return Some(Decision::NotLinearizable);
        }
        largest = token.filter(|_| lock.fencing).max(largest);
    }
    Some(Decision::Linearizable)
}

//! Counters whose additions are all of one size, or all answered and in one direction.
//!
//! Then the numbers say which addition came how many-th: the counter climbs through levels, and *slot* `k` is the
//! addition that leads from level `k` to the next. `fetch-add` tells its slot; a read of level `k` comes after slot
//! `k - 1` and before slot `k`. Slots follow each other, so what bounds one bounds its neighbours, too. Additions without
//! an answer go into the slots that are left: those open to one addition are in a row (a convex bipartite graph, Glover,
//! 1967), so from the first slot on the addition with the earliest end is right. Two additions that come out of
//! such a matching in the wrong order of time can always change places.

use super::super::problem::{Decision, FastMap, Item};
use super::{END, Window};
use crate::model::CounterOp;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

/// An addition whose answer nobody saw, or that has none.
struct Addition {
    window: Window,
    is_finished: bool,
}

/// Operations in terms of levels.
struct Levels {
    /// The addition of each slot, if it is told.
    told: Vec<Option<Window>>,
    /// (level, window).
    reads: Vec<(usize, Window)>,
    additions: Vec<Addition>,
}

/// Decides, or returns `None` where additions cannot be told apart by their numbers.
pub(crate) fn decide(items: &[Item<CounterOp>]) -> Option<Decision> {
    let mut steps = items.iter().filter_map(|item| match item.op {
        CounterOp::Add(n) | CounterOp::FetchAdd(n, _) if n != 0 => Some(n),
        _ => None,
    });
    let step = steps.next().unwrap_or(1);
    let levels = if steps.all(|other| other == step) { equal_steps(items, step)? } else { answered_steps(items)? };
    let fits = levels.is_some_and(|levels| levels.fit());
    Some(if fits { Decision::Linearizable } else { Decision::NotLinearizable })
}

/// Every addition leads one level on. The inner `None` is for numbers that cannot be.
fn equal_steps(items: &[Item<CounterOp>], step: i64) -> Option<Option<Levels>> {
    let is_addition = |item: &&Item<CounterOp>| !matches!(item.op, CounterOp::Read(_));
    let levels_max = items.iter().filter(is_addition).count();
    // Beyond the range of numbers additions are impossible.
    step.checked_mul(i64::try_from(levels_max).ok()?)?;
    let level = |number: i64| {
        let level = number.checked_div(step).filter(|level| level.checked_mul(step) == Some(number))?;
        usize::try_from(level).ok().filter(|&level| level <= levels_max)
    };
    let mut levels = Levels { told: vec![None; levels_max], reads: Vec::new(), additions: Vec::new() };
    for item in items {
        let window = Window::of(item);
        match item.op {
            CounterOp::Add(0) => {}
            CounterOp::Add(_) => levels.additions.push(Addition { window, is_finished: item.is_finished() }),
            CounterOp::FetchAdd(..) | CounterOp::Read(_) if !item.is_finished() => return None,
            CounterOp::Read(number) | CounterOp::FetchAdd(0, number) => {
                let Some(level) = level(number) else { return Some(None) };
                levels.reads.push((level, window));
            }
            CounterOp::FetchAdd(_, number) => {
                let slot = level(number).and_then(|slot| levels.told.get_mut(slot));
                if slot.is_none_or(|slot| slot.replace(window).is_some()) {
                    return Some(None);
                }
            }
        }
    }
    let told = levels.told.iter().rposition(Option::is_some).map_or(0, |slot| slot + 1);
    let read = levels.reads.iter().map(|&(level, _)| level).max().unwrap_or(0);
    levels.told.truncate(told.max(read));
    Some(Some(levels))
}

/// Every addition told the number it found, and all go the same way. The inner `None` is for numbers that cannot be.
fn answered_steps(items: &[Item<CounterOp>]) -> Option<Option<Levels>> {
    let mut told: Vec<(i64, i64, Window)> = Vec::new();
    let mut reads: Vec<(i64, Window)> = Vec::new();
    let mut unanswered: Vec<i64> = Vec::new();
    for item in items {
        let window = Window::of(item);
        match item.op {
            CounterOp::Add(0) => {}
            CounterOp::Add(_) if item.is_finished() => return None,
            CounterOp::Add(n) => unanswered.push(n),
            CounterOp::FetchAdd(..) | CounterOp::Read(_) if !item.is_finished() => return None,
            CounterOp::Read(number) | CounterOp::FetchAdd(0, number) => reads.push((number, window)),
            CounterOp::FetchAdd(n, number) => told.push((number, n, window)),
        }
    }
    let is_up = told.first().is_none_or(|&(_, n, _)| n > 0);
    // An addition without an answer need not have happened, unless it brings back a number that was left behind.
    if told.iter().map(|&(_, n, _)| n).chain(unanswered.iter().copied()).any(|n| (n > 0) != is_up) {
        return None;
    }
    told.sort_unstable_by_key(|&(number, ..)| if is_up { i128::from(number) } else { -i128::from(number) });
    let impossible = || if unanswered.is_empty() { Some(None) } else { None };
    let mut level_of: FastMap<i64, usize> = FastMap::default();
    let mut number = 0i64;
    for (level, &(found, n, _)) in told.iter().enumerate() {
        if found != number {
            return impossible();
        }
        level_of.insert(number, level);
        match number.checked_add(n) {
            Some(next) => number = next,
            None => return Some(None),
        }
    }
    level_of.insert(number, told.len());
    let reads: Option<Vec<(usize, Window)>> =
        reads.into_iter().map(|(number, window)| Some((*level_of.get(&number)?, window))).collect();
    let Some(reads) = reads else { return impossible() };
    let told = told.into_iter().map(|(_, _, window)| Some(window)).collect();
    Some(Some(Levels { told, reads, additions: Vec::new() }))
}

impl Levels {
    /// Whether an order exists.
    fn fit(self) -> bool {
        let slots = self.told.len();
        // When each slot may be; the last entry is for all that come later.
        let mut windows = vec![Window { first: 0, last: END }; slots + 1];
        for (window, told) in windows.iter_mut().zip(&self.told) {
            *window = told.unwrap_or(*window);
        }
        for &(level, read) in &self.reads {
            windows[level].first = windows[level].first.max(read.first);
            if level > 0 {
                windows[level - 1].last = windows[level - 1].last.min(read.last);
            }
        }
        for at in 1..=slots {
            windows[at].first = windows[at].first.max(windows[at - 1].first);
            let before = slots - at;
            windows[before].last = windows[before].last.min(windows[before + 1].last);
        }
        windows.iter().all(|window| window.first <= window.last) && self.fill(&windows)
    }

    /// Whether additions without an answer can fill the slots that are left, and none of those that certainly happened
    /// finds no slot.
    fn fill(mut self, windows: &[Window]) -> bool {
        let slots = self.told.len();
        let first_slot = |addition: &Addition| windows.partition_point(|window| window.last < addition.window.first);
        let last_slot =
            |addition: &Addition| windows.partition_point(|window| window.first <= addition.window.last).checked_sub(1);
        // A slot's window opens no later than those of the slots after it.
        self.additions.sort_unstable_by_key(|addition| addition.window.first);
        let mut additions = self.additions.iter().peekable();
        // (last slot, whether it need not happen) of those that may go into the slot at hand.
        let mut open: BinaryHeap<Reverse<(usize, bool)>> = BinaryHeap::new();
        for slot in 0..=slots {
            while let Some(addition) = additions.next_if(|addition| first_slot(addition) <= slot) {
                match last_slot(addition) {
                    Some(last) => open.push(Reverse((last, !addition.is_finished))),
                    None if addition.is_finished => return false,
                    None => {}
                }
            }
            while let Some(&Reverse((last, is_optional))) = open.peek() {
                if last >= slot {
                    break;
                }
                if !is_optional {
                    return false;
                }
                open.pop();
            }
            if slot < slots && self.told[slot].is_none() && open.pop().is_none() {
                return false;
            }
        }
        true
    }
}

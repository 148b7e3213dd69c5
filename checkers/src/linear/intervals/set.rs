//! Sets: elements do not know of each other, unless somebody reads all of them.
//!
//! Without such a read every element is a register of its own, which is true while the element is there. With one, and
//! as long as nothing is ever removed, the set only grows: an element comes at some moment between the first call of an
//! `add` of it and the first answer of one, reads must contain each other, and what the smaller one lacks and the
//! larger one has came in between. Placing everything as early as possible, read after read, finds an order if there is
//! one. Where something is removed and everything is read, an element that is wrong by itself decides, too; otherwise
//! `None`.

use super::super::problem::{Budget, Decided, Decision, FastMap, Item};
use super::super::values::{INITIAL, NumberedRegisterOp, RegisterHistory, RegisterOpAt, UNOBSERVED};
use super::super::{EngineChoice, engines};
use super::Window;
use crate::Value;
use crate::model::SetOp;

/// What reads say of single elements, at most: more is left to the search.
const ANSWERS_MAX: usize = 4_000_000;

/// Decides, or returns `None` where elements depend on each other in ways that only a search can follow.
pub(crate) fn decide(items: &[Item<SetOp>], budget: &Budget) -> Option<Decided> {
    let reads_all = items.iter().filter(|item| matches!(item.op, SetOp::Read(_))).count();
    let removes = items.iter().any(|item| matches!(item.op, SetOp::Remove(_)));
    if reads_all == 0 {
        return Some(each_alone(items, budget));
    }
    if removes {
        let mut known: FastMap<&Value, ()> = FastMap::default();
        for item in items {
            match &item.op {
                SetOp::Add(value) | SetOp::Remove(value) | SetOp::Contains(value, _) => drop(known.insert(value, ())),
                SetOp::Read(all) => known.extend(all.iter().map(|value| (value, ()))),
            }
        }
        // What is wrong about one element is wrong.
        let is_small = reads_all.saturating_mul(known.len()) <= ANSWERS_MAX;
        return is_small.then(|| each_alone(items, budget)).filter(|alone| alone.decision == Decision::NotLinearizable);
    }
    let decision = if grows(items) { Decision::Linearizable } else { Decision::NotLinearizable };
    Some(Decided { decision, engine: "intervals", configurations: 0, reach: 0, is_first: false })
}

/// What a register holds whose element is there; otherwise it holds the initial value.
const THERE: u32 = UNOBSERVED + 1;

/// Every element as a register: what reads of everything say of it, too.
fn each_alone(items: &[Item<SetOp>], budget: &Budget) -> Decided {
    let mut by_value: FastMap<&Value, u32> = FastMap::default();
    // (element, register operation), then by element.
    let mut ops: Vec<(u32, RegisterOpAt)> = Vec::with_capacity(items.len());
    for item in items {
        let there = |is_there: bool| if is_there { THERE } else { INITIAL };
        let mut number = |value| {
            let next = by_value.len() as u32;
            *by_value.entry(value).or_insert(next)
        };
        let (value, op) = match &item.op {
            SetOp::Add(value) => (value, NumberedRegisterOp::Write(there(true))),
            SetOp::Remove(value) => (value, NumberedRegisterOp::Write(there(false))),
            SetOp::Contains(value, answer) => (value, NumberedRegisterOp::Read(there(*answer))),
            SetOp::Read(all) => {
                for value in all {
                    number(value);
                }
                continue;
            }
        };
        ops.push((number(value), RegisterOpAt { op, call: item.call, ret: item.ret }));
    }
    let mut is_there = vec![false; by_value.len()];
    for item in items {
        let SetOp::Read(all) = &item.op else { continue };
        is_there.fill(false);
        all.iter().for_each(|value| is_there[by_value[value] as usize] = true);
        let read = |is_there: bool| NumberedRegisterOp::Read(if is_there { THERE } else { INITIAL });
        let answers = is_there.iter().enumerate();
        ops.extend(answers.map(|(element, is_there)| {
            (element as u32, RegisterOpAt { op: read(*is_there), call: item.call, ret: item.ret })
        }));
    }
    ops.sort_by_key(|(element, _)| *element);
    let mut decided =
        Decided { decision: Decision::Linearizable, engine: "intervals", configurations: 0, reach: 0, is_first: false };
    let mut of_one = RegisterHistory { ops: Vec::new(), values: THERE as usize + 1 };
    for chunk in ops.chunk_by(|(a, _), (b, _)| a == b) {
        of_one.ops.clear();
        of_one.ops.extend(chunk.iter().map(|(_, op)| *op));
        let one = engines::decide_register(&of_one, budget, EngineChoice::Auto);
        decided.configurations += one.configurations;
        let decision = one.decision;
        match decision {
            Decision::Linearizable => {}
            Decision::NotLinearizable => return Decided { decision, ..decided },
            Decision::GaveUp(_) => decided.decision = decision,
        }
    }
    decided
}

/// When an element may have come.
#[derive(Clone, Copy)]
struct Coming {
    window: Window,
    /// Place of the first read that has it; `usize::MAX` without one.
    stage: usize,
    /// Whether it certainly came.
    is_certain: bool,
}

/// Whether an order exists, when nothing is removed.
fn grows(items: &[Item<SetOp>]) -> bool {
    let mut coming: FastMap<&Value, Coming> = FastMap::default();
    let mut reads = Vec::new();
    for item in items {
        let window = Window::of(item);
        match &item.op {
            SetOp::Add(value) => {
                let unknown = Coming { window: Window::NEVER, stage: usize::MAX, is_certain: false };
                let coming = coming.entry(value).or_insert(unknown);
                coming.window.first = coming.window.first.min(window.first);
                coming.window.last = coming.window.last.min(window.last);
                coming.is_certain |= item.is_finished();
            }
            SetOp::Read(all) if item.is_finished() => reads.push((all, window)),
            SetOp::Contains(..) | SetOp::Read(_) | SetOp::Remove(_) => {}
        }
    }
    // Only now the first call of each is known.
    let mut latest_absence: FastMap<&Value, u32> = FastMap::default();
    for item in items.iter().filter(|item| item.is_finished()) {
        let window = Window::of(item);
        match &item.op {
            SetOp::Contains(value, true) => {
                // Nobody ever added it.
                let Some(coming) = coming.get_mut(value) else { return false };
                coming.window.last = coming.window.last.min(window.last);
                coming.is_certain = true;
            }
            SetOp::Contains(value, false) => {
                let latest = latest_absence.entry(value).or_default();
                *latest = window.first.max(*latest);
            }
            _ => {}
        }
    }
    reads.sort_by_key(|(all, _)| all.len());
    let mut ranked = 0;
    for (stage, (all, _)) in reads.iter().enumerate() {
        for value in *all {
            let Some(coming) = coming.get_mut(value) else { return false };
            if coming.stage == usize::MAX {
                coming.stage = stage;
                coming.is_certain = true;
                ranked += 1;
            }
        }
        // Otherwise it lacks something that a smaller one has.
        if ranked != all.len() {
            return false;
        }
    }
    let mut elements: Vec<(usize, Window)> = Vec::with_capacity(coming.len());
    for (value, coming) in coming {
        if coming.is_certain {
            let first = coming.window.first.max(latest_absence.get(value).copied().unwrap_or(0));
            elements.push((coming.stage, Window { first, last: coming.window.last }));
        }
    }
    elements.sort_unstable_by_key(|(stage, _)| *stage);
    let mut elements = elements.into_iter().peekable();
    // The gap from which on everything is free, stage by stage.
    let mut now = 0;
    for stage in (0..=reads.len()).map(|stage| if stage == reads.len() { usize::MAX } else { stage }) {
        let mut latest = now;
        while let Some((_, window)) = elements.next_if(|(of, _)| *of == stage) {
            if now.max(window.first) > window.last {
                return false;
            }
            latest = latest.max(window.first);
        }
        now = latest;
        if let Some((_, read)) = reads.get(stage) {
            if now > read.last {
                return false;
            }
            now = now.max(read.first);
        }
    }
    true
}

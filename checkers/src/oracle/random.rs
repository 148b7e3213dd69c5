//! Random small histories: what a [`Load`] gives, and in every second case something wrong with it.

use crate::linear::Evidence;
use crate::model::{FailMeans, ModelKind};
use crate::synth::{Load, Place, Values};
use crate::{Event, EventKind, History, Outcome, Value};
use rand::{Rng, RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;

/// More operations would make brute force slow.
const OPS_MAX: usize = 9;

/// Between two events.
const TICK_NS: u64 = 1000;

/// A history and how its failures are meant.
#[derive(Clone, Debug)]
pub struct Case {
    /// Of at most nine operations (and one more that is planted).
    pub history: History,
    /// What a `fail` says in it.
    pub fail_means: FailMeans,
    /// Something about each unfinished operation, now and then: true or not, but possible.
    pub evidence: Vec<Evidence>,
}

/// The case with this number: the same for the same model, seed and number. About half of them are linearizable.
pub fn random_case(model: ModelKind, seed: u64, number: u64) -> Case {
    // Numbers next to each other must not give seeds next to each other with the same high bits: mixed by SplitMix64.
    let mut mixed = seed.wrapping_add(number.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94D0_49BB_1331_11EB);
    let mut rng = ChaCha8Rng::seed_from_u64(mixed ^ (mixed >> 31));
    let fraction = |rng: &mut ChaCha8Rng| [0.0, 0.1, 0.3][rng.random_range(0..3)];
    let load = Load {
        ops: rng.random_range(3..=OPS_MAX),
        clients: rng.random_range(2..=5),
        keys: if rng.random_range(0..4) == 0 { 2 } else { 1 },
        values: if rng.random() { Values::Unique } else { Values::Distinct(rng.random_range(1..=3)) },
        unfinished: fraction(&mut rng),
        failed: fraction(&mut rng),
        fail_means: if rng.random() { FailMeans::NoEffect } else { FailMeans::AnsweredNo },
        rich: rng.random(),
        violation: (rng.random_range(0..4) == 0).then_some(Place::Random),
        seed: rng.next_u64(),
        model,
    };
    let mut events: Vec<Event> = load.simulate().collect();
    if load.violation.is_none() && rng.random_range(0..3) > 0 {
        for round in 0..rng.random_range(1..=3) {
            change(model, round, &mut events, &mut rng);
        }
    }
    for (index, event) in events.iter_mut().enumerate() {
        event.index = index as u64;
        event.time_ns = index as u64 * TICK_NS;
    }
    let history = History::from_events(events).expect("indexes are dense");
    let evidence = evidence(&history, &mut rng);
    Case { history, fail_means: load.fail_means, evidence }
}

fn evidence(history: &History, rng: &mut ChaCha8Rng) -> Vec<Evidence> {
    let Ok(ops) = history.ops() else { return Vec::new() };
    let unknown = ops.iter().filter(|op| op.outcome() == Outcome::Unfinished && rng.random_range(0..3) > 0);
    let unknown: Vec<_> = unknown.map(|op| op.call_index() as u64).collect();
    let mut some = |index: u64| {
        let happened = rng.random_range(0..3) > 0;
        let mut evidence = Evidence { index, happened, by: None, by_ns: None };
        match rng.random_range(0..3) {
            0 if happened => evidence.by = Some(rng.random_range(index + 1..=history.len() as u64)),
            1 if happened => evidence.by_ns = Some(rng.random_range(index..=history.len() as u64) * TICK_NS),
            _ => {}
        }
        evidence
    };
    unknown.into_iter().map(&mut some).collect()
}

/// Something small, after which the history is as well formed as before.
fn change(model: ModelKind, round: u32, events: &mut [Event], rng: &mut ChaCha8Rng) {
    let at = rng.random_range(0..events.len());
    match (rng.random_range(0..6), events[at].kind) {
        (0..3, EventKind::Ok) => {
            let other = &events[rng.random_range(0..events.len())];
            // A transaction is answered with its own steps.
            let is_own = other.f.as_str() != "txn";
            let borrowed = other.kind == EventKind::Ok && other.f == events[at].f && is_own && rng.random();
            let is_number = model == ModelKind::Counter;
            events[at].value = if borrowed { other.value.clone() } else { altered(&events[at].value, is_number, rng) };
        }
        (3, EventKind::Ok) => events[at].kind = EventKind::Fail,
        (4, EventKind::Ok) => {
            // Never heard of: its process goes on under another name.
            let process = events[at].process;
            // Each round its own name.
            let renamed = process.wrapping_add(1000 << round);
            events[at].kind = EventKind::Info;
            events[at + 1..].iter_mut().filter(|event| event.process == process).for_each(|e| e.process = renamed);
        }
        (3 | 4, EventKind::Fail) if !matches!(events[at].f.as_str(), "contains" | "fetch-add" | "read") => {
            events[at].kind = EventKind::Ok;
        }
        _ => moved(events, at, rng),
    }
}

/// The event some places earlier or later, but not past others of its process.
fn moved(events: &mut [Event], mut at: usize, rng: &mut ChaCha8Rng) {
    let later: bool = rng.random();
    for _ in 0..rng.random_range(1..=5) {
        let to = if later { at + 1 } else { at.wrapping_sub(1) };
        if events.get(to).is_none_or(|other| other.process == events[at].process) {
            break;
        }
        events.swap(at, to);
        at = to;
    }
}

/// Another value of the same kind; numbers stay numbers where `is_number`.
fn altered(value: &Value, is_number: bool, rng: &mut ChaCha8Rng) -> Value {
    match value {
        Value::Bool(b) => Value::Bool(!b),
        Value::Int(_) if !is_number && rng.random_range(0..3) == 0 => Value::Nil,
        Value::Int(n) => Value::Int(n + [-2, -1, 1, 2][rng.random_range(0..4)]),
        Value::Nil => Value::Int(rng.random_range(1..4)),
        Value::Str(_) => Value::str(["", "a", "b", "ab", "x1 ", "x2 "][rng.random_range(0..6)]),
        // A transaction: one of its reads.
        Value::List(steps) if steps.first().is_some_and(|step| step.as_list().is_some()) => {
            let chosen = rng.random_range(0..steps.len());
            let mut steps = steps.to_vec();
            if let Some([f, key, value]) = steps[chosen].as_list()
                && *f == Value::str("read")
            {
                steps[chosen] = Value::list([f.clone(), key.clone(), altered(value, false, rng)]);
            }
            Value::list(steps)
        }
        // The contents of a set.
        Value::List(items) => {
            let mut items = items.to_vec();
            if items.is_empty() || rng.random() {
                items.push(Value::Int(rng.random_range(1..5)));
            } else {
                items.remove(rng.random_range(0..items.len()));
            }
            Value::list(items)
        }
        other => other.clone(),
    }
}

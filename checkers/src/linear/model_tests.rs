//! Every model by every engine against brute force, on random small histories.
//!
//! `SQUALL_CASES=1000000 cargo test --release -p squall-checkers models_` runs as many as one likes.

use super::tests::{assert_engines_agree, play, script};
use crate::Value;
use crate::model::{
    Container, ContainerOp, Counter, CounterOp, Lock, LockOp, Micro, MultiRegister, Order, Powerset, Set, SetOp,
    UnorderedQueue,
};
use proptest::prelude::*;

pub(super) fn cases() -> ProptestConfig {
    let cases = std::env::var("SQUALL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(4000);
    ProptestConfig::with_cases(cases)
}

fn small(n: u8) -> Value {
    Value::Int(i64::from(n % 4) + 1)
}

/// Puts and takes; three in four takes answer what is right at the time of the call.
fn container_op(what: u8, skew: u8, next: Option<&Value>) -> ContainerOp {
    match what % 8 {
        0..4 => ContainerOp::Put(small(what / 8)),
        4 => ContainerOp::TakeUnseen,
        5 if skew.is_multiple_of(8) => ContainerOp::PutRefused,
        _ if skew.is_multiple_of(4) => {
            ContainerOp::Take(if skew.is_multiple_of(16) { Value::Nil } else { small(skew / 16) })
        }
        _ => ContainerOp::Take(next.cloned().unwrap_or_default()),
    }
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn models_container(script in script(16), processes in 2usize..5, order in 0u8..3, capacity in 0usize..4) {
        let order = [Order::Fifo, Order::Lifo, Order::Smallest][usize::from(order)];
        let model = Container { order, capacity: (capacity > 0).then_some(capacity) };
        let items = play(&model, &script, processes, |what, skew, state| {
            let next = match order {
                Order::Fifo | Order::Smallest => state.first(),
                Order::Lifo => state.last(),
            };
            container_op(what, skew, next)
        });
        assert_engines_agree(&model, &items)?;
    }

    #[test]
    fn models_unordered_queue(script in script(14), processes in 2usize..5) {
        let model = Powerset(UnorderedQueue);
        let items = play(&model, &script, processes, |what, skew, states| {
            let state = states.iter().next();
            container_op(what, skew, state.and_then(|state| state.get(usize::from(skew) % state.len().max(1))))
        });
        assert_engines_agree(&model, &items)?;
    }

    #[test]
    fn models_set(script in script(16), processes in 2usize..5) {
        let items = play(&Set, &script, processes, |what, skew, state| {
            let value = small(what / 8);
            match what % 8 {
                0..3 => SetOp::Add(value),
                3 => SetOp::Remove(value),
                4 | 5 => SetOp::Contains(value.clone(), state.contains(&value) != (skew.is_multiple_of(4))),
                _ if skew.is_multiple_of(4) => SetOp::Read([value].into()),
                _ => SetOp::Read(state.clone()),
            }
        });
        assert_engines_agree(&Set, &items)?;
    }

    #[test]
    fn models_counter(script in script(16), processes in 2usize..5) {
        let items = play(&Counter, &script, processes, |what, skew, state| {
            let seen = if skew.is_multiple_of(4) { i64::from(skew / 4 % 5) } else { *state };
            let n = i64::from(what / 8 % 4) - 1;
            match what % 3 {
                0 => CounterOp::Add(n),
                1 => CounterOp::FetchAdd(n, seen),
                _ => CounterOp::Read(seen),
            }
        });
        assert_engines_agree(&Counter, &items)?;
    }

    #[test]
    fn models_lock(script in script(16), processes in 2usize..5, kind in 0u8..4) {
        let model = [Lock::MUTEX, Lock::REENTRANT, Lock::FENCING, Lock::semaphore(2)][usize::from(kind)];
        let mut token = 0;
        let items = play(&model, &script, processes, |what, skew, _| {
            // Holders differ from processes of the script: only the order matters.
            let holder = u32::from(what / 2 % 3);
            token += 1;
            let token = if skew.is_multiple_of(4) { i64::from(skew / 4 % 8) } else { token };
            if what.is_multiple_of(2) { LockOp::Acquire(holder, Some(token)) } else { LockOp::Release(holder) }
        });
        assert_engines_agree(&model, &items)?;
    }

    #[test]
    fn models_multi_register(script in script(14), processes in 2usize..5) {
        let model = MultiRegister::default();
        let items = play(&model, &script, processes, |what, skew, state| {
            let micro = |what: u8, skew: u8| {
                let key = Value::Int(i64::from(what / 4 % 2));
                match what % 4 {
                    0 => Micro::Write(key, small(skew)),
                    1 if skew.is_multiple_of(4) => Micro::Read(key, Some(small(skew / 4))),
                    _ => { let seen = state.get(&key).cloned().unwrap_or_default(); Micro::Read(key, Some(seen)) }
                }
            };
            if what & 128 == 0 { vec![micro(what, skew)] } else { vec![micro(what, skew), micro(what / 8, skew / 8)] }
        });
        assert_engines_agree(&model, &items)?;
    }
}

#[test]
fn large_states_keep_the_budget() {
    use super::{CheckOptions, check};
    use crate::{Event, EventKind, History, ModelKind, Sym, Verdict};
    let event = |index: u64, kind, value| Event {
        index,
        time_ns: index,
        kind,
        process: 0,
        f: Sym::new("enqueue"),
        key: Value::Nil,
        value: Value::Int(value),
        node: None,
        intended_ns: None,
        error: None,
    };
    let events = (0..20_000u64)
        .flat_map(|n| [event(2 * n, EventKind::Invoke, n as i64), event(2 * n + 1, EventKind::Ok, n as i64)]);
    let history = History::from_events(events).unwrap();
    // Without a search there are no states.
    let options = CheckOptions { memory_max: 32 << 20, threads: 1, ..CheckOptions::default() };
    assert_eq!(check(&history, ModelKind::Queue(None), &options).verdict, Verdict::Valid);
    for engine in [super::EngineChoice::Search, super::EngineChoice::Wgl] {
        let options = CheckOptions { memory_max: 32 << 20, threads: 1, engine, ..CheckOptions::default() };
        let result = check(&history, ModelKind::Queue(None), &options);
        assert_eq!(result.verdict, Verdict::Unknown, "{engine:?}");
        assert!(result.reason.contains("out of memory"), "{engine:?}: {}", result.reason);
    }
}

//! Histories within the preconditions of this module, against brute force.
//!
//! `SQUALL_CASES=1000000 cargo test --release -p squall-checkers intervals` runs as many as one likes.

use super::super::engines::Engine;
use super::super::model_tests::cases;
use super::super::problem::{Item, NEVER};
use super::super::tests::{assert_engines_agree, play, script};
use crate::Value;
use crate::model::{
    Container, ContainerOp, Counter, CounterOp, Lock, LockOp, Order, Powerset, Set, SetOp, UnorderedQueue,
};
use proptest::prelude::*;

/// A script's operations on a container into which every value is put once; values are not in ascending order.
fn distinct(orders: &[u8], empties: bool) -> impl FnMut(u8, u8, Option<&Value>) -> ContainerOp {
    let mut taken = Vec::new();
    let mut count = 0i64;
    move |what, skew, next| match what % 8 {
        0..4 => {
            count += 1;
            ContainerOp::Put(Value::Int(i64::from(orders[count as usize % orders.len()] % 16) * 100 + count))
        }
        4 if skew.is_multiple_of(2) => ContainerOp::TakeUnseen,
        _ if skew.is_multiple_of(8) && empties => ContainerOp::Take(Value::Nil),
        _ => {
            let value = next.cloned().unwrap_or_default();
            // Seldom the same twice.
            if taken.contains(&value) && !skew.is_multiple_of(16) || value.is_nil() && !empties {
                return ContainerOp::TakeUnseen;
            }
            taken.push(value.clone());
            ContainerOp::Take(value)
        }
    }
}

/// Only takes without an answer may end without a value; a take that a script finished was answered.
fn answered(mut items: Vec<Item<ContainerOp>>) -> Vec<Item<ContainerOp>> {
    for item in &mut items {
        if item.op == ContainerOp::TakeUnseen {
            item.ret = NEVER;
        }
    }
    items
}

fn one_of(state: &[Value], skew: u8) -> Option<&Value> {
    state.get(usize::from(skew / 8) % state.len().max(1))
}

/// Operations on a lock by processes that do one thing at a time.
fn lock_items(script: &[(u8, u8, u8, u8)], processes: usize) -> Vec<Item<LockOp>> {
    let mut items: Vec<Item<LockOp>> = Vec::new();
    let mut open: Vec<Option<usize>> = vec![None; processes];
    // Which process each client is at the moment, and what it holds as far as it knows.
    let mut names: Vec<u32> = (0..processes as u32).collect();
    let mut holds = vec![0; processes];
    let mut token = 0;
    for (time, &(who, what, how, skew)) in script.iter().enumerate() {
        let (at, time) = (usize::from(who) % processes, time as u32 + 1);
        match open[at].take() {
            Some(_) if how % 8 == 0 => {
                names[at] += processes as u32;
                holds[at] = 0;
            }
            Some(item) => {
                items[item].ret = time;
                holds[at] = match items[item].op {
                    LockOp::Acquire(..) => holds[at] + 1,
                    LockOp::Release(_) => holds[at] - 1,
                };
            }
            None => {
                token += 1;
                let token = if skew.is_multiple_of(8) { i64::from(skew / 8 % 8) } else { token };
                let releases = if what.is_multiple_of(16) { holds[at] <= 0 } else { holds[at] > 0 };
                let process = names[at];
                open[at] = Some(items.len());
                let op = if releases { LockOp::Release(process) } else { LockOp::Acquire(process, Some(token)) };
                items.push(Item { op, call: time, ret: NEVER });
            }
        }
    }
    items
}

fn assert_decided<M: Engine>(model: &M, items: &[Item<M::Op>], is_decided: bool) -> Result<(), TestCaseError> {
    prop_assert!(is_decided, "no decision without a search");
    assert_engines_agree(model, items)
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn intervals_containers(
        script in script(20),
        processes in 2usize..6,
        order in 0u8..3,
        orders in prop::collection::vec(any::<u8>(), 1..8),
        empties: bool,
    ) {
        let order = [Order::Fifo, Order::Lifo, Order::Smallest][usize::from(order)];
        let model = Container { order, capacity: None };
        let mut make = distinct(&orders, empties);
        let items = answered(play(&model, &script, processes, |what, skew, state| {
            let next = match order {
                _ if skew.is_multiple_of(4) => one_of(state, skew),
                Order::Fifo | Order::Smallest => state.first(),
                Order::Lifo => state.last(),
            };
            make(what, skew, next)
        }));
        // Unanswered takes may need a search.
        let is_plain = items.iter().all(|item| item.op != ContainerOp::TakeUnseen);
        assert_decided(&model, &items, !is_plain || super::container(&items, Some(order)).is_some())?;
    }

    #[test]
    fn intervals_unordered(script in script(16), processes in 2usize..6, empties: bool) {
        let model = Powerset(UnorderedQueue);
        let mut make = distinct(&[0], empties);
        let items = answered(play(&model, &script, processes, |what, skew, states| {
            make(what, skew, states.iter().next().and_then(|state| one_of(state, skew)))
        }));
        let is_plain = items.iter().all(|item| item.op != ContainerOp::TakeUnseen);
        assert_decided(&model, &items, !is_plain || super::container(&items, None).is_some())?;
    }

    #[test]
    fn intervals_sets(script in script(20), processes in 2usize..6, values in 1u8..6, kind in 0u8..3) {
        let items = play(&Set, &script, processes, |what, skew, state| {
            let value = Value::Int(i64::from(what / 8 % values));
            match what % 8 {
                3 | 7 if kind == 1 => SetOp::Remove(value),
                2 | 3 if kind == 2 && skew.is_multiple_of(8) => SetOp::Read(state.iter().skip(1).cloned().collect()),
                2 | 3 if kind == 2 => SetOp::Read(state.clone()),
                4 | 5 => SetOp::Contains(value.clone(), state.contains(&value) != skew.is_multiple_of(8)),
                _ => SetOp::Add(value),
            }
        });
        let budget = super::super::problem::Budget { deadline: None, memory_max: u64::MAX, configurations_max: u64::MAX };
        assert_decided(&Set, &items, super::set(&items, &budget).is_some())?;
    }

    #[test]
    fn intervals_counters(script in script(20), processes in 2usize..6, step in -2i64..3, answered: bool) {
        let items = play(&Counter, &script, processes, |what, skew, state| {
            let seen = if skew.is_multiple_of(8) { i64::from(skew / 8 % 5) * step } else { *state };
            let own = i64::from(what / 4 % 4);
            let n = if answered { if step < 0 { -own } else { own } } else { step };
            match what % 4 {
                0 if !answered => CounterOp::Add(n),
                0 | 1 => CounterOp::FetchAdd(n, seen),
                _ => CounterOp::Read(seen),
            }
        });
        // As a history would tell it: an addition without an answer.
        let items: Vec<_> = items.into_iter().map(|item| match item.op {
            CounterOp::FetchAdd(n, _) if !item.is_finished() => Item { op: CounterOp::Add(n), ..item },
            _ => item,
        }).collect();
        let is_decided = super::counter(&items).is_some();
        assert_decided(&Counter, &items, answered || is_decided)?;
    }

    #[test]
    fn intervals_locks(script in script(24), processes in 2usize..5, kind in 0u8..4) {
        let model = [Lock::MUTEX, Lock::REENTRANT, Lock::FENCING, Lock::semaphore(2)][usize::from(kind)];
        let items = lock_items(&script, processes);
        assert_decided(&model, &items, super::lock(&model, &items).is_some())?;
    }
}

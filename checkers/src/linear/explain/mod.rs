//! From "no order exists" to a handful of operations that a person can follow.
//!
//! 1. The shortest prefix of the history without an order, by bisection: a prefix of a linearizable history is
//!    linearizable, so there is one event from which on no order exists. Operations that end later count as unfinished.
//! 2. Operations are left out while no order exists still, by rules that are sound for the model ([`rules`]): had the
//!    history had an order, so would what is left. What is left is therefore wrong by itself. What has nothing to do with
//!    the operations around that event goes first, in one step: it is bisection that is slow in long histories.
//! 3. When that leaves more than a person reads at a glance: the shortest stretch at its end that is impossible from any
//!    state, of which operations are made optional one by one ([`scene`]).
//! 4. The culprit is the operation whose return ends the prefix of what is left. Every order of what is left is walked
//!    ([`few`]), which tells the last states and why each open operation is blocked in all of them ([`why`]).
//!
//! All of this runs under the check's budget and a limit of its own; when time is short the set is only larger.

mod few;
mod reduce;
mod rules;
mod scene;
mod tell;
#[cfg(test)]
mod tests;
mod text;
mod trace;
mod why;

pub(crate) use rules::Rules;
pub(crate) use text::{line, text};
pub(crate) use trace::Orders;

use super::engines::{Engine, is_impossible};
use super::problem::{Budget, Item, NEVER};
use crate::Op;
use crate::verdict::Explanation;
use reduce::{
    Numbered, near, shortest_prefix, without_demands, without_droppable, without_labels, without_unobserved_writes,
};
use scene::Scene;
use std::time::{Duration, Instant};
use tell::Teller;

/// Time to look for a smaller set, at most.
const TIME_MAX: Duration = Duration::from_millis(1500);

/// Configurations of one decision: those of small sets take few.
const CONFIGURATIONS_MAX: u64 = 200_000;

/// Finished operations that a person follows without more ado.
const EASY_MAX: usize = 8;

/// Operations shown, at most, where some are optional.
const SHOWN_MAX: usize = 12;

/// States named, at most.
const STATES_MAX: usize = 4;

/// Explains why no order of `items` exists; one does before event `reach`. `source` gives the operation of an item, `all` are those of this key,
/// failed ones included. `None` when the budget ran out before even a prefix was found.
pub(crate) fn explain<'h, M: Engine>(
    model: &M,
    key: &str,
    items: &[Item<M::Op>],
    reach: u32,
    source: impl Fn(usize) -> Option<Op<'h>>,
    all: &[Op<'h>],
    budget: &Budget,
) -> Option<Explanation> {
    let (left, prefix_index, budget) = reduced(model, items, reach, budget);
    let teller = Teller { model, key, items, source, all };
    match left {
        Left::Scene(scene) => teller.tell(scene, prefix_index, &budget),
        Left::Many(many) => teller.list(model, many, prefix_index, &budget),
        Left::Alone(at, prefix) => teller.alone(at, &prefix, prefix_index),
    }
}

/// The longest orders of `items` up to an event that are found in time; `None` when too much is open at once.
pub(crate) fn longest_orders<M: Engine>(
    model: &M,
    items: &[Item<M::Op>],
    up_to: Option<u32>,
    deadline: Instant,
) -> Option<Orders> {
    let numbered: Numbered<M::Op> = items.iter().cloned().enumerate().collect();
    let prefix = up_to.map_or_else(|| numbered.clone(), |end| reduce::cut(model, &numbered, end));
    trace::orders(model, &prefix, deadline)
}

/// What is left of operations, the event that ends their shortest impossible prefix, and a budget to tell it.
fn reduced<M: Engine>(model: &M, items: &[Item<M::Op>], reach: u32, budget: &Budget) -> (Left<M>, u32, Budget) {
    let own = Instant::now() + TIME_MAX;
    let budget = Budget {
        deadline: Some(budget.deadline.map_or(own, |deadline| deadline.min(own))),
        configurations_max: CONFIGURATIONS_MAX,
        ..*budget
    };
    let numbered: Vec<(usize, Item<M::Op>)> = items.iter().cloned().enumerate().collect();
    let (prefix, prefix_index) = shortest_prefix(model, numbered.clone(), reach, &budget);
    let left = what_is_left(model, &numbered, (prefix, prefix_index), &budget);
    // What was found needs a moment more than what was searched for.
    let budget = Budget { deadline: budget.deadline.map(|deadline| deadline + TIME_MAX / 5), ..budget };
    (left, prefix_index, budget)
}

/// What an explanation consists of.
enum Left<M: Engine> {
    /// Few enough to try every order.
    Scene(Scene<M>),
    /// Impossible all the same.
    Many(Numbered<M::Op>),
    /// One operation, whatever all others of this prefix do.
    Alone(usize, Numbered<M::Op>),
}

fn what_is_left<M: Engine>(
    model: &M,
    whole: &Numbered<M::Op>,
    (prefix, end): (Numbered<M::Op>, u32),
    budget: &Budget,
) -> Left<M> {
    let finished = |items: &Numbered<M::Op>| items.iter().filter(|(_, item)| item.is_finished()).count();
    // What comes after the prefix is not needed, but may make it easier to see.
    let close = near(model, &prefix, end, budget).or_else(|| near(model, whole, end, budget));
    let mut labelled = without_labels(model, close.unwrap_or(prefix), budget);
    if finished(&labelled) > EASY_MAX {
        let asking = labelled.len();
        let less = without_demands(model, labelled.clone(), budget);
        let less = without_labels(model, less, budget);
        if less.len() < asking {
            labelled = less;
        }
    }
    let window = |items: &Numbered<M::Op>| {
        let mut scene = Scene::window(model, items, budget)?;
        scene.thin(model, budget);
        Some(scene)
    };
    // Where the rules do not help, the end of the history may; what observes must still be there then.
    if finished(&labelled) > few::FEW_MAX {
        if let Some(scene) = window(&labelled) {
            return Left::Scene(scene);
        }
        if let Some(at) = impossible_alone(model, &labelled, budget) {
            return Left::Alone(at, labelled);
        }
    }
    let mut closed = without_droppable(model, labelled.clone(), budget);
    // Rules may apply now that did not before.
    closed = without_labels(model, closed, budget);
    without_unobserved_writes(model, &mut closed, budget);
    let (closed, _) = shortest_prefix(model, closed, 0, budget);
    if finished(&closed) <= EASY_MAX {
        return match Scene::from_beginning(model, &closed) {
            Some(scene) => Left::Scene(scene),
            None => Left::Many(closed),
        };
    }
    let from_beginning = Scene::from_beginning(model, &closed).map(|mut scene| {
        scene.thin(model, budget);
        scene
    });
    let certain = |scene: &Scene<M>| scene.ops.iter().filter(|(_, op)| !op.is_optional).count();
    [from_beginning, window(&labelled)]
        .into_iter()
        .flatten()
        .min_by_key(certain)
        .map_or(Left::Many(closed), Left::Scene)
}

/// The operation that ends a prefix, when it is impossible whichever of the others happen, and in whatever order.
fn impossible_alone<M: Engine>(model: &M, prefix: &Numbered<M::Op>, budget: &Budget) -> Option<usize> {
    let (last, _) = prefix.iter().filter(|(_, item)| item.is_finished()).max_by_key(|(_, item)| item.ret)?;
    let others = prefix.iter().filter(|(at, item)| at != last && !model.is_read_only(&item.op));
    let mut items: Vec<Item<M::Op>> =
        others.map(|(_, item)| Item { op: model.unanswered(&item.op), ret: NEVER, ..*item }).collect();
    items.extend(prefix.iter().filter(|(at, _)| at == last).map(|(_, item)| item.clone()));
    is_impossible(model, &items, budget).then_some(*last)
}

//! From "no order exists" to a handful of operations that a person can follow.
//!
//! 1. The shortest prefix of the history without an order, by bisection: a prefix of a linearizable history is
//!    linearizable, so there is one event from which on no order exists. Operations that end later count as unfinished.
//!    Where values tell which operations contradict each other, or the decision says how far it came, the few operations around that place are tried first ([`mod@near`]): what is
//!    wrong about them alone says where the prefix ends at the latest, and then one or two decisions are enough.
//! 2. Operations are left out while no order exists still, by rules that are sound for the model ([`rules`]): had the
//!    history had an order, so would what is left. What is left is therefore wrong by itself. What has nothing to do with
//!    the operations around that event goes first, in one step: it is bisection that is slow in long histories. Many that
//!    contradict each other only together may hide one that needs no other, a little later: it is looked for, too.
//! 3. When that leaves more than a person reads at a glance: the shortest stretch at its end that is impossible from any
//!    state, of which operations are made optional one by one ([`scene`]).
//! 4. The culprit is the operation whose return ends the prefix of what is left. Every order of what is left is walked
//!    ([`few`]), which tells the last states and why each open operation is blocked in all of them ([`why`]).
//!
//! All of this runs under the check's budget and a limit of its own, of which each step has a share; when time is short the
//! set is only larger.

mod few;
mod near;
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
use super::problem::{Budget, Decided, Item, NEVER};
use crate::Op;
use crate::verdict::Explanation;
use near::{near, near_alone};
use reduce::{
    Numbered, Units, shortest_prefix, without_demands, without_droppable, without_labels, without_unobserved_writes,
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

/// Parts that are left out one after the other before anything else, at most.
const PARTS_MAX: usize = 64;

/// States named, at most.
const STATES_MAX: usize = 4;

/// Explains why no order of `items` exists, as was `decided`. `source` gives the operation of an item, `all`
/// are those of this key, failed ones included. `None` when the budget ran out before even a prefix was found.
pub(crate) fn explain<'h, M: Engine>(
    model: &M,
    key: &str,
    items: &[Item<M::Op>],
    decided: &Decided,
    source: impl Fn(usize) -> Option<Op<'h>>,
    all: &[Op<'h>],
    budget: &Budget,
) -> Option<Explanation> {
    let (left, prefix_index, budget) = reduced(model, items, decided, budget, TIME_MAX);
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
fn reduced<M: Engine>(
    model: &M,
    items: &[Item<M::Op>],
    &Decided { reach, is_first, .. }: &Decided,
    budget: &Budget,
    time_max: Duration,
) -> (Left<M>, u32, Budget) {
    let begun = Instant::now();
    // Each part has a share, so that none is left without.
    let until = |of: Duration| {
        let own = begun + of;
        Budget {
            deadline: Some(budget.deadline.map_or(own, |deadline| deadline.min(own))),
            configurations_max: CONFIGURATIONS_MAX,
            ..*budget
        }
    };
    let numbered: Vec<(usize, Item<M::Op>)> = items.iter().cloned().enumerate().collect();
    // What is wrong by itself is so for the whole, too: that tells where the prefix ends at the latest.
    let close = match reach {
        _ if let Some(few) = contradiction(model, items, &until(time_max / 2)) => Some(few),
        0 => without_most_parts(model, &numbered, &until(time_max / 2)),
        _ if is_first => None,
        _ => near(model, &numbered, reach, &until(time_max / 2)),
    };
    let close = close.map(|close| shortest_prefix(model, close, 0, None, &until(time_max * 3 / 5)));
    let known = if is_first { Some(reach) } else { close.as_ref().map(|(_, end)| *end) };
    let first = |budget: &Budget| match is_first {
        true => (reduce::cut(model, &numbered, reach), reach),
        false => shortest_prefix(model, numbered.clone(), reach, known, budget),
    };
    let budgets = [until(time_max * 5 / 6), until(time_max)];
    let (left, end) = match (close, known) {
        // Where the prefix ends exactly may take longer to find than all the rest.
        (Some((close, _)), Some(known)) => {
            let left = what_is_left(model, &numbered, (close, known), true, &budgets);
            (left, first(&until(time_max)).1)
        }
        _ => {
            let (prefix, end) = first(&until(time_max * 2 / 3));
            (what_is_left(model, &numbered, (prefix, end), false, &budgets), end)
        }
    };
    // What was found needs a moment more than what was searched for.
    (left, end, until(time_max + time_max / 5))
}

/// What contradicts each other by the values alone.
fn contradiction<M: Engine>(model: &M, items: &[Item<M::Op>], budget: &Budget) -> Option<Numbered<M::Op>> {
    let of_item = |(at, op)| (at, Item { op, ..items[at] });
    let few: Numbered<M::Op> = model.contradiction(items)?.into_iter().map(of_item).collect();
    is_impossible(model, &reduce::plain(&few), budget).then_some(few)
}

/// What is left of a few parts that all operations are made of; `None` where they are many, or tied.
fn without_most_parts<M: Engine>(model: &M, items: &Numbered<M::Op>, budget: &Budget) -> Option<Numbered<M::Op>> {
    let units = Units::labelled(model, items);
    if !matches!(units, Units::Parts(_)) || !(2..=PARTS_MAX).contains(&units.len()) {
        return None;
    }
    let rest = without_labels(model, items.clone(), budget);
    (Units::labelled(model, &rest).len() < units.len()).then_some(rest)
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

/// What is left of a `prefix` that ends with event `end`; `is_close` when it is only what matters of it.
fn what_is_left<M: Engine>(
    model: &M,
    whole: &Numbered<M::Op>,
    (prefix, end): (Numbered<M::Op>, u32),
    is_close: bool,
    [by_rules, budget]: &[Budget; 2],
) -> Left<M> {
    let finished = |items: &Numbered<M::Op>| items.iter().filter(|(_, item)| item.is_finished()).count();
    // What comes after the prefix is not needed, but may make it easier to see.
    let close = if is_close {
        None
    } else {
        near(model, &prefix, end, by_rules)
            .or_else(|| near_alone(model, whole, end, by_rules))
            .or_else(|| near(model, whole, end, by_rules))
    };
    let is_cut = close.is_none();
    let close = close.unwrap_or(prefix);
    let of = close.len();
    // Before many are thinned out, which may take all the time there is.
    let is_tried = !is_close && finished(&close) > EASY_MAX;
    let one = || near_alone(model, whole, end, by_rules);
    let mut labelled = if is_tried { one() } else { None }.unwrap_or_else(|| without_labels(model, close, by_rules));
    if finished(&labelled) > EASY_MAX
        && !is_tried
        && let Some(one) = one()
    {
        labelled = one;
    }
    if finished(&labelled) > EASY_MAX {
        let asking = labelled.len();
        let less = without_demands(model, labelled.clone(), by_rules);
        let less = without_labels(model, less, by_rules);
        if less.len() < asking {
            labelled = less;
        }
    }
    if finished(&labelled) > few::FEW_MAX && (labelled.len() < of || !is_cut) {
        // Of what is left the end may be another one, and is found sooner.
        (labelled, _) = shortest_prefix(model, labelled, 0, None, by_rules);
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
    let mut closed = without_droppable(model, labelled.clone(), by_rules);
    // Rules may apply now that did not before.
    closed = without_labels(model, closed, by_rules);
    without_unobserved_writes(model, &mut closed, by_rules);
    let (closed, _) = shortest_prefix(model, closed, 0, None, by_rules);
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

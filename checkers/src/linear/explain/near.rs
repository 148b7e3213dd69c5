//! What has to do with the operations around an event, and nothing else.
//!
//! What contradicts each other is often close together, and a few operations are decided at once however long the
//! history is.

use super::super::engines::{Engine, is_impossible};
use super::super::problem::{Budget, Item};
use super::reduce::{Numbered, Units, is_over, less, plain, thin, without_useless};
use std::collections::{HashMap, HashSet};

/// The smallest and the largest neighbourhood that is tried alone (operations).
const NEAR_MIN: usize = 8;
const NEAR_MAX: usize = 256;

/// What belongs to a neighbourhood, at most (operations).
const NEAR_ITEMS_MAX: usize = 4000;

/// Configurations of one such try.
const NEAR_CONFIGURATIONS_MAX: u64 = 20_000;

/// Leaves out, in one step, all that has nothing to do with the operations around event `center`. `None` where that does
/// not help.
pub(super) fn near<M: Engine>(
    model: &M,
    items: &Numbered<M::Op>,
    center: u32,
    budget: &Budget,
) -> Option<Numbered<M::Op>> {
    let closest = closest(items, center);
    let budget = Budget { configurations_max: NEAR_CONFIGURATIONS_MAX, ..*budget };
    let units_of = |items: &Numbered<M::Op>| {
        let few: Numbered<M::Op> = items.iter().take(NEAR_MIN).cloned().collect();
        // Parts need not be known beforehand.
        let units = match Units::labelled(model, &few) {
            Units::Parts(labels) => Units::Parts(labels),
            _ => Units::labelled(model, items),
        };
        (units.len() > 0 || matches!(units, Units::Parts(_))).then_some(units)
    };
    let is_weaker = items.iter().any(|(_, item)| model.weaker(&item.op).is_some());
    let units = units_of(items);
    // Only when it takes more than the closest.
    let mut weaker: Option<(Numbered<M::Op>, Option<Units>)> = None;
    let mut width = NEAR_MIN;
    while width <= NEAR_MAX.min(closest.len()) && !is_over(&budget) && (is_weaker || units.is_some()) {
        let close: HashSet<usize> = closest[..width].iter().copied().collect();
        if is_weaker && width > NEAR_MIN && weaker.is_none() {
            let all: Numbered<M::Op> = items.iter().map(|(at, item)| (*at, less(model, item))).collect();
            let units = units_of(&all);
            weaker = Some((all, units));
        }
        let of_weaker = weaker.as_ref().and_then(|(items, units)| Some((items, units.as_ref()?)));
        for (items, units) in units.as_ref().map(|units| (items, units)).into_iter().chain(of_weaker) {
            let rest = units.only(model, items, &close);
            // What is tied to too much is decided too slowly.
            if rest.iter().filter(|(_, item)| item.is_finished()).count() > NEAR_ITEMS_MAX {
                continue;
            }
            let rest = without_useless(model, rest);
            if is_impossible(model, &plain(&rest), &budget) {
                return Some(rest);
            }
        }
        width *= 2;
    }
    None
}

/// One unit of those around event `center` that is impossible by itself. Many may be so together for want of something
/// that each could have alone; and what comes later may tell more.
pub(super) fn near_alone<M: Engine>(
    model: &M,
    items: &Numbered<M::Op>,
    center: u32,
    budget: &Budget,
) -> Option<Numbered<M::Op>> {
    let close: HashSet<usize> = closest(items, center).into_iter().take(NEAR_MAX).collect();
    let Units::Whole(units) = Units::labelled(model, items) else { return None };
    let budget = Budget { configurations_max: NEAR_CONFIGURATIONS_MAX, ..*budget };
    let in_units: HashSet<usize> = units.iter().flatten().copied().collect();
    let is_there = |(at, item): &&(usize, Item<M::Op>)| {
        !in_units.contains(at) && (close.contains(at) || !model.is_droppable(&item.op))
    };
    let rest: Numbered<M::Op> = items.iter().filter(is_there).cloned().collect();
    let mut by_place: HashMap<usize, &(usize, Item<M::Op>)> = HashMap::new();
    let near: Vec<&Vec<usize>> = units.iter().filter(|unit| unit.iter().any(|at| close.contains(at))).collect();
    let places: HashSet<usize> = near.iter().flat_map(|unit| unit.iter().copied()).collect();
    by_place.extend(items.iter().filter(|(at, _)| places.contains(at)).map(|item| (item.0, item)));
    for unit in near.into_iter().filter(|unit| unit.len() <= NEAR_MAX) {
        if is_over(&budget) {
            break;
        }
        let of_unit = unit.iter().filter_map(|at| by_place.get(at).map(|item| (*item).clone()));
        let mut one: Numbered<M::Op> = rest.iter().cloned().chain(of_unit).collect();
        one.sort_unstable_by_key(|(at, _)| *at);
        let one = without_useless(model, one);
        if is_impossible(model, &plain(&one), &budget) {
            return Some(thin(model, one, &budget, Units::droppable));
        }
    }
    None
}

/// The places of operations, those first that end closest to an event.
fn closest<O>(items: &Numbered<O>, center: u32) -> Vec<usize> {
    let end = |item: &Item<O>| if item.is_finished() { item.ret } else { item.call };
    let mut closest: Vec<(u32, usize)> = items.iter().map(|(at, item)| (end(item).abs_diff(center), *at)).collect();
    closest.sort_unstable();
    closest.into_iter().map(|(_, at)| at).collect()
}

//! The operations that are shown, and where they begin: few enough to try every order.
//!
//! Two kinds of scenes:
//!
//! * **From the beginning**: what the rules have left, from the initial state.
//! * **From any state** ([`Scene::window`]): all that was over at some moment is forgotten, and what follows cannot be
//!   ordered whatever the state was then. What was open at that moment may have happened before it, so it is optional.
//!   The operations are tried from the initial state, too: so the scene is impossible by itself.
//!
//! [`Scene::thin`] then makes operations optional one by one, while no order exists still. Fewer demands never make an
//! order impossible, so one pass finds a set of which nothing more can be made optional.

use super::super::engines::Engine;
use super::super::problem::{Budget, Decision, InternStepper, Item, NEVER, Stepper};
use super::super::search;
use super::few::{End, FEW_MAX, FewOp, Walk, walk};
use super::reduce::{Numbered, is_over, without_useless};
use crate::model::Model;
use std::time::Instant;

/// Identical unfinished operations that are tried; whether more would help is asked of the search.
const TWINS_MAX: usize = 3;

/// The shortest window that is tried (operations).
const WINDOW_MIN: usize = 2;

/// Configurations of one search from one state.
const SEARCH_MAX: u64 = 50_000;

/// A few operations and the states from which none of their orders is possible.
pub(super) struct Scene<M: Model> {
    pub(super) starts: Vec<M::State>,
    /// With their places among all of the key.
    pub(super) ops: Vec<(usize, FewOp<M::Op>)>,
    /// Whether the starts stand for all states.
    pub(super) from_any_state: bool,
    /// Unfinished operations that did not fit in.
    left_over: Vec<Item<M::Op>>,
}

impl<M: Engine> Scene<M> {
    /// What is left, from the beginning. `None` when it is not few.
    pub(super) fn from_beginning(model: &M, items: &Numbered<M::Op>) -> Option<Self> {
        Self::new(items, 0, vec![model.initial()], false)
    }

    /// What follows `since`, from any state. `None` when it is not few, or states are too many.
    pub(super) fn from_any_state(model: &M, items: &Numbered<M::Op>, since: u32) -> Option<Self> {
        let items: Numbered<M::Op> = items.iter().filter(|(_, item)| item.ret > since).cloned().collect();
        let mut scene = Self::new(&without_useless(model, items), since, Vec::new(), true)?;
        let mut ops: Vec<FewOp<M::Op>> = scene.ops.iter().map(|(_, op)| op.clone()).collect();
        scene.starts = model.any_state(&mut ops)?;
        scene.ops.iter_mut().zip(ops).for_each(|((_, op), may)| op.is_optional = may.is_optional);
        let initial = model.initial();
        if !scene.starts.contains(&initial) {
            scene.starts.push(initial);
        }
        Some(scene)
    }

    /// The operations called after `since` as they are, those still open then optional; earlier ones are gone.
    fn new(items: &Numbered<M::Op>, since: u32, starts: Vec<M::State>, from_any_state: bool) -> Option<Self> {
        let mut ops: Vec<(usize, FewOp<M::Op>)> = Vec::new();
        let mut left_over = Vec::new();
        for (at, item) in items.iter().filter(|(_, item)| item.ret > since) {
            let is_optional = !item.is_finished() || item.call <= since && from_any_state;
            let op = FewOp { op: item.op.clone(), call: item.call, ret: item.ret, is_optional };
            let is_twin = |(_, other): &&(usize, FewOp<M::Op>)| other.ret == NEVER && other.op == op.op;
            if !item.is_finished() && ops.iter().filter(is_twin).count() >= TWINS_MAX {
                left_over.push(item.clone());
            } else if ops.len() == FEW_MAX {
                return None;
            } else {
                ops.push((*at, op));
            }
        }
        Some(Self { starts, ops, from_any_state, left_over })
    }

    /// The shortest window at the end of `items` that is impossible from any state: its length is doubled until it is,
    /// then bisected, because a longer one says more.
    pub(super) fn window(model: &M, items: &Numbered<M::Op>, budget: &Budget) -> Option<Self> {
        let mut calls: Vec<u32> = items.iter().map(|(_, item)| item.call).collect();
        calls.sort_unstable_by(|a, b| b.cmp(a));
        let try_length = |length: usize| {
            let since = calls.get(length).copied().unwrap_or(0);
            let scene = Self::from_any_state(model, items, since)?;
            scene.is_impossible(model, budget).then_some(scene)
        };
        let (mut short, mut long) = (WINDOW_MIN, WINDOW_MIN);
        let mut best = loop {
            if is_over(budget) || long > FEW_MAX {
                return None;
            }
            if let Some(scene) = try_length(long) {
                break scene;
            }
            if long >= calls.len() {
                return None;
            }
            short = long + 1;
            long *= 2;
        };
        while short < long && !is_over(budget) {
            let middle = short.midpoint(long);
            match try_length(middle) {
                Some(scene) => (best, long) = (scene, middle),
                None => short = middle + 1,
            }
        }
        Some(best)
    }

    pub(super) fn walk(&self, model: &M, deadline: Option<Instant>) -> Walk<M::State> {
        let ops: Vec<FewOp<M::Op>> = self.ops.iter().map(|(_, op)| op.clone()).collect();
        walk(model, &self.starts, &ops, deadline)
    }

    fn is_impossible(&self, model: &M, budget: &Budget) -> bool {
        let is_impossible = matches!(self.walk(model, budget.deadline).end, End::Impossible { .. });
        is_impossible && (self.left_over.is_empty() || self.is_impossible_with_all(model, budget))
    }

    /// Whether no order exists even with all unfinished operations there are. What is optional counts as unfinished here,
    /// which asks for a little more than is needed.
    fn is_impossible_with_all(&self, model: &M, budget: &Budget) -> bool {
        let few = self.ops.iter().map(|(_, op)| Item {
            op: op.op.clone(),
            call: op.call,
            ret: if op.is_optional { NEVER } else { op.ret },
        });
        let items: Vec<Item<M::Op>> = few.chain(self.left_over.iter().cloned()).collect();
        let budget = Budget { configurations_max: SEARCH_MAX, ..*budget };
        self.starts.iter().all(|start| {
            let (mut inner, problem) = InternStepper::new(model, &items);
            let start = inner.intern(start.clone());
            let mut stepper = StartingAt { inner, start };
            search::decide(&problem, &mut stepper, &budget).decision == Decision::NotLinearizable
        })
    }

    /// Makes optional, or leaves out, what can be; then leaves out what is optional and not needed to get as far.
    pub(super) fn thin(&mut self, model: &M, budget: &Budget) {
        let mut at = 0;
        while at < self.ops.len() && !is_over(budget) {
            if self.ops[at].1.is_optional {
                at += 1;
            } else if model.is_droppable(&self.ops[at].1.op) {
                let op = self.ops.remove(at);
                if !self.is_impossible(model, budget) {
                    self.ops.insert(at, op);
                    at += 1;
                }
            } else {
                self.ops[at].1.is_optional = true;
                if !self.is_impossible(model, budget) {
                    self.ops[at].1.is_optional = false;
                }
                at += 1;
            }
        }
    }

    /// Leaves out optional operations without which just as much can be ordered: what stays shows how far one gets.
    pub(super) fn without_idle(&mut self, model: &M, budget: &Budget) {
        let culprit = |scene: &Self| match scene.walk(model, budget.deadline).end {
            End::Impossible { at, .. } => Some(scene.ops[at].0),
            _ => None,
        };
        let Some(expected) = culprit(self) else { return };
        let mut at = 0;
        while at < self.ops.len() && !is_over(budget) {
            if self.ops[at].1.is_optional {
                let op = self.ops.remove(at);
                if culprit(self) == Some(expected) {
                    continue;
                }
                self.ops.insert(at, op);
            }
            at += 1;
        }
    }
}

/// A model that begins elsewhere.
struct StartingAt<S> {
    inner: S,
    start: u32,
}

impl<S: Stepper> Stepper for StartingAt<S> {
    fn initial(&mut self) -> u32 {
        self.start
    }
    fn step(&mut self, state: u32, kind: u32) -> Option<u32> {
        self.inner.step(state, kind)
    }
    fn is_read_only(&self, kind: u32) -> bool {
        self.inner.is_read_only(kind)
    }
    fn memory(&self) -> u64 {
        self.inner.memory()
    }
}

//! Every order of a few operations, without anything clever: what is said about the operations of an explanation, and
//! drawn on a page, rests on this walk alone.
//!
//! Level by level, a level per return: the configurations in which everything that has returned is linearized, and of
//! what is open only what had to be (as in [`super::super::search`]). An optional operation may take effect while it is
//! open, or never; unfinished ones are optional and never return. Exponential in what is open at once, so bounded.

use super::super::problem::{FastMap, NEVER};
use crate::model::Model;
use std::time::Instant;

/// Sets of operations are bits of one number.
pub(super) const FEW_MAX: usize = 128;

/// Nodes of a walk, at most.
const NODES_MAX: usize = 300_000;

/// One state, at most (bytes): the next one, a set of states, may be so many times as large as there are operations.
const STATE_BYTES_MAX: usize = 128 << 10;

/// One of a few operations.
#[derive(Clone, Debug)]
pub(crate) struct FewOp<O> {
    pub(crate) op: O,
    pub(crate) call: u32,
    pub(crate) ret: u32,
    /// Whether it may as well never have happened.
    pub(crate) is_optional: bool,
}

/// A configuration.
#[derive(Clone, Copy)]
struct Node {
    state: u32,
    done: u128,
}

/// How a walk ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum End {
    /// An order exists.
    Possible,
    /// Operation `at` cannot return: none of the configurations before it, `frontier`, lets it take effect.
    Impossible { at: usize, frontier: Vec<u32> },
    /// Too many configurations, or no time.
    GaveUp,
}

/// What has been walked.
pub(super) struct Walk<S> {
    states: Vec<S>,
    nodes: Vec<Node>,
    pub(super) end: End,
}

/// Walks all orders of `ops` from each of the states `starts`.
///
/// # Panics
/// With more than [`FEW_MAX`] operations.
pub(super) fn walk<M: Model>(
    model: &M,
    starts: &[M::State],
    ops: &[FewOp<M::Op>],
    deadline: Option<Instant>,
) -> Walk<M::State> {
    assert!(ops.len() <= FEW_MAX, "{} operations are not few", ops.len());
    let mut walker =
        Walker { model, ops, twins: twins(ops), by_state: FastMap::default(), states: Vec::new(), nodes: Vec::new() };
    let end = walker.run(starts, deadline);
    Walk { states: walker.states, nodes: walker.nodes, end }
}

impl<S> Walk<S> {
    /// The state of a configuration.
    pub(super) fn state(&self, node: u32) -> &S {
        &self.states[self.nodes[node as usize].state as usize]
    }

    /// Which operations took effect on the way to a configuration.
    pub(super) fn done(&self, node: u32) -> u128 {
        self.nodes[node as usize].done
    }
}

/// Per operation: the identical ones that go first, because they are closed first. Any order that does it the other way
/// round is as good with the two exchanged.
fn twins<O: PartialEq>(ops: &[FewOp<O>]) -> Vec<u128> {
    let is_before = |a: usize, b: usize| {
        let is_twin = ops[a].is_optional == ops[b].is_optional && ops[a].op == ops[b].op;
        is_twin && (ops[a].ret, ops[a].call, a) < (ops[b].ret, ops[b].call, b)
    };
    (0..ops.len()).map(|b| (0..ops.len()).filter(|&a| is_before(a, b)).fold(0, |mask, a| mask | 1 << a)).collect()
}

struct Walker<'w, M: Model> {
    model: &'w M,
    ops: &'w [FewOp<M::Op>],
    twins: Vec<u128>,
    by_state: FastMap<M::State, u32>,
    states: Vec<M::State>,
    nodes: Vec<Node>,
}

impl<M: Model> Walker<'_, M> {
    fn run(&mut self, starts: &[M::State], deadline: Option<Instant>) -> End {
        let ops = self.ops;
        let mut returns: Vec<usize> = (0..ops.len()).filter(|&op| ops[op].ret != NEVER).collect();
        returns.sort_unstable_by_key(|&op| ops[op].ret);
        let mut level: Vec<u32> = Vec::new();
        for start in starts {
            let state = self.intern(start.clone());
            level.push(self.push(Node { state, done: 0 }));
        }
        // What can no longer take effect, whether it has or not.
        let mut closed = 0;
        for at in returns {
            let called = (0..ops.len()).filter(|&op| ops[op].call < ops[at].ret).fold(0, |mask, op| mask | 1 << op);
            let Some((with, without)) = self.expand(&level, at, called & !closed, deadline) else { return End::GaveUp };
            closed |= 1 << at;
            let passed = if ops[at].is_optional { with.into_iter().chain(level).collect() } else { with };
            level = self.distinct(passed, closed);
            if level.is_empty() {
                return End::Impossible { at, frontier: without };
            }
        }
        End::Possible
    }

    /// From each configuration of a level, everything that leads up to operation `at`: where it has just taken effect,
    /// and where it has not.
    fn expand(
        &mut self,
        level: &[u32],
        at: usize,
        allowed: u128,
        deadline: Option<Instant>,
    ) -> Option<(Vec<u32>, Vec<u32>)> {
        let mut seen: FastMap<(u32, u128), ()> = FastMap::default();
        let (mut with, mut without) = (Vec::new(), Vec::new());
        let mut todo: Vec<u32> = level.iter().rev().copied().collect();
        while let Some(node) = todo.pop() {
            if deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                return None;
            }
            let Node { state, done, .. } = self.nodes[node as usize];
            if done >> at & 1 != 0 {
                with.push(node);
                continue;
            }
            without.push(node);
            // The wanted one last, so that it is tried first.
            let others = (0..self.ops.len()).rev().filter(|&op| op != at);
            for op in others.chain([at]) {
                let may = allowed & !done & 1 << op != 0 && self.twins[op] & allowed & !done == 0;
                if !may {
                    continue;
                }
                let Some(next) = self.model.step(&self.states[state as usize], &self.ops[op].op) else { continue };
                if self.model.state_bytes(&next) > STATE_BYTES_MAX {
                    return None;
                }
                let next = self.intern(next);
                // It changed nothing and need not have happened.
                if next == state && self.ops[op].is_optional && op != at {
                    continue;
                }
                let done = done | 1 << op;
                if seen.insert((next, done), ()).is_none() {
                    todo.push(self.push(Node { state: next, done }));
                }
            }
            if self.nodes.len() > NODES_MAX {
                return None;
            }
        }
        Some((with, without))
    }

    /// One configuration of each kind that what is still open can tell apart.
    fn distinct(&self, nodes: Vec<u32>, closed: u128) -> Vec<u32> {
        let mut seen: FastMap<(u32, u128), ()> = FastMap::default();
        let key = |node: &u32| (self.nodes[*node as usize].state, self.nodes[*node as usize].done & !closed);
        nodes.into_iter().filter(|node| seen.insert(key(node), ()).is_none()).collect()
    }

    fn push(&mut self, node: Node) -> u32 {
        self.nodes.push(node);
        self.nodes.len() as u32 - 1
    }

    fn intern(&mut self, state: M::State) -> u32 {
        let next = self.states.len() as u32;
        let states = &mut self.states;
        *self.by_state.entry(state).or_insert_with_key(|state| {
            states.push(state.clone());
            next
        })
    }
}

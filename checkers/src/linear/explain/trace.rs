//! How far one gets: orders of a history that go as far as possible, step by step, with the states between.
//!
//! Depth first, just in time, read-only operations as soon as they are possible, as in [`super::super::search`]; but with the
//! states of the model itself, and remembering the way. It looks for something to show, not for a verdict: when its budget is
//! spent, what was found is shown.

use super::super::problem::{FastMap, NEVER};
use super::reduce::Numbered;
use super::rules::Rules;
use crate::model::Model;
use std::time::Instant;

/// Nodes, at most.
const NODES_MAX: usize = 400_000;

/// What the states may take, at most (bytes).
const STATES_BYTES_MAX: usize = 128 << 20;

/// Ends that are shown, at most.
const LEAVES_MAX: usize = 6;

/// No parent.
const ROOT: u32 = u32::MAX;

/// Orders that begin alike, as a tree.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Orders {
    /// Per node: the node before; `None` at the beginning.
    pub(crate) parent: Vec<Option<u32>>,
    /// Per node: the operation that takes effect, as a place among the key's items.
    pub(crate) op: Vec<u32>,
    /// Per node: which of `states` is there after it.
    pub(crate) state: Vec<u32>,
    /// States in words, each once.
    pub(crate) states: Vec<String>,
    /// Nodes at which the longest orders end.
    pub(crate) leaves: Vec<u32>,
    /// Whether everything finished is in them.
    pub(crate) is_complete: bool,
    /// Unfinished operations that were not tried, because there are too many.
    pub(crate) left_out: usize,
}

/// The longest orders of `items` that are found in time. `None` when too much is open at once.
pub(crate) fn orders<M: Rules>(model: &M, items: &Numbered<M::Op>, deadline: Instant) -> Option<Orders> {
    let (timeline, left_out) = Timeline::new(items)?;
    let mut trace = Trace {
        model,
        items,
        timeline,
        nodes: Vec::new(),
        states: Vec::new(),
        by_state: FastMap::default(),
        state_bytes: 0,
        seen: FastMap::default(),
        best: 0,
        leaves: Vec::new(),
    };
    let is_complete = trace.run(deadline);
    Some(trace.told(is_complete, left_out))
}

/// What is open when, with a bit for each.
struct Timeline {
    /// Finished operations in the order of their returns.
    returns: Vec<u32>,
    /// Per operation: its bit, free again after its return.
    bit: Vec<u8>,
    /// Per return: what is open just before it, first to return first.
    open: Vec<Vec<u32>>,
}

impl Timeline {
    fn new<O>(items: &Numbered<O>) -> Option<(Self, usize)> {
        let mut events: Vec<(u32, bool, u32)> = Vec::with_capacity(2 * items.len());
        for (at, (_, item)) in items.iter().enumerate() {
            events.push((item.call, false, at as u32));
            if item.ret != NEVER {
                events.push((item.ret, true, at as u32));
            }
        }
        events.sort_unstable();
        let mut this = Self { returns: Vec::new(), bit: vec![0; items.len()], open: Vec::new() };
        let mut free: Vec<u8> = (0..128).rev().collect();
        let mut open: Vec<u32> = Vec::new();
        let mut left_out = 0;
        for (_, is_return, op) in events {
            let ret = items[op as usize].1.ret;
            if is_return {
                this.open.push(open.clone());
                this.returns.push(op);
                open.retain(|other| *other != op);
                free.push(this.bit[op as usize]);
            } else if ret == NEVER && free.len() <= 64 {
                // Half of the bits are for those that return.
                left_out += 1;
            } else {
                this.bit[op as usize] = free.pop()?;
                let at = open.partition_point(|other| items[*other as usize].1.ret <= ret);
                open.insert(at, op);
            }
        }
        Some((this, left_out))
    }
}

#[derive(Clone, Copy)]
struct Node {
    parent: u32,
    op: u32,
    state: u32,
}

/// Everything before return `next` has taken effect, and of what is open the operations in `done`.
#[derive(Clone, Copy)]
struct Configuration {
    node: u32,
    state: u32,
    next: u32,
    done: u128,
}

struct Trace<'t, M: Model> {
    model: &'t M,
    items: &'t Numbered<M::Op>,
    timeline: Timeline,
    nodes: Vec<Node>,
    states: Vec<M::State>,
    by_state: FastMap<M::State, u32>,
    state_bytes: usize,
    seen: FastMap<(u32, u32, u128), ()>,
    best: u32,
    leaves: Vec<u32>,
}

impl<M: Rules> Trace<'_, M> {
    /// Whether an order of everything was found.
    fn run(&mut self, deadline: Instant) -> bool {
        let state = self.intern(self.model.initial());
        let start = Configuration { node: ROOT, state, next: 0, done: 0 };
        let mut stack: Vec<(Configuration, Vec<u32>)> = Vec::new();
        let mut next = Some(start);
        let mut steps = 0u32;
        loop {
            if let Some(mut configuration) = next.take() {
                let is_over = steps.is_multiple_of(256) && Instant::now() >= deadline;
                if is_over || self.nodes.len() > NODES_MAX || self.state_bytes > STATES_BYTES_MAX {
                    return false;
                }
                steps += 1;
                self.advance(&mut configuration);
                self.note(&configuration);
                if configuration.next as usize == self.timeline.returns.len() {
                    return true;
                }
                let key = (configuration.next, configuration.state, configuration.done);
                if self.seen.insert(key, ()).is_none() {
                    let candidates = self.candidates(&configuration);
                    stack.push((configuration, candidates));
                }
            }
            let Some((configuration, candidates)) = stack.last_mut() else { return false };
            let Some(op) = candidates.pop() else {
                stack.pop();
                continue;
            };
            let configuration = *configuration;
            next = self.apply(configuration, op);
        }
    }

    fn op(&self, op: u32) -> &M::Op {
        &self.items[op as usize].1.op
    }

    fn apply(&mut self, mut configuration: Configuration, op: u32) -> Option<Configuration> {
        let state = self.model.step(&self.states[configuration.state as usize], self.op(op))?;
        let state = self.intern(state);
        let is_idle = state == configuration.state && self.items[op as usize].1.ret == NEVER;
        if is_idle {
            return None;
        }
        configuration.state = state;
        configuration.done |= 1 << self.timeline.bit[op as usize];
        self.nodes.push(Node { parent: configuration.node, op, state });
        configuration.node = self.nodes.len() as u32 - 1;
        Some(configuration)
    }

    /// Lets operations that change nothing take effect as soon as they can, and passes returns.
    fn advance(&mut self, configuration: &mut Configuration) {
        while let Some(&returning) = self.timeline.returns.get(configuration.next as usize) {
            for at in 0..self.timeline.open[configuration.next as usize].len() {
                let op = self.timeline.open[configuration.next as usize][at];
                let is_done = configuration.done >> self.timeline.bit[op as usize] & 1 != 0;
                if !is_done
                    && self.model.is_read_only(self.op(op))
                    && let Some(next) = self.apply(*configuration, op)
                {
                    *configuration = next;
                }
            }
            let bit = self.timeline.bit[returning as usize];
            if configuration.done >> bit & 1 == 0 {
                return;
            }
            configuration.done &= !(1 << bit);
            configuration.next += 1;
        }
    }

    /// Remembers the furthest ends, one for each state.
    fn note(&mut self, configuration: &Configuration) {
        if configuration.next > self.best {
            self.best = configuration.next;
            self.leaves.clear();
        }
        let state = |leaf: &u32| self.nodes.get(*leaf as usize).map(|node| node.state);
        let is_new = self.leaves.iter().all(|leaf| state(leaf) != Some(configuration.state));
        if configuration.next == self.best && configuration.node != ROOT && is_new && self.leaves.len() < LEAVES_MAX {
            self.leaves.push(configuration.node);
        }
    }

    /// What may take effect before the next return, the best last: what returns, then what makes it possible.
    fn candidates(&self, configuration: &Configuration) -> Vec<u32> {
        let state = &self.states[configuration.state as usize];
        let returning = self.timeline.returns[configuration.next as usize];
        let mut ranked: Vec<(u8, u32)> = Vec::new();
        for &op in self.timeline.open[configuration.next as usize].iter() {
            if configuration.done >> self.timeline.bit[op as usize] & 1 != 0 {
                continue;
            }
            let Some(next) = self.model.step(state, self.op(op)) else { continue };
            let rank = if op == returning {
                0
            } else if self.model.step(&next, self.op(returning)).is_some() {
                1 + u8::from(self.items[op as usize].1.ret == NEVER)
            } else {
                3 + u8::from(self.items[op as usize].1.ret == NEVER)
            };
            ranked.push((rank, op));
        }
        // Stable: among equals the first to return goes first.
        ranked.sort_by_key(|(rank, _)| *rank);
        ranked.into_iter().rev().map(|(_, op)| op).collect()
    }

    fn intern(&mut self, state: M::State) -> u32 {
        let next = self.states.len() as u32;
        let (states, bytes, model) = (&mut self.states, &mut self.state_bytes, self.model);
        *self.by_state.entry(state).or_insert_with_key(|state| {
            *bytes += 2 * model.state_bytes(state);
            states.push(state.clone());
            next
        })
    }

    /// Only what leads to the leaves, in words.
    fn told(self, is_complete: bool, left_out: usize) -> Orders {
        let mut place: FastMap<u32, u32> = FastMap::default();
        let mut text_of: FastMap<u32, u32> = FastMap::default();
        let mut told = Orders { is_complete, left_out, ..Orders::default() };
        // A complete order is the only one at its end.
        for &leaf in &self.leaves {
            let mut way = Vec::new();
            let mut at = leaf;
            while at != ROOT && !place.contains_key(&at) {
                way.push(at);
                at = self.nodes[at as usize].parent;
            }
            for at in way.into_iter().rev() {
                let node = self.nodes[at as usize];
                told.parent.push(place.get(&node.parent).copied());
                told.op.push(self.items[node.op as usize].0 as u32);
                told.state.push(*text_of.entry(node.state).or_insert_with(|| {
                    told.states.push(self.model.state_text(&self.states[node.state as usize]));
                    told.states.len() as u32 - 1
                }));
                place.insert(at, told.op.len() as u32 - 1);
            }
            told.leaves.push(place[&leaf]);
        }
        told
    }
}

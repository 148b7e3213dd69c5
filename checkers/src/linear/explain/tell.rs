//! From what is left to an explanation.

use super::super::engines::Engine;
use super::super::problem::{Budget, Item, NEVER};
use super::few::{End, FewOp};
use super::reduce::{Numbered, shortest_prefix};
use super::rules::Labels;
use super::scene::Scene;
use super::text::line;
use super::{SHOWN_MAX, why};
use crate::verdict::{Blocked, Explanation, OpLine};
use crate::{Op, Value};

/// Turns operations of a model back into those of the history.
pub(super) struct Teller<'t, 'h, M: Engine, S> {
    pub(super) model: &'t M,
    pub(super) key: &'t str,
    pub(super) items: &'t [Item<M::Op>],
    /// The operation of an item.
    pub(super) source: S,
    /// All operations of the key, failed ones included.
    pub(super) all: &'t [Op<'h>],
}

impl<'h, M: Engine, S: Fn(usize) -> Option<Op<'h>>> Teller<'_, 'h, M, S> {
    /// A few operations, and what every order of them comes to.
    pub(super) fn tell(&self, mut scene: Scene<M>, prefix_index: u32, budget: &Budget) -> Option<Explanation> {
        // A story of a register leaves nothing open: no finished operation is optional, none asks for less.
        let is_whole = !scene.from_any_state
            && scene.ops.iter().all(|(at, op)| !op.is_optional || !self.items[*at].is_finished() || op.ret == NEVER);
        scene.without_idle(self.model, budget);
        let certain = scene.ops.iter().filter(|(_, op)| !op.is_optional).count();
        let is_shown = |op: &FewOp<M::Op>| scene.ops.len() <= SHOWN_MAX.max(certain) || !op.is_optional;
        let walk = scene.walk(self.model, budget.deadline);
        let End::Impossible { at, frontier } = &walk.end else {
            let items = scene.ops.iter().map(|(at, op)| (*at, Item { op: op.op.clone(), call: op.call, ret: op.ret }));
            return self.list(self.model, items.collect(), prefix_index, budget);
        };
        let mut shown: Vec<&(usize, FewOp<M::Op>)> = scene.ops.iter().filter(|(_, op)| is_shown(op)).collect();
        shown.sort_by_key(|(_, op)| op.call);
        let labels = self.labels(&scene);
        let place = |at: usize| shown.iter().position(|(other, _)| *other == scene.ops[at].0);
        let culprit = place(*at)?;
        let mut lines = Vec::new();
        let mut ops = Vec::new();
        for (at, op) in shown.iter().copied() {
            let of_history = (self.source)(*at)?;
            lines.push(self.line(*at, &of_history, &op.op, op.is_optional, &labels));
            ops.push(of_history);
        }
        let states = why::states(self.model, &walk, frontier);
        let mut blocked = Vec::new();
        for (other, (_, op)) in scene.ops.iter().enumerate() {
            let is_open = !op.is_optional && op.call < scene.ops[*at].1.ret;
            let waits = |node: &&u32| walk.done(**node) >> other & 1 == 0;
            let mut without = frontier.iter().filter(waits).peekable();
            let is_blocked =
                without.peek().is_some() && without.all(|node| self.model.step(walk.state(*node), &op.op).is_none());
            if is_open
                && is_blocked
                && let Some(place) = place(other)
            {
                blocked.push(Blocked { op: place, why: why::blocked(self.model, &op.op, &states) });
            }
        }
        let specific = || why::register(&ops, culprit, self.all);
        let is_register = scene.ops.iter().all(|(_, op)| self.model.found_and_left(&op.op).is_some());
        let is_whole = is_whole && scene.ops.iter().all(|(at, op)| op.op == self.items[*at].op);
        let why = if is_whole && is_register { specific() } else { None };
        let general = || blocked.iter().find(|blocked| blocked.op == culprit).map(|blocked| blocked.why.clone());
        Some(Explanation {
            key: self.key.to_owned(),
            why: why.or_else(general).unwrap_or_else(|| "no order lets it take effect".to_owned()),
            culprit,
            others: (self.items.len() - lines.len()) as u64,
            ops: lines,
            prefix_index: u64::from(prefix_index),
            start: scene.from_any_state.then(|| format!("whatever {} before", self.model.subject())),
            states: states.texts,
            states_more: states.more,
            blocked,
        })
    }

    /// One operation, and why all others cannot help.
    pub(super) fn alone(&self, at: usize, prefix: &Numbered<M::Op>, prefix_index: u32) -> Option<Explanation> {
        let others: Vec<&M::Op> = prefix.iter().filter(|(other, _)| *other != at).map(|(_, item)| &item.op).collect();
        let op = &self.items[at].op;
        let bound = self.model.bound(&others).unwrap_or_else(|| {
            format!("no choice of the {} operations called before, and no order, leads there", others.len())
        });
        let why = match self.model.needs(op) {
            Some(needs) => format!("needs {needs}; {bound}"),
            None => bound,
        };
        Some(Explanation {
            key: self.key.to_owned(),
            why: why.clone(),
            culprit: 0,
            others: self.items.len() as u64 - 1,
            ops: vec![self.line(at, &(self.source)(at)?, op, false, &[])],
            prefix_index: u64::from(prefix_index),
            start: None,
            states: Vec::new(),
            states_more: 0,
            blocked: vec![Blocked { op: 0, why }],
        })
    }

    /// Without a look at every order.
    pub(super) fn list(
        &self,
        model: &M,
        items: Numbered<M::Op>,
        prefix_index: u32,
        budget: &Budget,
    ) -> Option<Explanation> {
        let (items, end) = shortest_prefix(model, items, 0, None, budget);
        let culprit = self.items.iter().position(|item| item.ret == end)?;
        let mut ops = Vec::new();
        let mut lines = Vec::new();
        for (at, item) in &items {
            let of_history = (self.source)(*at)?;
            lines.push(self.line(*at, &of_history, &item.op, false, &[]));
            ops.push(of_history);
        }
        let culprit = items.iter().position(|(at, _)| *at == culprit)?;
        let is_register = items.iter().all(|(_, item)| model.found_and_left(&item.op).is_some());
        let why = if is_register { why::register(&ops, culprit, self.all) } else { None };
        Some(Explanation {
            key: self.key.to_owned(),
            why: why.unwrap_or_else(|| "no order lets it take effect".to_owned()),
            culprit,
            others: (self.items.len() - lines.len()) as u64,
            ops: lines,
            prefix_index: u64::from(prefix_index),
            start: None,
            states: Vec::new(),
            states_more: 0,
            blocked: Vec::new(),
        })
    }

    fn line(&self, at: usize, of_history: &Op<'_>, op: &M::Op, is_optional: bool, labels: &[Value]) -> OpLine {
        let mut line = line(of_history);
        line.optional = is_optional && self.items[at].is_finished();
        if *op != self.items[at].op {
            line.text = self.model.restricted_text(of_history.f().as_str(), op, labels);
        }
        line
    }

    /// Labels of the parts that are left.
    fn labels(&self, scene: &Scene<M>) -> Vec<Value> {
        let items: Vec<Item<M::Op>> =
            scene.ops.iter().map(|(_, op)| Item { op: op.op.clone(), call: op.call, ret: op.ret }).collect();
        match self.model.labels(&items) {
            Labels::Apart(labels) => labels,
            _ => Vec::new(),
        }
    }
}

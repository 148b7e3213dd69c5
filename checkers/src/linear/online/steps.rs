//! From one return to the next: what can be linearized in between.
//!
//! 1. A read-only operation is linearized as soon as its answer is right; that is never wrong and never taken back.
//! 2. Of several open operations of the same kind the one that returns first goes first; of unfinished ones only the
//!    number that is spent counts.
//! 3. A configuration covers every one that differs only in having spent more unfinished operations.
//! 4. When an operation overwrites the state, every other open one that does so may have come just before it without
//!    a trace. It becomes *free*: it need not be linearized when it returns, and still can be when it is needed. So
//!    writes that nobody reads do not multiply configurations, though nothing is known of later reads.
//! 5. Before the operation that returns only those are linearized that it, or one between them, does not commute with:
//!    all others may as well come after it ([`Streamed::commutes`]).
//!
//! Each has an exchange argument; all of them are compared with the other engines event by event in `tests`.

use super::configuration::{Antichain, Configuration, Slots, spend, spent_of};
use super::states::States;
use super::streamed::Streamed;
use super::{Broken, Limits};

/// What can be linearized before a return, as numbers.
#[derive(Default)]
pub(super) struct Prepared {
    /// Slot and kind of the operation that returns.
    pub(super) goal: (u32, u32),
    /// The same of open operations that may change the state, first to return first.
    pub(super) writes: Vec<(u32, u32)>,
    /// And of those that do not.
    pub(super) reads: Vec<(u32, u32)>,
    /// Slots of those that overwrite the state.
    pub(super) overwriting: Slots,
    /// Kinds of unfinished operations, and how many of them have been called.
    pub(super) unfinished: Vec<(u32, u32)>,
}

/// What to linearize next.
#[derive(Clone, Copy)]
enum Choice {
    /// An operation with a slot, and its kind.
    Open(u32, u32),
    /// An unfinished one of this kind.
    Unfinished(u32),
}

impl Choice {
    fn kind(self) -> u32 {
        match self {
            Self::Open(_, kind) | Self::Unfinished(kind) => kind,
        }
    }
}

/// A configuration before a level, how one came there.
struct Node {
    configuration: Configuration,
    level: usize,
    /// `usize::MAX` at the start.
    parent: usize,
}

/// One look at some levels.
pub(super) struct Search<'s, M: Streamed> {
    states: &'s mut States<M>,
    limits: &'s Limits,
    pub(super) configurations: u64,
}

impl<'s, M: Streamed> Search<'s, M> {
    pub(super) fn new(states: &'s mut States<M>, limits: &'s Limits) -> Self {
        Self { states, limits, configurations: 0 }
    }

    /// All configurations after one level.
    pub(super) fn all(&mut self, level: &Prepared, starts: Vec<Configuration>) -> Result<Vec<Configuration>, Broken> {
        let mut after = Antichain::default();
        let mut seen = Antichain::default();
        let mut todo = std::collections::VecDeque::new();
        for mut start in starts {
            self.linearize_reads(level, &mut start);
            if seen.insert(&start, level.overwriting) {
                todo.push_back(start);
            }
        }
        // In the order of what was spent: those that cover come before those that are covered.
        while let Some(configuration) = todo.pop_front() {
            self.count(seen.bytes + after.bytes)?;
            if let Some(next) = passed(level, &configuration) {
                after.insert(&next, level.overwriting);
                if configuration.lin.has(level.goal.0) {
                    continue;
                }
            }
            for next in self.successors(level, &configuration) {
                if seen.insert(&next, level.overwriting) {
                    todo.push_back(next);
                }
            }
        }
        Ok(after.into_vec())
    }

    /// One way through all levels, as the configurations after each of them; `None` when there is none.
    pub(super) fn find(
        &mut self,
        levels: &[Prepared],
        starts: Vec<Configuration>,
    ) -> Result<Option<Vec<Configuration>>, Broken> {
        let mut nodes: Vec<Node> = Vec::new();
        let mut seen: Vec<Antichain> = levels.iter().map(|_| Antichain::default()).collect();
        let mut todo: Vec<(Configuration, usize, usize)> =
            starts.into_iter().rev().map(|start| (start, 0, usize::MAX)).collect();
        let mut bytes = 0;
        while let Some((mut configuration, level, parent)) = todo.pop() {
            let Some(prepared) = levels.get(level) else {
                return Ok(Some(path(levels, &nodes, parent)));
            };
            self.linearize_reads(prepared, &mut configuration);
            if !seen[level].insert(&configuration, prepared.overwriting) {
                continue;
            }
            bytes += 2 * configuration.bytes();
            self.count(bytes)?;
            let here = nodes.len();
            let next = passed(prepared, &configuration);
            if next.is_none() || !configuration.lin.has(prepared.goal.0) {
                let successors = self.successors(prepared, &configuration);
                todo.extend(successors.into_iter().rev().map(|next| (next, level, here)));
            }
            todo.extend(next.map(|next| (next, level + 1, here)));
            nodes.push(Node { configuration, level, parent });
        }
        Ok(None)
    }

    fn count(&mut self, bytes: u64) -> Result<(), Broken> {
        self.configurations += 1;
        if self.configurations > self.limits.configurations_max {
            let max = self.limits.configurations_max;
            return Err(Broken::GaveUp(format!("more than {max} configurations at one event")));
        }
        if bytes + self.states.bytes() > self.limits.memory_max {
            return Err(Broken::GaveUp("out of memory".to_owned()));
        }
        Ok(())
    }

    fn linearize_reads(&mut self, level: &Prepared, configuration: &mut Configuration) {
        for &(slot, kind) in &level.reads {
            if !configuration.lin.has(slot) && self.states.step(configuration.state, kind).is_some() {
                configuration.lin.add(slot);
            }
        }
    }

    /// Configurations one operation further, the best first.
    fn successors(&mut self, level: &Prepared, configuration: &Configuration) -> Vec<Configuration> {
        let mut choices: Vec<Choice> = Vec::new();
        for &(slot, kind) in &level.writes {
            // First to return first: a later one of the same kind has to wait, unless the first is free and it is not:
            // then it would be done, too.
            let waits = |choice: &Choice| match *choice {
                Choice::Open(first, of) => {
                    of == kind && (!configuration.free.has(first) || configuration.free.has(slot))
                }
                Choice::Unfinished(_) => false,
            };
            if !configuration.lin.has(slot) && !choices.iter().any(waits) {
                choices.push(Choice::Open(slot, kind));
            }
        }
        let open = choices.len();
        for &(kind, called) in &level.unfinished {
            let waits = || choices[..open].iter().any(|choice| choice.kind() == kind);
            if called > spent_of(&configuration.spent, kind) && !waits() {
                choices.push(Choice::Unfinished(kind));
            }
        }
        if self.states.model.has_commuting() {
            self.keep_relevant(level, configuration, &mut choices);
        }
        let mut successors = Vec::with_capacity(choices.len());
        for choice in choices {
            let Some(first) = self.states.step(configuration.state, choice.kind()) else { continue };
            successors.extend(self.apply(level, configuration, choice, first));
            for other in self.states.others(configuration.state, choice.kind()) {
                successors.extend(self.apply(level, configuration, choice, other));
            }
        }
        successors
    }

    /// Leaves out what commutes with everything that must come before the return.
    fn keep_relevant(&self, level: &Prepared, configuration: &Configuration, choices: &mut Vec<Choice>) {
        let mut rest: Vec<u32> = choices.iter().map(|choice| choice.kind()).collect();
        rest.extend(level.reads.iter().filter(|(slot, _)| !configuration.lin.has(*slot)).map(|(_, kind)| *kind));
        let mut relevant = vec![level.goal.1];
        let mut at = 0;
        while at < relevant.len() {
            let one = relevant[at];
            let mut tied = Vec::new();
            rest.retain(|&kind| {
                let is_tied = kind == one || !self.states.commutes(one, kind);
                if is_tied {
                    tied.push(kind);
                }
                !is_tied
            });
            relevant.extend(tied);
            at += 1;
        }
        choices.retain(|choice| relevant.contains(&choice.kind()));
    }

    /// After an operation that led to `state`; `None` when it may as well be left out.
    fn apply(&mut self, level: &Prepared, before: &Configuration, choice: Choice, state: u32) -> Option<Configuration> {
        let mut after = before.clone();
        after.state = state;
        match choice {
            Choice::Open(slot, _) => {
                after.lin.add(slot);
                after.free.remove(slot);
            }
            // It changed nothing, so it may as well never have happened.
            Choice::Unfinished(_) if state == before.state => return None,
            Choice::Unfinished(kind) => spend(&mut after.spent, kind),
        }
        if self.states.traits(choice.kind()).overwrites {
            for &(slot, _) in &level.writes {
                if level.overwriting.has(slot) && !after.lin.has(slot) {
                    after.free.add(slot);
                }
            }
        }
        self.linearize_reads(level, &mut after);
        Some(after)
    }
}

/// The configuration after the return, if the operation that returns can have taken effect.
fn passed(level: &Prepared, configuration: &Configuration) -> Option<Configuration> {
    let slot = level.goal.0;
    let is_done = configuration.lin.has(slot) || configuration.free.has(slot);
    is_done.then(|| {
        let mut next = configuration.clone();
        next.lin.remove(slot);
        next.free.remove(slot);
        next
    })
}

/// What is after each level on the way to the end, of which `last` is the last node.
fn path(levels: &[Prepared], nodes: &[Node], last: usize) -> Vec<Configuration> {
    let mut path: Vec<Configuration> = Vec::with_capacity(levels.len());
    let (mut at, mut below) = (last, levels.len());
    while let Some(node) = nodes.get(at) {
        if node.level < below {
            // The step from here was the return; what the next level's reads add is not known for good yet.
            path.extend(passed(&levels[node.level], &node.configuration));
            below = node.level;
        }
        at = node.parent;
    }
    path.reverse();
    path
}

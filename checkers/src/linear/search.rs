//! The default engine: just-in-time linearization, depth first.
//!
//! An operation is linearized only when the return of some operation forces it, so a configuration is (the return that
//! is next, state, which open operations are linearized, which unfinished ones are spent): its size depends on how many
//! operations are open at once, not on the length of the history (Lowe, "Testing for linearizability", 2017). On top:
//!
//! 1. A read-only operation is linearized as soon as its answer is right; that is never wrong and never taken back.
//! 2. Of several open operations of the same kind the one that returns first goes first. Unfinished ones return last,
//!    so of them only the number that is spent counts.
//! 3. A configuration that failed covers every one that differs only in having spent more unfinished operations.
//! 4. States and kinds that no remaining operation can tell apart are the same ([`Stepper::settle`], `class`,
//!    `is_useless`).
//! 5. A state that later operations need, and nothing will produce again, is not left; an operation that needs a state
//!    which no open operation produces cannot be reached. Both need [`Stepper::required`] and `produced`. Where
//!    operations only add to a state, each has to lead towards what the next return needs ([`Stepper::leads`]). Where
//!    states have parts, the same holds of each part ([`Stepper::loses`], `is_beyond`).
//!
//! Each has an exchange argument: an order that violates it can be turned into one that does not. All of them together
//! are compared with the reference engine and with brute force in this module's tests. Where it failed it knows exactly
//! unless (5) looks ahead; then [`super::explain`] finds that by checking prefixes.

use super::problem::{
    Budget, Decided, Decision, NEVER, NumberedOp, OUT_OF_TIME, Problem, Stepper, Watch, sort_nearly_sorted,
};
use super::seen::{Place, Seen, Spent, spent_of};

/// Which slots hold a linearized operation.
trait Bits: Clone {
    fn empty(slots: usize) -> Self;
    fn words(&self) -> &[u64];
    fn words_mut(&mut self) -> &mut [u64];

    fn get(&self, slot: u32) -> bool {
        self.words()[slot as usize / 64] >> (slot % 64) & 1 != 0
    }

    fn set(&mut self, slot: u32, on: bool) {
        let word = &mut self.words_mut()[slot as usize / 64];
        *word = *word & !(1 << (slot % 64)) | u64::from(on) << (slot % 64);
    }
}

impl<const N: usize> Bits for [u64; N] {
    fn empty(_slots: usize) -> Self {
        [0; N]
    }

    fn words(&self) -> &[u64] {
        self
    }

    fn words_mut(&mut self) -> &mut [u64] {
        self
    }
}

impl Bits for Box<[u64]> {
    fn empty(slots: usize) -> Self {
        vec![0; slots.div_ceil(64)].into()
    }

    fn words(&self) -> &[u64] {
        self
    }

    fn words_mut(&mut self) -> &mut [u64] {
        self
    }
}

/// Everything before `next_return` is linearized, and `lin` of what is open.
#[derive(Clone)]
struct Configuration<B> {
    next_return: u32,
    state: u32,
    lin: B,
    spent: Spent,
}

/// What to linearize next.
#[derive(Clone, Copy)]
enum Choice {
    /// A finished operation.
    Finished { op: u32, class: u32 },
    /// One of the unfinished operations of a class.
    Unfinished { class: u32 },
}

impl Choice {
    fn class(self) -> u32 {
        match self {
            Self::Finished { class, .. } | Self::Unfinished { class } => class,
        }
    }
}

/// A configuration with something left to try: the choices from `choices_start` on, the best last.
struct Frame<B> {
    configuration: Configuration<B>,
    choices_start: usize,
}

/// Decides whether the operations can be ordered.
pub(crate) fn decide(problem: &Problem, stepper: &mut impl Stepper, budget: &Budget) -> Decided {
    let mut timeline = Timeline::new(problem, |kind| stepper.is_read_only(kind));
    for (kind, calls) in &mut timeline.unfinished {
        calls.retain(|&call| !stepper.is_useless(*kind, call));
    }
    timeline.unfinished.retain(|(_, calls)| !calls.is_empty());
    match timeline.slots {
        0..=64 => Search::<[u64; 1], _>::new(&timeline, stepper).run(budget),
        65..=128 => Search::<[u64; 2], _>::new(&timeline, stepper).run(budget),
        _ => Search::<Box<[u64]>, _>::new(&timeline, stepper).run(budget),
    }
}

/// What is open when. Lists per return are kept one after the other, with where each ends.
struct Timeline<'p> {
    ops: &'p [NumberedOp],
    /// Finished operations in the order of their returns.
    returns: Vec<u32>,
    /// Slot of each finished operation; free again after its return.
    slot: Vec<u32>,
    slots: usize,
    /// Per return: operations open just before it that may change something, first to return first.
    writes: Vec<u32>,
    writes_end: Vec<usize>,
    /// Per return: (slot, kind) of read-only operations open just before it, first to be called first.
    reads: Vec<(u32, u32)>,
    reads_end: Vec<usize>,
    /// Per return: how many of `reads` were called since the return before; they are the last ones.
    fresh_reads: Vec<u32>,
    /// Kinds of unfinished operations that may change something, each with all its calls, first to be called first; without
    /// those that are useless from then on.
    unfinished: Vec<(u32, Vec<u32>)>,
}

impl<'p> Timeline<'p> {
    fn new(problem: &'p Problem, is_read_only: impl Fn(u32) -> bool) -> Self {
        let ops = &problem.ops[..];
        let (mut returns, mut unfinished) = (Vec::with_capacity(ops.len()), Vec::new());
        for (op, at) in ops.iter().enumerate() {
            if at.ret != NEVER {
                returns.push(op as u32);
            } else if !is_read_only(at.kind) {
                unfinished.push((at.kind, at.call));
            }
        }
        let mut calls = returns.clone();
        sort_nearly_sorted(&mut calls, |&op| ops[op as usize].call);
        sort_nearly_sorted(&mut returns, |&op| ops[op as usize].ret);
        unfinished.sort_unstable();
        let unfinished = unfinished.chunk_by(|a, b| a.0 == b.0);
        let unfinished = unfinished.map(|same| (same[0].0, same.iter().map(|(_, call)| *call).collect())).collect();
        let mut this = Self {
            ops,
            slot: vec![0; ops.len()],
            slots: 0,
            writes: Vec::with_capacity(2 * ops.len()),
            writes_end: Vec::with_capacity(returns.len()),
            reads: Vec::with_capacity(2 * ops.len()),
            reads_end: Vec::with_capacity(returns.len()),
            fresh_reads: Vec::with_capacity(returns.len()),
            unfinished,
            returns: Vec::new(),
        };
        let mut free: Vec<u32> = Vec::new();
        let (mut writes, mut reads): (Vec<u32>, Vec<(u32, u32)>) = (Vec::new(), Vec::new());
        let mut calls = calls.into_iter().peekable();
        for &returning in &returns {
            let position = ops[returning as usize].ret;
            let mut fresh = 0;
            while let Some(op) = calls.next_if(|&op| ops[op as usize].call < position) {
                let slot = free.pop().unwrap_or_else(|| {
                    this.slots += 1;
                    this.slots as u32 - 1
                });
                this.slot[op as usize] = slot;
                if is_read_only(ops[op as usize].kind) {
                    reads.push((slot, ops[op as usize].kind));
                    fresh += 1;
                } else {
                    let at = writes.partition_point(|&other| ops[other as usize].ret < ops[op as usize].ret);
                    writes.insert(at, op);
                }
            }
            this.fresh_reads.push(fresh);
            this.writes.extend_from_slice(&writes);
            this.writes_end.push(this.writes.len());
            this.reads.extend_from_slice(&reads);
            this.reads_end.push(this.reads.len());
            let slot = this.slot[returning as usize];
            free.push(slot);
            if writes.first() == Some(&returning) {
                writes.remove(0);
            } else {
                reads.retain(|&(other, _)| other != slot);
            }
        }
        this.returns = returns;
        this
    }

    fn writes(&self, next_return: u32) -> &[u32] {
        list(&self.writes, &self.writes_end, next_return)
    }

    fn reads(&self, next_return: u32) -> &[(u32, u32)] {
        list(&self.reads, &self.reads_end, next_return)
    }

    fn fresh_reads(&self, next_return: u32) -> &[(u32, u32)] {
        let reads = self.reads(next_return);
        &reads[reads.len() - self.fresh_reads[next_return as usize] as usize..]
    }

    /// Where return number `next_return` is in the history.
    fn position(&self, next_return: u32) -> u32 {
        self.ops[self.returns[next_return as usize] as usize].ret
    }
}

/// One of several lists that stand one after the other.
fn list<'l, T>(items: &'l [T], ends: &[usize], at: u32) -> &'l [T] {
    let at = at as usize;
    let start = if at == 0 { 0 } else { ends[at - 1] };
    &items[start..ends[at]]
}

struct Search<'s, B, S> {
    timeline: &'s Timeline<'s>,
    stepper: &'s mut S,
    seen: Seen,
    stack: Vec<Frame<B>>,
    /// Untried choices of all frames.
    choices: Vec<Choice>,
    offered: Offered,
    /// Kinds that have not taken effect, for a moment.
    waiting: Vec<u32>,
    /// (class, how many unfinished operations of it have been called), sorted by class, of one return after the other.
    available: Vec<(u32, u32)>,
    /// Per return: where its part of `available` is, made on first use.
    available_at: Vec<Option<(usize, usize)>>,
    configurations: u64,
    /// The latest return that some configuration waits for.
    reach: u32,
}

impl<'s, B: Bits, S: Stepper> Search<'s, B, S> {
    fn new(timeline: &'s Timeline<'s>, stepper: &'s mut S) -> Self {
        let has_unfinished = !timeline.unfinished.is_empty();
        Self {
            timeline,
            stepper,
            seen: Seen::new(B::empty(timeline.slots).words().len()),
            stack: Vec::with_capacity(16),
            choices: Vec::with_capacity(64),
            offered: Offered::default(),
            waiting: Vec::new(),
            available: Vec::new(),
            available_at: vec![None; if has_unfinished { timeline.returns.len() } else { 0 }],
            configurations: 0,
            reach: 0,
        }
    }

    fn run(mut self, budget: &Budget) -> Decided {
        let decision = self.decide(budget);
        // All that can be done was done: what every configuration waits for is what cannot be.
        let is_first = decision == Decision::NotLinearizable && !S::LOOKS_AHEAD;
        Decided { decision, engine: "search", configurations: self.configurations, reach: self.reach, is_first }
    }

    fn decide(&mut self, budget: &Budget) -> Decision {
        let mut start = Configuration {
            next_return: 0,
            state: self.stepper.initial(),
            lin: B::empty(self.timeline.slots),
            spent: Spent::new(),
        };
        if self.timeline.returns.is_empty() {
            return Decision::Linearizable;
        }
        self.linearize_reads(&mut start);
        if self.advance(&mut start) {
            return Decision::Linearizable;
        }
        let mut watch = Watch::new(budget.deadline);
        let mut next = Some(start);
        loop {
            if let Some(configuration) = next.take() {
                self.configurations += 1;
                let held = self.held();
                if let Some(why) = budget.exceeded(self.configurations, held + budget.memory_max / 4, &mut watch) {
                    return Decision::GaveUp(why);
                }
                if self.is_new(&configuration, budget.memory_max - held) {
                    let choices_start = self.choices.len();
                    self.add_choices(&configuration);
                    self.stack.push(Frame { configuration, choices_start });
                }
            }
            let Some(frame) = self.stack.last() else { return Decision::NotLinearizable };
            // What gives no new configuration takes time, too.
            if watch.is_late() {
                return Decision::GaveUp(OUT_OF_TIME);
            }
            let configuration = match self.choices.len() - frame.choices_start {
                0 => {
                    self.stack.pop();
                    continue;
                }
                // Nothing to come back to: forced moves take no stack.
                1 => self.stack.pop().map(|frame| frame.configuration),
                _ => Some(frame.configuration.clone()),
            };
            let (Some(mut configuration), Some(choice)) = (configuration, self.choices.pop()) else { continue };
            if self.apply(&mut configuration, choice) {
                if self.advance(&mut configuration) {
                    return Decision::Linearizable;
                }
                next = Some(configuration);
            }
            // Also of a read: an order that was found without it is one all the same.
            if let Some(why) = self.stepper.gave_up() {
                return Decision::GaveUp(why);
            }
        }
    }

    /// Bytes held besides what has been seen.
    fn held(&self) -> u64 {
        let lin_len = size_of_val(B::empty(0).words()).max(self.timeline.slots / 8);
        let stack = self.stack.capacity() * size_of::<Frame<B>>() + self.stack.len() * (lin_len + 32);
        let choices = self.choices.capacity() * size_of::<Choice>();
        let available = self.available.capacity() * size_of::<(u32, u32)>();
        self.stepper.memory() + (stack + choices + available) as u64
    }

    /// Remembers a configuration. `false` when one that is at least as good has been here before.
    fn is_new(&mut self, configuration: &Configuration<B>, memory_max: u64) -> bool {
        let Configuration { next_return, state, ref lin, ref spent } = *configuration;
        self.seen.insert(Place { next_return, state, lin: lin.words() }, spent, memory_max)
    }

    /// Adds what can be linearized before the next return, the best last.
    fn add_choices(&mut self, configuration: &Configuration<B>) {
        let timeline = self.timeline;
        let start = self.choices.len();
        let position = timeline.position(configuration.next_return);
        self.offered.clear();
        for &op in timeline.writes(configuration.next_return) {
            if configuration.lin.get(timeline.slot[op as usize]) {
                continue;
            }
            let class = self.stepper.class(timeline.ops[op as usize].kind, position);
            // First to return first: a later one of the same class has to wait.
            if self.offered.is_first(class) {
                self.choices.push(Choice::Finished { op, class });
            }
        }
        for at in self.available(configuration.next_return) {
            let (class, count) = self.available[at];
            let spent = spent_of(&configuration.spent, class);
            if count > spent && self.offered.is_first(class) {
                self.choices.push(Choice::Unfinished { class });
            }
        }
        let goal = timeline.ops[timeline.returns[configuration.next_return as usize] as usize].kind;
        let choices = &mut self.choices[start..];
        // The operation that returns is the first of its kind already; what brings its state about goes before it.
        if let Some(state) = self.stepper.required(goal).filter(|&state| state != configuration.state) {
            let produces = |choice: &Choice| self.stepper.produced(choice.class()) == Some(state);
            if !choices.iter().any(produces) {
                self.choices.truncate(start);
                return;
            }
            choices.sort_by_key(|choice| !produces(choice));
        }
        if S::KNOWS_THE_WAY {
            let classes = self.choices[start..].iter().map(|choice| choice.class());
            if self.stepper.is_beyond(configuration.state, goal, classes) {
                self.choices.truncate(start);
                return;
            }
            self.sort_out_choices(configuration.state, start, goal);
        }
        self.choices[start..].reverse();
    }

    /// What leads towards the operation that returns goes first; where nothing can start over, nothing else goes at all.
    fn sort_out_choices(&mut self, state: u32, start: usize, goal: u32) {
        let (stepper, choices) = (&mut *self.stepper, &mut self.choices[start..]);
        let may_start_over = choices.iter().any(|choice| stepper.starts_over(choice.class()));
        let mut leading = 0;
        for at in 0..choices.len() {
            if stepper.leads(state, choices[at].class(), goal) {
                // Both parts stay in order: first to return first.
                choices[leading..=at].rotate_right(1);
                leading += 1;
            }
        }
        if !may_start_over {
            self.choices.truncate(start + leading);
        }
    }

    /// Where the unfinished operations called before a return are in `available`.
    fn available(&mut self, next_return: u32) -> std::ops::Range<usize> {
        let timeline = self.timeline;
        let Some(&known) = self.available_at.get(next_return as usize) else { return 0..0 };
        let (start, end) = known.unwrap_or_else(|| {
            let position = timeline.position(next_return);
            let start = self.available.len();
            for (kind, calls) in &timeline.unfinished {
                let count = calls.partition_point(|&call| call < position);
                if count > 0 && !self.stepper.is_useless(*kind, position) {
                    self.available.push((self.stepper.class(*kind, position), count as u32));
                }
            }
            let end = start + merge_counts(&mut self.available[start..]);
            self.available.truncate(end);
            self.available_at[next_return as usize] = Some((start, end));
            (start, end)
        });
        start..end
    }

    /// Linearizes one operation. `false` when that is impossible or leads nowhere.
    fn apply(&mut self, configuration: &mut Configuration<B>, choice: Choice) -> bool {
        let before = configuration.state;
        let Some(state) = self.stepper.step(before, choice.class()) else { return false };
        match choice {
            Choice::Finished { op, .. } => configuration.lin.set(self.timeline.slot[op as usize], true),
            // It changed nothing, so it may as well never have happened.
            Choice::Unfinished { .. } if state == before || self.stepper.is_pointless(state) => return false,
            Choice::Unfinished { class } => spend(&mut configuration.spent, class),
        }
        configuration.state = state;
        if state != before && self.is_lost(configuration, before) {
            return false;
        }
        self.linearize_reads(configuration);
        true
    }

    /// Whether the state just left is needed later and cannot come back.
    fn is_lost(&mut self, configuration: &Configuration<B>, state: u32) -> bool {
        let timeline = self.timeline;
        let position = timeline.position(configuration.next_return);
        if S::HAS_PARTS {
            return self.loses_parts(configuration, state, position);
        }
        if !self.stepper.is_needed_later(state, position) {
            return false;
        }
        let again = timeline.writes(configuration.next_return).iter().any(|&op| {
            !configuration.lin.get(timeline.slot[op as usize])
                && self.stepper.produced(timeline.ops[op as usize].kind) == Some(state)
        });
        let available = self.available(configuration.next_return);
        !again
            && !self.available[available].iter().any(|&(class, count)| {
                self.stepper.produced(class) == Some(state) && count > spent_of(&configuration.spent, class)
            })
    }

    fn loses_parts(&mut self, configuration: &Configuration<B>, before: u32, position: u32) -> bool {
        let (timeline, at) = (self.timeline, configuration.next_return);
        let writes = timeline.writes(at).iter().map(|&op| (timeline.slot[op as usize], timeline.ops[op as usize].kind));
        let open = writes.chain(timeline.reads(at).iter().copied()).filter(|(slot, _)| !configuration.lin.get(*slot));
        self.waiting.clear();
        self.waiting.extend(open.map(|(_, kind)| kind));
        let open = self.waiting.len();
        let available = self.available(at);
        let is_left = |&&(class, count): &&(u32, u32)| count > spent_of(&configuration.spent, class);
        self.waiting.extend(self.available[available].iter().filter(is_left).map(|(class, _)| *class));
        let (open, unfinished) = self.waiting.split_at(open);
        self.stepper.loses(before, configuration.state, position, open, unfinished)
    }

    /// Linearizes every open read-only operation whose answer is right.
    fn linearize_reads(&mut self, configuration: &mut Configuration<B>) {
        let timeline = self.timeline;
        self.linearize(configuration, timeline.reads(configuration.next_return));
    }

    fn linearize(&mut self, configuration: &mut Configuration<B>, reads: &[(u32, u32)]) {
        for &(slot, kind) in reads {
            if !configuration.lin.get(slot) && self.stepper.reads(configuration.state, kind) {
                configuration.lin.set(slot, true);
            }
        }
    }

    /// Passes all returns of linearized operations and forgets what nobody can tell any more. `true` at the end.
    fn advance(&mut self, configuration: &mut Configuration<B>) -> bool {
        let timeline = self.timeline;
        let start = configuration.next_return;
        loop {
            let slot = timeline.slot[timeline.returns[configuration.next_return as usize] as usize];
            if !configuration.lin.get(slot) {
                break;
            }
            configuration.lin.set(slot, false);
            configuration.next_return += 1;
            if configuration.next_return as usize == timeline.returns.len() {
                return true;
            }
            // Those called before were tried in this state already.
            self.linearize(configuration, timeline.fresh_reads(configuration.next_return));
        }
        let position = timeline.position(configuration.next_return);
        self.reach = self.reach.max(position);
        configuration.state = self.stepper.settle(configuration.state, position);
        if configuration.next_return != start && !configuration.spent.is_empty() {
            self.settle_spent(&mut configuration.spent, position);
        }
        false
    }

    fn settle_spent(&mut self, spent: &mut Spent, position: u32) {
        spent.retain(|&(class, _)| !self.stepper.is_useless(class, position));
        for (class, _) in spent.iter_mut() {
            *class = self.stepper.class(*class, position);
        }
        let len = merge_counts(spent);
        spent.truncate(len);
    }
}

/// Sorts (class, how many) by class and adds up those of one class; how many are left.
fn merge_counts(counts: &mut [(u32, u32)]) -> usize {
    sort_nearly_sorted(counts, |&(class, _)| class);
    let mut len = 0;
    for at in 0..counts.len() {
        if len > 0 && counts[len - 1].0 == counts[at].0 {
            counts[len - 1].1 += counts[at].1;
        } else {
            counts[len] = counts[at];
            len += 1;
        }
    }
    len
}

/// Classes that are among the choices of one configuration.
#[derive(Default)]
struct Offered {
    /// Class -> the round in which it was offered last.
    round_of: Vec<u32>,
    round: u32,
}

impl Offered {
    fn clear(&mut self) {
        self.round = self.round.wrapping_add(1);
        if self.round == 0 {
            self.round_of.fill(0);
            self.round = 1;
        }
    }

    /// Whether this class was not offered yet; now it is.
    fn is_first(&mut self, class: u32) -> bool {
        let at = class as usize;
        if at >= self.round_of.len() {
            self.round_of.resize(at + 1, 0);
        }
        std::mem::replace(&mut self.round_of[at], self.round) != self.round
    }
}

fn spend(spent: &mut Spent, class: u32) {
    match spent.binary_search_by_key(&class, |&(class, _)| class) {
        Ok(at) => spent[at].1 += 1,
        Err(at) => spent.insert(at, (class, 1)),
    }
}

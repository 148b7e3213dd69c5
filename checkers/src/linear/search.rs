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
//!    operations only add to a state, each has to lead towards what the next return needs ([`Stepper::leads`]).
//!
//! Each has an exchange argument: an order that violates it can be turned into one that does not. All of them together
//! are compared with the reference engine and with brute force in this module's tests. What it does not do: say where
//! it failed; [`super::explain`] finds that by checking prefixes, because (5) looks ahead.

use super::problem::{Budget, Decided, Decision, NEVER, NumberedOp, Problem, Stepper};
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

/// Unfinished operations that have been called: (class, how many), sorted by class.
type Available = Box<[(u32, u32)]>;

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
    let timeline = Timeline::new(problem);
    match timeline.slots {
        0..=64 => Search::<[u64; 1], _>::new(&timeline, stepper).run(budget),
        65..=128 => Search::<[u64; 2], _>::new(&timeline, stepper).run(budget),
        _ => Search::<Box<[u64]>, _>::new(&timeline, stepper).run(budget),
    }
}

/// What is open when.
struct Timeline<'p> {
    ops: &'p [NumberedOp],
    /// Finished operations in the order of their returns.
    returns: Vec<u32>,
    /// Slot of each finished operation; free again after its return.
    slot: Vec<u32>,
    slots: usize,
    /// `open[open_start[r]..open_start[r + 1]]`: finished operations open just before return `r`, first to return first.
    open: Vec<u32>,
    open_start: Vec<usize>,
    /// Unfinished operations in the order of their calls.
    unfinished: Vec<u32>,
}

impl<'p> Timeline<'p> {
    fn new(problem: &'p Problem) -> Self {
        let ops = &problem.ops[..];
        let (mut returns, mut unfinished) = (Vec::with_capacity(ops.len()), Vec::new());
        for (op, at) in ops.iter().enumerate() {
            if at.ret == NEVER { unfinished.push(op as u32) } else { returns.push(op as u32) }
        }
        let mut calls = returns.clone();
        calls.sort_unstable_by_key(|&op| ops[op as usize].call);
        returns.sort_unstable_by_key(|&op| ops[op as usize].ret);
        unfinished.sort_unstable_by_key(|&op| ops[op as usize].call);
        let mut this = Self {
            ops,
            slot: vec![0; ops.len()],
            slots: 0,
            open: Vec::with_capacity(4 * ops.len()),
            open_start: Vec::with_capacity(ops.len() + 1),
            unfinished,
            returns: Vec::new(),
        };
        this.open_start.push(0);
        let (mut free, mut open): (Vec<u32>, Vec<u32>) = (Vec::new(), Vec::new());
        let mut calls = calls.into_iter().peekable();
        for &returning in &returns {
            let position = ops[returning as usize].ret;
            while let Some(op) = calls.next_if(|&op| ops[op as usize].call < position) {
                this.slot[op as usize] = free.pop().unwrap_or_else(|| {
                    this.slots += 1;
                    this.slots as u32 - 1
                });
                let at = open.partition_point(|&other| ops[other as usize].ret < ops[op as usize].ret);
                open.insert(at, op);
            }
            this.open.extend_from_slice(&open);
            this.open_start.push(this.open.len());
            // It is the first: the list is sorted by return.
            open.remove(0);
            free.push(this.slot[returning as usize]);
        }
        this.returns = returns;
        this
    }

    fn open(&self, next_return: u32) -> &[u32] {
        let at = next_return as usize;
        &self.open[self.open_start[at]..self.open_start[at + 1]]
    }

    /// Where return number `next_return` is in the history.
    fn position(&self, next_return: u32) -> u32 {
        self.ops[self.returns[next_return as usize] as usize].ret
    }
}

struct Search<'s, B, S> {
    timeline: &'s Timeline<'s>,
    stepper: &'s mut S,
    /// `reads[reads_start[r]..reads_start[r + 1]]`: (slot, kind) of read-only operations open just before return `r`.
    reads: Vec<(u32, u32)>,
    reads_start: Vec<usize>,
    /// The same for all others, first to return first.
    writes: Vec<u32>,
    writes_start: Vec<usize>,
    seen: Seen,
    stack: Vec<Frame<B>>,
    /// Untried choices of all frames.
    choices: Vec<Choice>,
    offered: Offered,
    /// Per return: (class, how many unfinished operations of it have been called), made on first use.
    available: Vec<Option<Available>>,
    configurations: u64,
    /// The latest return that some configuration waits for.
    reach: u32,
    /// Of `available` (bytes).
    memory: u64,
}

impl<'s, B: Bits, S: Stepper> Search<'s, B, S> {
    fn new(timeline: &'s Timeline<'s>, stepper: &'s mut S) -> Self {
        let available = vec![None; timeline.returns.len()];
        let read_only: Vec<bool> = timeline.ops.iter().map(|op| stepper.is_read_only(op.kind)).collect();
        let open = timeline.open.len();
        let (mut reads, mut writes) = (Vec::with_capacity(open), Vec::with_capacity(open));
        let returns = timeline.returns.len() + 1;
        let (mut reads_start, mut writes_start) = (Vec::with_capacity(returns), Vec::with_capacity(returns));
        reads_start.push(0);
        writes_start.push(0);
        for at in 0..timeline.returns.len() as u32 {
            for &op in timeline.open(at) {
                if read_only[op as usize] {
                    reads.push((timeline.slot[op as usize], timeline.ops[op as usize].kind));
                } else {
                    writes.push(op);
                }
            }
            reads_start.push(reads.len());
            writes_start.push(writes.len());
        }
        Self {
            timeline,
            stepper,
            reads,
            reads_start,
            writes,
            writes_start,
            seen: Seen::new(B::empty(timeline.slots).words().len()),
            stack: Vec::new(),
            choices: Vec::new(),
            offered: Offered::default(),
            available,
            configurations: 0,
            reach: 0,
            memory: 0,
        }
    }

    /// Where operations stand in `writes` that are open just before a return, first to return first.
    fn writes_of(&self, next_return: u32) -> std::ops::Range<usize> {
        let at = next_return as usize;
        self.writes_start[at]..self.writes_start[at + 1]
    }

    fn run(mut self, budget: &Budget) -> Decided {
        let decision = self.decide(budget);
        Decided { decision, engine: "search", configurations: self.configurations, reach: self.reach }
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
        let mut next = Some(start);
        loop {
            if let Some(configuration) = next.take() {
                self.configurations += 1;
                let held = self.held();
                if let Some(why) = budget.exceeded(self.configurations, held + budget.memory_max / 4) {
                    return Decision::GaveUp(why);
                }
                if self.is_new(&configuration, budget.memory_max - held) {
                    let choices_start = self.choices.len();
                    self.add_choices(&configuration);
                    self.stack.push(Frame { configuration, choices_start });
                }
            }
            let Some(frame) = self.stack.last() else { return Decision::NotLinearizable };
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
        }
    }

    /// Bytes held besides what has been seen.
    fn held(&self) -> u64 {
        let lin_len = size_of_val(B::empty(0).words()).max(self.timeline.slots / 8);
        let stack = self.stack.capacity() * size_of::<Frame<B>>() + self.stack.len() * (lin_len + 32);
        let choices = self.choices.capacity() * size_of::<Choice>();
        self.memory + self.stepper.memory() + (stack + choices) as u64
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
        let writes = self.writes_of(configuration.next_return);
        self.offered.clear();
        for at in writes {
            let op = self.writes[at];
            if configuration.lin.get(timeline.slot[op as usize]) {
                continue;
            }
            let class = self.stepper.class(timeline.ops[op as usize].kind, position);
            // First to return first: a later one of the same class has to wait.
            if self.offered.is_first(class) {
                self.choices.push(Choice::Finished { op, class });
            }
        }
        self.fill_available(configuration.next_return);
        for &(class, count) in self.available[configuration.next_return as usize].as_deref().unwrap_or_default() {
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

    fn fill_available(&mut self, next_return: u32) {
        let timeline = self.timeline;
        if timeline.unfinished.is_empty() || self.available[next_return as usize].is_some() {
            return;
        }
        let position = timeline.position(next_return);
        let mut classes: Vec<u32> = timeline
            .unfinished
            .iter()
            .map(|&op| timeline.ops[op as usize])
            .take_while(|op| op.call < position)
            .filter(|op| !self.stepper.is_read_only(op.kind) && !self.stepper.is_useless(op.kind, position))
            .map(|op| self.stepper.class(op.kind, position))
            .collect();
        classes.sort_unstable();
        let counts: Available = classes.chunk_by(|a, b| a == b).map(|chunk| (chunk[0], chunk.len() as u32)).collect();
        self.memory += (counts.len() * 8) as u64;
        self.available[next_return as usize] = Some(counts);
    }

    /// Linearizes one operation. `false` when that is impossible or leads nowhere.
    fn apply(&mut self, configuration: &mut Configuration<B>, choice: Choice) -> bool {
        let before = configuration.state;
        let Some(state) = self.stepper.step(before, choice.class()) else { return false };
        match choice {
            Choice::Finished { op, .. } => configuration.lin.set(self.timeline.slot[op as usize], true),
            // It changed nothing, so it may as well never have happened.
            Choice::Unfinished { .. } if state == before => return false,
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
        if !self.stepper.is_needed_later(state, position) {
            return false;
        }
        let again = timeline.open(configuration.next_return).iter().any(|&op| {
            !configuration.lin.get(timeline.slot[op as usize])
                && self.stepper.produced(timeline.ops[op as usize].kind) == Some(state)
        });
        self.fill_available(configuration.next_return);
        !again
            && !self.available[configuration.next_return as usize].as_deref().unwrap_or_default().iter().any(
                |&(class, count)| {
                    self.stepper.produced(class) == Some(state) && count > spent_of(&configuration.spent, class)
                },
            )
    }

    /// Linearizes every open read-only operation whose answer is right.
    fn linearize_reads(&mut self, configuration: &mut Configuration<B>) {
        let at = configuration.next_return as usize;
        for read in self.reads_start[at]..self.reads_start[at + 1] {
            let (slot, kind) = self.reads[read];
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
            self.linearize_reads(configuration);
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
        spent.sort_unstable();
        spent.dedup_by(|later, first| {
            let same = later.0 == first.0;
            first.1 += if same { later.1 } else { 0 };
            same
        });
    }
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

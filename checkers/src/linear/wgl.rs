//! The reference engine: depth-first search over (set of linearized operations, state), remembering failures.
//!
//! Wing and Gong, "Testing and verifying concurrent objects" (1993); memory of configurations by Lowe, "Testing for
//! linearizability" (2017), in the list form that Porcupine made popular. Kept plain: it is what the fast engines are
//! compared with. Exponential in time and memory in the worst case.

use super::problem::{Budget, Decided, Decision, FastMap, NEVER, Problem, Stepper, Watch};

/// No entry.
const NONE: usize = usize::MAX;

/// Calls and returns of what is not linearized yet, in the order of the history: a doubly linked list over two arrays.
struct Entries {
    next: Vec<usize>,
    previous: Vec<usize>,
    head: usize,
}

/// Decides whether the operations can be ordered.
pub(crate) fn decide(problem: &Problem, stepper: &mut impl Stepper, budget: &Budget) -> Decided {
    let ops = &problem.ops;
    // Entry 2i is the call of operation i, 2i+1 its return.
    let mut order: Vec<(u32, usize)> = Vec::with_capacity(ops.len() * 2);
    for (i, op) in ops.iter().enumerate() {
        order.push((op.call, 2 * i));
        if op.ret != NEVER {
            order.push((op.ret, 2 * i + 1));
        }
    }
    order.sort_unstable();
    let mut entries = Entries::new(ops.len() * 2, &order);
    let mut to_return = order.len() - ops.len();
    let mut linearized = vec![0u64; ops.len().div_ceil(64)];
    let mut seen: FastMap<(Box<[u64]>, u32), ()> = FastMap::default();
    let bytes_each = (linearized.len() * 8 + 48) as u64;
    let mut chosen: Vec<(usize, u32)> = Vec::new();
    let mut state = stepper.initial();
    let mut watch = Watch::new(budget.deadline);
    let mut steps = 0;
    let mut at = entries.head;
    let decision = loop {
        if to_return == 0 {
            break Decision::Linearizable;
        }
        steps += 1;
        if let Some(why) = budget.exceeded(steps, seen.len() as u64 * bytes_each + stepper.memory(), &mut watch) {
            break Decision::GaveUp(why);
        }
        if at != NONE && at.is_multiple_of(2) {
            let i = at / 2;
            if let Some(next) = stepper.step(state, ops[i].kind) {
                linearized[i / 64] |= 1 << (i % 64);
                if seen.insert((linearized.clone().into(), next), ()).is_none() {
                    chosen.push((i, state));
                    state = next;
                    to_return -= usize::from(ops[i].ret != NEVER);
                    entries.lift(i, &ops[i]);
                    at = entries.head;
                    continue;
                }
                linearized[i / 64] &= !(1 << (i % 64));
            } else if let Some(why) = stepper.gave_up() {
                break Decision::GaveUp(why);
            }
            at = entries.next[at];
            continue;
        }
        // A return (or the end) that nothing before it can get past: take the last choice back.
        let Some((i, before)) = chosen.pop() else { break Decision::NotLinearizable };
        state = before;
        linearized[i / 64] &= !(1 << (i % 64));
        to_return += usize::from(ops[i].ret != NEVER);
        entries.unlift(i, &ops[i]);
        at = entries.next[2 * i];
    };
    Decided { decision, engine: "wgl", configurations: steps, reach: 0, is_first: false }
}

impl Entries {
    fn new(len: usize, order: &[(u32, usize)]) -> Self {
        let mut entries = Self { next: vec![NONE; len], previous: vec![NONE; len], head: NONE };
        let mut last = NONE;
        for &(_, entry) in order {
            entries.previous[entry] = last;
            if last == NONE {
                entries.head = entry;
            } else {
                entries.next[last] = entry;
            }
            last = entry;
        }
        entries
    }

    fn remove(&mut self, entry: usize) {
        let (previous, next) = (self.previous[entry], self.next[entry]);
        if previous == NONE {
            self.head = next;
        } else {
            self.next[previous] = next;
        }
        if next != NONE {
            self.previous[next] = previous;
        }
    }

    /// Puts an entry back where it was: its own links still say where.
    fn restore(&mut self, entry: usize) {
        let (previous, next) = (self.previous[entry], self.next[entry]);
        if previous == NONE {
            self.head = entry;
        } else {
            self.next[previous] = entry;
        }
        if next != NONE {
            self.previous[next] = entry;
        }
    }

    fn lift(&mut self, i: usize, op: &super::problem::NumberedOp) {
        self.remove(2 * i);
        if op.ret != NEVER {
            self.remove(2 * i + 1);
        }
    }

    /// The reverse of [`Entries::lift`], in reverse order.
    fn unlift(&mut self, i: usize, op: &super::problem::NumberedOp) {
        if op.ret != NEVER {
            self.restore(2 * i + 1);
        }
        self.restore(2 * i);
    }
}

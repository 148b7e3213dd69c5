//! Register operations as numbers, with what a search may forget about them.
//!
//! States are numbers of values. A value that no remaining operation observes (reads, expects, or answered not to be)
//! is as good as any other such value: all of them settle to one, [`UNOBSERVED`].

use super::problem::{FastMap, Item, NEVER, NumberedOp, Problem, Stepper};
use crate::Value;
use crate::model::RegisterOp;

/// Nil, the initial value.
pub(crate) const INITIAL: u32 = 0;

/// What a value is that nobody observes any more.
pub(crate) const UNOBSERVED: u32 = 1;

/// A register operation over numbers of values.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum NumberedRegisterOp {
    Read(u32),
    Write(u32),
    Cas(u32, u32),
    CasRefused(u32),
}

/// A register operation and its window.
#[derive(Clone, Copy, Debug)]
pub(crate) struct RegisterOpAt {
    pub(crate) op: NumberedRegisterOp,
    /// Index of the invocation.
    pub(crate) call: u32,
    /// Index of the completion, or [`NEVER`].
    pub(crate) ret: u32,
}

impl RegisterOpAt {
    pub(crate) fn is_finished(&self) -> bool {
        self.ret != NEVER
    }
}

/// What happened to one register, over numbers of values: nil is [`INITIAL`], and no value is [`UNOBSERVED`].
pub(crate) struct RegisterHistory {
    pub(crate) ops: Vec<RegisterOpAt>,
    /// Numbers are below this.
    pub(crate) values: usize,
}

impl RegisterHistory {
    /// Numbers the values of `items`.
    pub(crate) fn of_items(items: &[Item<RegisterOp>]) -> Self {
        let mut by_value: FastMap<&Value, u32> = FastMap::from_iter([(&Value::Nil, INITIAL)]);
        let mut next = UNOBSERVED + 1;
        let mut ops = Vec::with_capacity(items.len());
        for item in items {
            let mut id = |value| {
                *by_value.entry(value).or_insert_with(|| {
                    next += 1;
                    next - 1
                })
            };
            let op = match &item.op {
                RegisterOp::Read(value) => NumberedRegisterOp::Read(id(value)),
                RegisterOp::Write(value) => NumberedRegisterOp::Write(id(value)),
                RegisterOp::Cas(expected, new) => NumberedRegisterOp::Cas(id(expected), id(new)),
                RegisterOp::CasRefused(expected) => NumberedRegisterOp::CasRefused(id(expected)),
            };
            ops.push(RegisterOpAt { op, call: item.call, ret: item.ret });
        }
        Self { ops, values: next as usize }
    }
}

/// When a value is observed, needed and produced, over the whole history. Positions are `i64` so that "never" is small.
#[derive(Clone, Copy)]
struct Uses {
    /// Latest completion of an operation that can tell this value from others; -1 without one.
    observed_until: i64,
    /// Latest invocation of a finished operation that is possible in this value only; -1 without one.
    needed_from: i64,
    /// Latest invocation of an operation that produces it; -1 without one.
    produced_from: i64,
}

/// The register as a [`Stepper`].
pub(crate) struct RegisterStepper {
    kinds: Vec<NumberedRegisterOp>,
    /// Kind -> the kind that produces [`UNOBSERVED`] instead.
    unobserved_kind: Vec<u32>,
    uses: Vec<Uses>,
    /// Latest completion of an operation that observed what a value is not.
    refused_until: i64,
}

impl RegisterStepper {
    /// Numbers the operations.
    pub(crate) fn new(history: &RegisterHistory) -> (Self, Problem) {
        let mut kinds = Kinds::new(history.values, history.ops.len());
        let mut ops = Vec::with_capacity(history.ops.len());
        for at in &history.ops {
            ops.push(NumberedOp { kind: kinds.number(at.op), call: at.call, ret: at.ret });
        }
        let mut at = 0;
        let mut unobserved_kind = Vec::with_capacity(2 * kinds.list.len());
        // The list grows while it is walked, by kinds that are their own answer.
        while at < kinds.list.len() {
            unobserved_kind.push(match kinds.list[at] {
                NumberedRegisterOp::Write(_) => kinds.number(NumberedRegisterOp::Write(UNOBSERVED)),
                NumberedRegisterOp::Cas(expected, _) => kinds.number(NumberedRegisterOp::Cas(expected, UNOBSERVED)),
                _ => at as u32,
            });
            at += 1;
        }
        let (uses, refused_until) = uses_of(&ops, &kinds.list, history.values);
        (Self { kinds: kinds.list, unobserved_kind, uses, refused_until }, Problem { ops })
    }

    fn is_observed(&self, value: u32, position: u32) -> bool {
        self.uses[value as usize].observed_until >= i64::from(position)
    }
}

/// Numbers of kinds.
struct Kinds {
    list: Vec<NumberedRegisterOp>,
    /// By value, without a hash; [`Kinds::NONE`] where there is none yet.
    reads: Vec<u32>,
    writes: Vec<u32>,
    /// By both values.
    cas: FastMap<u64, u32>,
    refused: FastMap<u32, u32>,
}

impl Kinds {
    const NONE: u32 = u32::MAX;

    fn new(values: usize, ops: usize) -> Self {
        Self {
            list: Vec::with_capacity(ops.min(256)),
            reads: vec![Self::NONE; values],
            writes: vec![Self::NONE; values],
            cas: FastMap::default(),
            refused: FastMap::default(),
        }
    }

    fn number(&mut self, op: NumberedRegisterOp) -> u32 {
        let number = match op {
            NumberedRegisterOp::Read(value) => &mut self.reads[value as usize],
            NumberedRegisterOp::Write(value) => &mut self.writes[value as usize],
            NumberedRegisterOp::Cas(expected, new) => {
                self.cas.entry(u64::from(expected) << 32 | u64::from(new)).or_insert(Self::NONE)
            }
            NumberedRegisterOp::CasRefused(expected) => self.refused.entry(expected).or_insert(Self::NONE),
        };
        if *number == Self::NONE {
            *number = self.list.len() as u32;
            self.list.push(op);
        }
        *number
    }
}

fn uses_of(ops: &[NumberedOp], kinds: &[NumberedRegisterOp], values: usize) -> (Vec<Uses>, i64) {
    let mut uses = vec![Uses { observed_until: -1, needed_from: -1, produced_from: -1 }; values];
    let mut refused_until = -1;
    for op in ops {
        let (call, ret) = (i64::from(op.call), i64::from(op.ret));
        let mut observe = |value: u32, needs: bool| {
            let uses = &mut uses[value as usize];
            uses.observed_until = uses.observed_until.max(ret);
            if needs && op.ret != NEVER {
                uses.needed_from = uses.needed_from.max(call);
            }
        };
        match kinds[op.kind as usize] {
            NumberedRegisterOp::Read(value) => observe(value, true),
            NumberedRegisterOp::Cas(expected, _) => observe(expected, true),
            NumberedRegisterOp::CasRefused(value) => {
                observe(value, false);
                refused_until = refused_until.max(ret);
            }
            NumberedRegisterOp::Write(_) => {}
        }
        if let NumberedRegisterOp::Write(value) | NumberedRegisterOp::Cas(_, value) = kinds[op.kind as usize] {
            let uses = &mut uses[value as usize];
            uses.produced_from = uses.produced_from.max(call);
        }
    }
    (uses, refused_until)
}

impl Stepper for RegisterStepper {
    fn initial(&mut self) -> u32 {
        INITIAL
    }

    fn step(&mut self, state: u32, kind: u32) -> Option<u32> {
        match self.kinds[kind as usize] {
            NumberedRegisterOp::Read(value) => (state == value).then_some(state),
            NumberedRegisterOp::Write(value) => Some(value),
            NumberedRegisterOp::Cas(expected, new) => (state == expected).then_some(new),
            NumberedRegisterOp::CasRefused(expected) => (state != expected).then_some(state),
        }
    }

    fn is_read_only(&self, kind: u32) -> bool {
        match self.kinds[kind as usize] {
            NumberedRegisterOp::Read(_) | NumberedRegisterOp::CasRefused(_) => true,
            NumberedRegisterOp::Write(_) => false,
            NumberedRegisterOp::Cas(expected, new) => expected == new,
        }
    }

    fn settle(&mut self, state: u32, position: u32) -> u32 {
        if self.is_observed(state, position) { state } else { UNOBSERVED }
    }

    fn class(&self, kind: u32, position: u32) -> u32 {
        match self.produced(kind) {
            Some(value) if !self.is_read_only(kind) && !self.is_observed(value, position) => {
                self.unobserved_kind[kind as usize]
            }
            _ => kind,
        }
    }

    fn is_useless(&self, kind: u32, position: u32) -> bool {
        // An operation after which nobody can tell the value only ever helps those that refuse another value.
        self.refused_until < i64::from(position)
            && self.produced(kind).is_some_and(|value| !self.is_observed(value, position))
    }

    fn required(&self, kind: u32) -> Option<u32> {
        match self.kinds[kind as usize] {
            NumberedRegisterOp::Read(value) | NumberedRegisterOp::Cas(value, _) => Some(value),
            _ => None,
        }
    }

    fn produced(&self, kind: u32) -> Option<u32> {
        match self.kinds[kind as usize] {
            NumberedRegisterOp::Write(value) | NumberedRegisterOp::Cas(_, value) => Some(value),
            _ => None,
        }
    }

    const LOOKS_AHEAD: bool = true;

    fn is_needed_later(&self, state: u32, position: u32) -> bool {
        let uses = &self.uses[state as usize];
        uses.needed_from > i64::from(position) && uses.produced_from < i64::from(position)
    }
}

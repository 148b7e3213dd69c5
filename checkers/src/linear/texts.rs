//! Keys with `append`, and what a search may forget about them.
//!
//! Appending only makes a text longer. So a text that is no beginning of any value that remaining operations observe can
//! be told from no other such text, until something else is stored: all of them settle to one state, [`UNOBSERVED`].
//! And when an operation must find a value while only appends are open, each of them has to continue towards it.

use super::problem::{FastMap, Item, NumberedOp, Problem, Stepper};
use crate::Value;
use crate::model::{Kv, KvOp, KvState, Model};
use std::collections::HashMap;

/// A text that nobody observes any more.
const UNOBSERVED: u32 = 0;

/// A key of a key-value store as a [`Stepper`].
pub(crate) struct KvStepper {
    kinds: Vec<KvOp>,
    /// State number -> state; `None` for [`UNOBSERVED`].
    states: Vec<Option<KvState>>,
    by_state: FastMap<KvState, u32>,
    steps: FastMap<(u32, u32), Option<u32>>,
    /// Per state: latest completion of an operation that observes a value which begins like it; -1 without one.
    live_until: Vec<i64>,
    /// Values that are observed, each with the latest completion that does.
    observed: Vec<(Value, i64)>,
}

impl KvStepper {
    /// Numbers the operations of `items`.
    pub(crate) fn new(items: &[Item<KvOp>]) -> (Self, Problem) {
        let mut kinds: Vec<KvOp> = Vec::new();
        let mut by_op: HashMap<&KvOp, u32> = HashMap::new();
        let mut observed: HashMap<&Value, i64> = HashMap::new();
        let mut ops = Vec::with_capacity(items.len());
        for item in items {
            let kind = *by_op.entry(&item.op).or_insert_with(|| {
                kinds.push(item.op.clone());
                kinds.len() as u32 - 1
            });
            ops.push(NumberedOp { kind, call: item.call, ret: item.ret });
            if let Some(value) = found(&item.op) {
                let until = observed.entry(value).or_insert(-1);
                *until = (*until).max(i64::from(item.ret));
            }
        }
        let observed = observed.into_iter().map(|(value, until)| (value.clone(), until)).collect();
        let stepper = Self {
            kinds,
            states: vec![None],
            by_state: FastMap::default(),
            steps: FastMap::default(),
            live_until: vec![-1],
            observed,
        };
        (stepper, Problem { ops })
    }

    fn intern(&mut self, state: KvState) -> u32 {
        if let Some(&known) = self.by_state.get(&state) {
            return known;
        }
        let live = self.observed.iter().filter(|(value, _)| begins(&state, value)).map(|&(_, until)| until);
        // A value that is no text cannot be appended to: that tells it from texts for ever.
        let live = if matches!(state, KvState::Other(_)) { i64::MAX } else { live.max().unwrap_or(-1) };
        self.live_until.push(live);
        self.states.push(Some(state.clone()));
        let number = self.states.len() as u32 - 1;
        self.by_state.insert(state, number);
        number
    }

    fn step_unobserved(&mut self, kind: u32) -> Option<u32> {
        match &self.kinds[kind as usize] {
            KvOp::Append(_) | KvOp::CasRefused(_) => Some(UNOBSERVED),
            KvOp::Get(_) | KvOp::Cas(..) => None,
            // What these leave behind does not depend on what was there.
            op @ (KvOp::Put(_) | KvOp::Delete) => {
                let next = Kv.step(&KvState::Absent, &op.clone())?;
                Some(self.intern(next))
            }
        }
    }
}

/// The value that an operation tells from others.
fn found(op: &KvOp) -> Option<&Value> {
    match op {
        KvOp::Get(value) | KvOp::Cas(value, _) | KvOp::CasRefused(value) => Some(value),
        KvOp::Put(_) | KvOp::Append(_) | KvOp::Delete => None,
    }
}

/// Whether appending (or nothing) can turn a state into one that reads as `value`.
fn begins(state: &KvState, value: &Value) -> bool {
    match (state, value) {
        (KvState::Absent, Value::Nil | Value::Str(_)) => true,
        (KvState::Text(text), Value::Str(value)) => value.as_str().starts_with(&**text),
        (KvState::Other(stored), value) => stored == value,
        _ => false,
    }
}

impl Stepper for KvStepper {
    fn initial(&mut self) -> u32 {
        self.intern(Kv.initial())
    }

    fn step(&mut self, state: u32, kind: u32) -> Option<u32> {
        if let Some(&known) = self.steps.get(&(state, kind)) {
            return known;
        }
        let next = match &self.states[state as usize] {
            None => self.step_unobserved(kind),
            Some(from) => Kv.step(from, &self.kinds[kind as usize]).map(|next| self.intern(next)),
        };
        self.steps.insert((state, kind), next);
        next
    }

    fn is_read_only(&self, kind: u32) -> bool {
        Kv.is_read_only(&self.kinds[kind as usize])
    }

    fn settle(&self, state: u32, position: u32) -> u32 {
        if self.live_until[state as usize] < i64::from(position) { UNOBSERVED } else { state }
    }

    fn leads_to(&self, state: u32, goal: u32) -> bool {
        let Some(value) = found(&self.kinds[goal as usize]) else { return true };
        match (&self.kinds[goal as usize], &self.states[state as usize]) {
            (KvOp::CasRefused(_), _) => true,
            (_, Some(state)) => begins(state, value),
            (_, None) => false,
        }
    }

    fn starts_over(&self, kind: u32) -> bool {
        matches!(self.kinds[kind as usize], KvOp::Put(_) | KvOp::Delete | KvOp::Cas(..))
    }
}

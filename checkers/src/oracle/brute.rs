//! By the definition: is there an order, compatible with real time, that the model allows?
//!
//! An operation may come next when none of those that are left returned before it was invoked. Whatever is unfinished may
//! be left over at the end. A nondeterministic model is followed into each of its outcomes, not into sets of them.

use crate::model::{
    Container, Counter, FailMeans, Kv, Lock, Model, ModelKind, MultiRegister, Nondeterministic, Order, Register, Set,
    UnorderedQueue,
};
use crate::{History, HistoryError, Op, Outcome, Value};

/// An operation and its ends (any numbers that grow with time); without a return, it may take effect at any time or never.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Window<O> {
    pub(crate) op: O,
    pub(crate) call: u64,
    pub(crate) ret: Option<u64>,
}

/// What an object does, as far as the definition needs it.
pub(crate) trait Spec {
    type State;
    type Op;

    fn initial(&self) -> Self::State;

    /// Whether `then` holds in one of the states to which `op` leads.
    fn any(&self, state: &Self::State, op: &Self::Op, then: impl FnMut(&Self::State) -> bool) -> bool;

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<Self::Op>, HistoryError>;
}

/// A deterministic model.
pub(crate) struct Certain<'m, M>(pub(crate) &'m M);

impl<M: Model> Spec for Certain<'_, M> {
    type State = M::State;
    type Op = M::Op;

    fn initial(&self) -> M::State {
        self.0.initial()
    }

    fn any(&self, state: &M::State, op: &M::Op, mut then: impl FnMut(&M::State) -> bool) -> bool {
        self.0.step(state, op).is_some_and(|next| then(&next))
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<M::Op>, HistoryError> {
        self.0.view(op, fail_means)
    }
}

/// A nondeterministic model.
struct Open<N>(N);

impl<N: Nondeterministic> Spec for Open<N> {
    type State = N::State;
    type Op = N::Op;

    fn initial(&self) -> N::State {
        self.0.initial()
    }

    fn any(&self, state: &N::State, op: &N::Op, then: impl FnMut(&N::State) -> bool) -> bool {
        self.0.steps(state, op).iter().any(then)
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<N::Op>, HistoryError> {
        self.0.view(op, fail_means)
    }
}

/// Most operations of one object.
const OPS_MAX: usize = 64;

/// Whether some order of `ops` is possible.
///
/// # Panics
/// When there are more than 64.
pub(crate) fn order_exists<S: Spec>(spec: &S, ops: &[Window<S::Op>]) -> bool {
    assert!(ops.len() <= OPS_MAX, "brute force is for small histories");
    from(spec, ops, 0, &spec.initial())
}

/// The same, after those in `done`.
fn from<S: Spec>(spec: &S, ops: &[Window<S::Op>], done: u64, state: &S::State) -> bool {
    let left = || ops.iter().enumerate().filter(|(at, _)| done >> at & 1 == 0);
    let Some(first_return) = left().filter_map(|(_, op)| op.ret).min() else { return true };
    left()
        .filter(|(_, op)| op.call < first_return)
        .any(|(at, op)| spec.any(state, &op.op, |next| from(spec, ops, done | 1 << at, next)))
}

/// Whether every object of a history can be ordered. Failed operations count as `fail_means` says.
///
/// # Errors
/// When the history does not pair or does not fit the model.
///
/// # Panics
/// When a key has more than 64 operations.
pub fn is_linearizable(history: &History, kind: ModelKind, fail_means: FailMeans) -> Result<bool, HistoryError> {
    let container = |order, capacity| Container { order, capacity };
    match kind {
        ModelKind::Register => each_key(history, &Certain(&Register { cas: false }), fail_means),
        ModelKind::CasRegister => each_key(history, &Certain(&Register { cas: true }), fail_means),
        ModelKind::MultiRegister(initial) => {
            each_key(history, &Certain(&MultiRegister { initial: initial.map_or(Value::Nil, Value::Int) }), fail_means)
        }
        ModelKind::Kv => each_key(history, &Certain(&Kv), fail_means),
        ModelKind::Queue(capacity) => each_key(history, &Certain(&container(Order::Fifo, capacity)), fail_means),
        ModelKind::UnorderedQueue => each_key(history, &Open(UnorderedQueue), fail_means),
        ModelKind::Stack => each_key(history, &Certain(&container(Order::Lifo, None)), fail_means),
        ModelKind::PriorityQueue => each_key(history, &Certain(&container(Order::Smallest, None)), fail_means),
        ModelKind::Set => each_key(history, &Certain(&Set), fail_means),
        ModelKind::Counter => each_key(history, &Certain(&Counter), fail_means),
        ModelKind::Mutex => each_key(history, &Certain(&Lock::MUTEX), fail_means),
        ModelKind::ReentrantMutex => each_key(history, &Certain(&Lock::REENTRANT), fail_means),
        ModelKind::FencingLock => each_key(history, &Certain(&Lock::FENCING), fail_means),
        ModelKind::Semaphore(permits) => each_key(history, &Certain(&Lock::semaphore(permits)), fail_means),
    }
}

fn each_key<S: Spec>(history: &History, spec: &S, fail_means: FailMeans) -> Result<bool, HistoryError> {
    let mut keys: Vec<(Value, Vec<Window<S::Op>>)> = Vec::new();
    for op in history.ops()?.iter() {
        let Some(seen) = spec.view(&op, fail_means)? else { continue };
        let ret = op.completion_index().filter(|_| op.outcome() != Outcome::Unfinished).map(|at| at as u64);
        let window = Window { op: seen, call: op.call_index() as u64, ret };
        let key = op.key();
        match keys.iter_mut().find(|(other, _)| *other == key) {
            Some((_, ops)) => ops.push(window),
            None => keys.push((key, vec![window])),
        }
    }
    Ok(keys.iter().all(|(_, ops)| order_exists(spec, ops)))
}

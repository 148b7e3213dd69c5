//! By the definition: is there an order, compatible with real time, that the model allows?
//!
//! An operation may come next when none of those that are left returned before it was invoked. Whatever is unfinished may
//! be left over at the end. A nondeterministic model is followed into each of its outcomes, not into sets of them.

use crate::linear::Evidence;
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

/// Whether every object of a history can be ordered. Failed operations count as `fail_means` says, unfinished ones as
/// `evidence` says.
///
/// # Errors
/// When the history does not pair or does not fit the model.
///
/// # Panics
/// When a key has more than 64 operations.
pub fn is_linearizable(
    history: &History,
    kind: ModelKind,
    fail_means: FailMeans,
    evidence: &[Evidence],
) -> Result<bool, HistoryError> {
    let given = Given { history, fail_means, evidence };
    let container = |order, capacity| Container { order, capacity };
    match kind {
        ModelKind::Register => given.each_key(&Certain(&Register { cas: false })),
        ModelKind::CasRegister => given.each_key(&Certain(&Register { cas: true })),
        ModelKind::MultiRegister(initial) => {
            given.each_key(&Certain(&MultiRegister { initial: initial.map_or(Value::Nil, Value::Int) }))
        }
        ModelKind::Kv => given.each_key(&Certain(&Kv)),
        ModelKind::Queue(capacity) => given.each_key(&Certain(&container(Order::Fifo, capacity))),
        ModelKind::UnorderedQueue => given.each_key(&Open(UnorderedQueue)),
        ModelKind::Stack => given.each_key(&Certain(&container(Order::Lifo, None))),
        ModelKind::PriorityQueue => given.each_key(&Certain(&container(Order::Smallest, None))),
        ModelKind::Set => given.each_key(&Certain(&Set)),
        ModelKind::Counter => given.each_key(&Certain(&Counter)),
        ModelKind::Mutex => given.each_key(&Certain(&Lock::MUTEX)),
        ModelKind::ReentrantMutex => given.each_key(&Certain(&Lock::REENTRANT)),
        ModelKind::FencingLock => given.each_key(&Certain(&Lock::FENCING)),
        ModelKind::Semaphore(permits) => given.each_key(&Certain(&Lock::semaphore(permits))),
    }
}

/// What is to be judged.
struct Given<'g> {
    history: &'g History,
    fail_means: FailMeans,
    evidence: &'g [Evidence],
}

impl Given<'_> {
    fn each_key<S: Spec>(&self, spec: &S) -> Result<bool, HistoryError> {
        let mut keys: Vec<(Value, Vec<Window<S::Op>>)> = Vec::new();
        for op in self.history.ops()?.iter() {
            let (Some(seen), Some(ret)) = (spec.view(&op, self.fail_means)?, self.ret(&op)) else { continue };
            let window = Window { op: seen, call: 2 * op.call_index() as u64 + 1, ret };
            let key = op.key();
            match keys.iter_mut().find(|(other, _)| *other == key) {
                Some((_, ops)) => ops.push(window),
                None => keys.push((key, vec![window])),
            }
        }
        Ok(keys.iter().all(|(_, ops)| order_exists(spec, ops)))
    }

    /// Twice the index of an event, and one, is its time; what is between two events is even. `None`: never happened.
    fn ret(&self, op: &Op<'_>) -> Option<Option<u64>> {
        if let (Some(at), Outcome::Ok | Outcome::Fail) = (op.completion_index(), op.outcome()) {
            return Some(Some(2 * at as u64 + 1));
        }
        let Some(known) = self.evidence.iter().find(|known| known.index == op.call_index() as u64) else {
            return Some(None);
        };
        let events = || self.history.iter().skip(op.call_index());
        let late = known.by_ns.and_then(|by_ns| events().find(|event| event.time_ns > by_ns)).map(|event| event.index);
        known.happened.then(|| Some(2 * known.by.or(late).unwrap_or(self.history.len() as u64)))
    }
}

//! Models in which an operation may lead to several states: checked as a deterministic model over sets of states.

use super::{FailMeans, Model};
use crate::{HistoryError, Op};
use std::collections::BTreeSet;
use std::fmt::Debug;
use std::hash::Hash;

/// A sequential object whose operations may have several outcomes that look the same.
///
/// Laws: as for [`Model`]; a read-only operation leads from each state to just that state or to none.
pub trait Nondeterministic: Clone + Send + Sync {
    /// What the object remembers.
    type State: Clone + Debug + Ord + Hash + Send;
    /// An operation together with its answer.
    type Op: Clone + Debug + Eq + Hash + Send + Sync;

    /// The state before the first operation.
    fn initial(&self) -> Self::State;

    /// All states that `op` can lead to; none when it cannot have got this answer in this state.
    fn steps(&self, state: &Self::State, op: &Self::Op) -> Vec<Self::State>;

    /// Whether `op` leaves every state as it is.
    fn is_read_only(&self, op: &Self::Op) -> bool;

    /// As [`Model::state_bytes`].
    fn state_bytes(&self, state: &Self::State) -> usize {
        size_of_val(state)
    }

    /// As [`Model::view`].
    ///
    /// # Errors
    /// As [`Model::view`].
    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<Self::Op>, HistoryError>;
}

/// The deterministic model of a nondeterministic one: its state is the set of all states that are possible.
#[derive(Clone, Copy, Debug)]
pub struct Powerset<N>(pub N);

impl<N: Nondeterministic> Model for Powerset<N> {
    type State = BTreeSet<N::State>;
    type Op = N::Op;

    fn initial(&self) -> Self::State {
        BTreeSet::from([self.0.initial()])
    }

    fn step(&self, state: &Self::State, op: &N::Op) -> Option<Self::State> {
        let next: BTreeSet<_> = state.iter().flat_map(|state| self.0.steps(state, op)).collect();
        (!next.is_empty()).then_some(next)
    }

    /// Even an operation that changes no state tells which of the states were possible: the set may shrink.
    fn is_read_only(&self, _: &N::Op) -> bool {
        false
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        state.iter().map(|state| self.0.state_bytes(state) + 16).sum()
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<N::Op>, HistoryError> {
        let seen = self.0.view(op, fail_means)?;
        // Without an answer, what changes nothing says nothing.
        Ok(seen.filter(|seen| op.completion_index().is_some() || !self.0.is_read_only(seen)))
    }
}

//! Models in which an operation may lead to several states: checked as a deterministic model over sets of states.

use super::{FailMeans, Model, StepLimits, TooMuch};
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

/// What a state takes in a set besides itself (bytes).
const SET_ENTRY_BYTES: u64 = 16;

/// A step over many states looks at its limits after so many of them.
const LOOK_EVERY: usize = 16;

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
        self.step_within(state, op, &StepLimits::NONE).unwrap_or_default()
    }

    /// Each state may lead to many: what an unfinished `dequeue` took multiplies them.
    fn step_within(
        &self,
        state: &Self::State,
        op: &N::Op,
        limits: &StepLimits,
    ) -> Result<Option<Self::State>, TooMuch> {
        let mut next = BTreeSet::new();
        let mut bytes = 0;
        for (at, before) in state.iter().enumerate() {
            for after in self.0.steps(before, op) {
                let size = self.0.state_bytes(&after) as u64 + SET_ENTRY_BYTES;
                bytes += if next.insert(after) { size } else { 0 };
            }
            if at.is_multiple_of(LOOK_EVERY) {
                limits.check(bytes)?;
            }
        }
        Ok((!next.is_empty()).then_some(next))
    }

    /// Even an operation that changes no state tells which of the states were possible: the set may shrink.
    fn is_read_only(&self, _: &N::Op) -> bool {
        false
    }

    fn state_bytes(&self, state: &Self::State) -> usize {
        state.iter().map(|state| self.0.state_bytes(state) + SET_ENTRY_BYTES as usize).sum()
    }

    fn view(&self, op: &Op<'_>, fail_means: FailMeans) -> Result<Option<N::Op>, HistoryError> {
        let seen = self.0.view(op, fail_means)?;
        // Without an answer, what changes nothing says nothing.
        Ok(seen.filter(|seen| op.completion_index().is_some() || !self.0.is_read_only(seen)))
    }
}

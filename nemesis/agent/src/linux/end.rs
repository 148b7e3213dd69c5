//! The end of a session: everything is undone and ended, what others stand on last.

use super::fault::{self, Which};
use super::state::State;
use super::{helper, process};
use crate::protocol::AgentError;

/// Undoes all faults, kills the processes, takes preparations away, ends helpers; how many processes that killed. The
/// caller holds the lock.
///
/// # Errors
/// What is left.
pub(crate) fn everything(state: &State) -> Result<u64, AgentError> {
    let healed = fault::heal_all(state, Which::Faults);
    let (helpers, processes): (Vec<_>, Vec<_>) =
        process::names(state).into_iter().partition(|name| helper::is_helper(name));
    let mut killed = 0;
    for name in processes {
        killed += process::kill_tree(state, &name)?;
    }
    let taken_away = fault::heal_all(state, Which::Standing);
    for name in helpers {
        killed += process::kill_tree(state, &name)?;
    }
    healed.and(taken_away).map(|_| killed)
}

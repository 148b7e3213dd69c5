//! What a fault must be able to do on a node.

use super::confined::Confined;
use super::ledger;
use super::state::{State, boottime_ns};
use crate::protocol::{AgentError, Evidence, LedgerEntry};
use std::collections::BTreeMap;

/// Where and for how long an effect works.
pub(crate) struct At<'a> {
    /// What is on disk below the agent's root: everything an undo may rely on.
    pub(crate) state: &'a State,
    /// The fault's id in the ledger.
    pub(crate) id: &'a str,
    /// Asked for with the injection or the renewal (milliseconds); 0 is for ever.
    pub(crate) lease_ms: u64,
}

impl At<'_> {
    /// Every other fault in force: what they also want stays.
    pub(crate) fn others(&self) -> Vec<LedgerEntry> {
        ledger::all(self.state).into_iter().filter(|entry| entry.id != self.id).collect()
    }

    /// How long the kernel keeps a fault up by itself: not longer than the session's lease, which renewals extend.
    pub(crate) fn kernel_lease_ms(&self) -> u64 {
        match self.state.lease_deadline() {
            u64::MAX => self.lease_ms,
            deadline => {
                let session_ms = (deadline.saturating_sub(boottime_ns()) / 1_000_000).max(1);
                if self.lease_ms == 0 { session_ms } else { self.lease_ms.min(session_ms) }
            }
        }
    }
}

/// How a process is to be started, as far as standing faults have a say in it.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Launch {
    /// Put before the program and its arguments: a program of ours that starts it.
    pub(crate) through: Vec<String>,
    /// Added to its environment.
    pub(crate) env: BTreeMap<String, String>,
    /// What it must not get out of.
    pub(crate) confined: Confined,
}

/// The effect of a fault. [`fault`](super::fault) sees to it that the ledger comes first, and calls under the state's lock.
///
/// The process that undoes may be another one than the process that injected (a later agent, the watchdog), so
/// everything that an undo needs is in the fault's own data or below [`At::state`].
pub(crate) trait Effect {
    /// Turns down what would cut the control path, hit what is not the node's own, or could not be verified here.
    ///
    /// # Errors
    /// Why not, in a sentence.
    fn refuse(&self, at: &At<'_>) -> Result<(), AgentError> {
        let _ = at;
        Ok(())
    }

    /// Injects and measures. Whatever it leaves half done in an error, [`undo`](Effect::undo) takes away.
    ///
    /// # Errors
    /// When it could not be injected.
    fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError>;

    /// Whether it is in force now.
    ///
    /// # Errors
    /// When nobody can tell.
    fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError>;

    /// Takes the effect away and verifies that it is gone; also when it was only half injected, or is undone already.
    ///
    /// # Errors
    /// When it is still there; it then stays in the ledger and is undone again.
    fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError>;

    /// Extends what the kernel would otherwise end by itself, to [`At::lease_ms`] from now.
    fn renew(&self, at: &At<'_>) {
        let _ = at;
    }

    /// Whether it is a preparation that other faults need (a mounted file system, a launcher): it does no harm by itself,
    /// is there before the target starts and stays until the session ends, whatever is healed meanwhile.
    fn is_standing(&self) -> bool {
        false
    }

    /// Whether a reboot leaves it in force: what is on disk stays, what is in the kernel goes.
    fn survives_reboot(&self) -> bool {
        false
    }

    /// Whether it is put in force again when its session finds the machine booted anew: preparations are, and so is what
    /// the machine did not do to itself.
    fn comes_back_after_reboot(&self) -> bool {
        self.is_standing()
    }

    /// Has a say in how the process called `name` is started while this fault is in force.
    ///
    /// # Errors
    /// When the process must not start so.
    fn launch(&self, at: &At<'_>, name: &str, launch: &mut Launch) -> Result<(), AgentError> {
        let _ = (at, name, launch);
        Ok(())
    }
}

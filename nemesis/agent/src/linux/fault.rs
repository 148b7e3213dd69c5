//! Injects, measures and undoes faults, whatever they are: ledger first, effect second, verification third. The caller
//! holds the lock.

use super::effect::{At, Launch};
use super::state::{State, boot_id};
use super::{ledger, watchdog};
use crate::faults::Fault;
use crate::protocol::{AgentError, Evidence, LedgerEntry};

/// Ledger, effect, verification. An id that is in the ledger already is only measured.
///
/// # Errors
/// When the fault is refused or cannot be injected; then nothing of it is left.
pub(crate) fn inject(state: &State, id: &str, fault: &Fault, lease_ms: u64) -> Result<Evidence, AgentError> {
    if let Some(entry) = ledger::get(state, id) {
        if entry.fault != *fault {
            return Err(AgentError::new(format!("`{id}` is in the ledger with another fault")));
        }
        return measure(state, id);
    }
    let (effect, at) = (fault.effect(), At { state, id, lease_ms });
    effect.refuse(&at)?;
    ledger::enter(state, id, fault, lease_ms)?;
    let injected = effect.inject(&at);
    if injected.is_err() {
        effect.undo(&at)?;
        ledger::strike(state, id)?;
    }
    injected
}

/// Whether the fault called `id` is in force now.
///
/// # Errors
/// When it is not in the ledger, or cannot be looked at.
pub(crate) fn measure(state: &State, id: &str) -> Result<Evidence, AgentError> {
    let entry = ledger::get(state, id).ok_or_else(|| AgentError::new(format!("no fault `{id}` is in force")))?;
    entry.fault.effect().measure(&At { state, id, lease_ms: 0 })
}

/// Undoes the fault called `id` and verifies that it is gone.
///
/// # Errors
/// When it could not be undone; it then stays in the ledger.
pub(crate) fn heal(state: &State, id: &str) -> Result<Evidence, AgentError> {
    let Some(LedgerEntry { fault, boot_id: then, .. }) = ledger::get(state, id) else {
        return Ok(Evidence::new(true, "healed already", 0, ""));
    };
    let effect = fault.effect();
    let evidence = if then == boot_id() || effect.survives_reboot() {
        effect.undo(&At { state, id, lease_ms: 0 })?
    } else {
        Evidence::new(true, "gone with a reboot", 0, "")
    };
    ledger::strike(state, id)?;
    Ok(evidence)
}

/// Sees to what faults of another boot have left: what is on disk stays, what was in the kernel is struck. `again`: its
/// session goes on, so preparations are made again, and what is not this machine's doing (a cut link) comes back with it.
///
/// # Errors
/// When the ledger cannot be written. A fault that cannot be put in force again is said on stderr and not in the ledger:
/// whoever measures it sees that it ended.
pub(crate) fn after_boot(state: &State, again: bool) -> Result<(), AgentError> {
    let now = boot_id();
    let mut entries = ledger::all(state);
    // That the machine went down is of no interest to another session.
    let passed = |fault: &Fault| !again && matches!(fault, Fault::MachineDown(_));
    entries.retain(|entry| entry.boot_id != now && (!entry.fault.effect().survives_reboot() || passed(&entry.fault)));
    // What others stand on first.
    entries.sort_by_key(|entry| !entry.fault.effect().is_standing());
    for LedgerEntry { id, fault, .. } in entries {
        ledger::strike(state, &id)?;
        if again && fault.effect().comes_back_after_reboot() {
            watchdog::ensure(state)?;
            // Its own deadline went with the clock of the other boot: it stands as long as the session.
            if let Err(error) = inject(state, &id, &fault, 0) {
                eprintln!("`{id}` is not in force again after a boot: {error}");
            }
        }
    }
    Ok(())
}

/// Makes the ledger what it was `last`, after the machine's disks were put back to an earlier time: what is not in it is undone, and
/// what a boot does not end is in force again.
///
/// # Errors
/// With the fault that could not be undone, or put in force.
pub(crate) fn roll_forward(state: &State, mut last: Vec<LedgerEntry>) -> Result<(), AgentError> {
    for entry in ledger::all(state) {
        if !last.iter().any(|wanted| wanted.id == entry.id) {
            heal(state, &entry.id)?;
        }
    }
    // What others stand on first.
    last.sort_by_key(|entry| !entry.fault.effect().is_standing());
    for LedgerEntry { id, fault, .. } in last {
        if ledger::get(state, &id).is_none() && fault.effect().comes_back_after_reboot() {
            watchdog::ensure(state)?;
            inject(state, &id, &fault, 0)?;
        }
    }
    Ok(())
}

/// Which entries of the ledger are meant.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Which {
    /// Those that do harm.
    Faults,
    /// Preparations that others need.
    Standing,
}

/// Undoes all entries of a sort; those that could not be undone are in the error.
///
/// # Errors
/// With every fault that is left.
pub(crate) fn heal_all(state: &State, which: Which) -> Result<Vec<LedgerEntry>, AgentError> {
    let mut entries = ledger::all(state);
    entries.retain(|entry| entry.fault.effect().is_standing() == (which == Which::Standing));
    let errors: Vec<String> =
        entries.iter().filter_map(|entry| heal(state, &entry.id).err().map(|e| format!("{}: {e}", entry.id))).collect();
    if errors.is_empty() { Ok(entries) } else { Err(AgentError::new(errors.join("; "))) }
}

/// Extends what the kernel would otherwise heal by itself.
pub(crate) fn renew(state: &State, lease_ms: u64) {
    for entry in ledger::all(state) {
        entry.fault.effect().renew(&At { state, id: &entry.id, lease_ms });
    }
}

/// How the process called `name` is to be started, by all that is in force.
///
/// # Errors
/// When a fault in force forbids it.
pub(crate) fn launch(state: &State, name: &str) -> Result<Launch, AgentError> {
    let mut launch = Launch::default();
    for entry in ledger::all(state) {
        entry.fault.effect().launch(&At { state, id: &entry.id, lease_ms: 0 }, name, &mut launch)?;
    }
    Ok(launch)
}

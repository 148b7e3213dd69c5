//! The ledger: every fault in force, written and synced before it is injected, so that whoever comes later can undo it.

use super::state::{State, boot_id, check_name, deadline, read_json, write_json};
use crate::faults::Fault;
use crate::protocol::{AgentError, LedgerEntry};
use std::fs::{self, File};
use std::path::PathBuf;

fn path(state: &State, id: &str) -> PathBuf {
    state.path("ledger").join(format!("{id}.json"))
}

/// The entry called `id`.
pub(crate) fn get(state: &State, id: &str) -> Option<LedgerEntry> {
    check_name(id).ok()?;
    read_json(&path(state, id))
}

/// All entries, by id.
pub(crate) fn all(state: &State) -> Vec<LedgerEntry> {
    let Ok(files) = fs::read_dir(state.path("ledger")) else { return Vec::new() };
    let mut entries: Vec<LedgerEntry> = files
        .flatten()
        .filter(|f| f.path().extension().is_some_and(|e| e == "json"))
        .filter_map(|f| read_json(&f.path()))
        .collect();
    entries.sort_by(|a, b| a.id.cmp(&b.id));
    entries
}

/// Removes what an agent left that was killed while it wrote an entry: its fault was never injected. The caller holds
/// the lock, so that nobody is writing one.
pub(crate) fn sweep(state: &State) {
    let Ok(files) = fs::read_dir(state.path("ledger")) else { return };
    for file in files.flatten().filter(|f| f.path().extension().is_some_and(|e| e == "tmp")) {
        // Nobody reads it: one that cannot be removed does no harm.
        let _ = fs::remove_file(file.path());
    }
}

/// Writes and syncs an entry for `fault`.
///
/// # Errors
/// When it cannot be written: then the fault must not be injected.
pub(crate) fn enter(state: &State, id: &str, fault: &Fault, lease_ms: u64) -> Result<LedgerEntry, AgentError> {
    check_name(id)?;
    let entry = LedgerEntry {
        id: id.to_owned(),
        fault: fault.clone(),
        deadline_boottime_ns: deadline(lease_ms),
        boot_id: boot_id(),
    };
    write_json(&path(state, id), &entry, true)?;
    Ok(entry)
}

/// Takes the entry called `id` out, after its fault was undone.
///
/// # Errors
/// When the file cannot be removed.
pub(crate) fn strike(state: &State, id: &str) -> Result<(), AgentError> {
    let path = path(state, id);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => return Err(AgentError::io("remove", &path, e)),
        _ => {}
    }
    let dir = state.path("ledger");
    File::open(&dir).and_then(|dir| dir.sync_all()).map_err(|e| AgentError::io("sync", &dir, e))
}

/// When the watchdog undoes `entry` (CLOCK_BOOTTIME): at its own deadline, or as soon as the session's lease is out, for
/// then nobody is left who would heal it.
pub(crate) fn effective_deadline(state: &State, entry: &LedgerEntry) -> u64 {
    entry.deadline_boottime_ns.min(state.lease_deadline())
}

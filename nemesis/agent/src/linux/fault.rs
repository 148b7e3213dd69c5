//! Injects, measures and undoes faults. The caller holds the lock.

use super::ledger;
use super::nft;
use super::process;
use super::rules;
use super::state::{State, boot_id, boottime_ns};
use crate::protocol::{AgentError, DropBy, Evidence, Fault, LedgerEntry, ProcessState};
use std::net::IpAddr;

type Pairs = [(IpAddr, IpAddr)];

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
    refuse(fault)?;
    ledger::enter(state, id, fault, lease_ms)?;
    let injected = effect(state, id, fault, lease_ms);
    if injected.is_err() {
        undo(state, id, fault)?;
        ledger::strike(state, id)?;
    }
    injected
}

/// Faults that would cut the control path, or this node could not verify.
fn refuse(fault: &Fault) -> Result<(), AgentError> {
    let Fault::Drop { pairs, by } = fault else { return Ok(()) };
    let own = own_addresses();
    let controller = controller_address();
    for (from, to) in pairs {
        if [from, to].into_iter().any(|address| Some(*address) == controller) {
            return Err(AgentError::new(format!("{from} -> {to} names the controller: the control path is never cut")));
        }
        match by {
            DropBy::RouterRules if own.contains(from) || own.contains(to) => {
                return Err(AgentError::new(format!("{from} -> {to} names the router: the control path is never cut")));
            }
            DropBy::Nft if !own.contains(to) => {
                return Err(AgentError::new(format!("{to} is no address of this node: only the receiver can drop")));
            }
            _ => {}
        }
    }
    Ok(())
}

fn effect(state: &State, id: &str, fault: &Fault, lease_ms: u64) -> Result<Evidence, AgentError> {
    match fault {
        Fault::Drop { pairs, by: DropBy::RouterRules } => {
            rules::add(pairs)?;
            measure_drop(id, pairs, DropBy::RouterRules)
        }
        Fault::Drop { pairs, by: DropBy::Nft } => {
            nft::inject(id, pairs, kernel_lease_ms(state, lease_ms))?;
            measure_drop(id, pairs, DropBy::Nft)
        }
        Fault::Kill { process } => {
            let before = process::status(state, process)?.state;
            let killed = process::kill_tree(state, process)?;
            let seen = match killed {
                0 => {
                    format!("`{process}` was {}", if before == ProcessState::Gone { "gone already" } else { "not hit" })
                }
                n => format!("{n} processes gone"),
            };
            Ok(Evidence { verified: killed > 0, seen, count: killed, unit: "processes gone".to_owned() })
        }
        Fault::Pause { process } => {
            let stopped = process::pause_tree(state, process)?;
            Ok(Evidence {
                verified: stopped > 0,
                seen: if stopped > 0 { "state T".to_owned() } else { format!("`{process}` does not run") },
                count: stopped,
                unit: "processes stopped".to_owned(),
            })
        }
    }
}

/// How long the kernel keeps a fault up by itself: not longer than the session's lease, which renewals extend.
fn kernel_lease_ms(state: &State, lease_ms: u64) -> u64 {
    match state.lease_deadline() {
        u64::MAX => lease_ms,
        deadline => {
            let session_ms = (deadline.saturating_sub(boottime_ns()) / 1_000_000).max(1);
            if lease_ms == 0 { session_ms } else { lease_ms.min(session_ms) }
        }
    }
}

fn measure_drop(id: &str, pairs: &Pairs, by: DropBy) -> Result<Evidence, AgentError> {
    let (verified, count, seen) = match by {
        DropBy::RouterRules => {
            let rules = rules::count(pairs)?;
            (rules == pairs.len(), 0, format!("{rules} rules in force"))
        }
        DropBy::Nft => {
            let packets = nft::measure(id)?;
            let count = packets.unwrap_or(0);
            (packets.is_some(), count, format!("{count} packets dropped"))
        }
    };
    Ok(Evidence { verified, seen, count, unit: "packets dropped".to_owned() })
}

/// Whether the fault called `id` is in force now.
///
/// # Errors
/// When it is not in the ledger, or cannot be looked at.
pub(crate) fn measure(state: &State, id: &str) -> Result<Evidence, AgentError> {
    let entry = ledger::get(state, id).ok_or_else(|| AgentError::new(format!("no fault `{id}` is in force")))?;
    match &entry.fault {
        Fault::Drop { pairs, by } => measure_drop(id, pairs, *by),
        Fault::Kill { process } => in_state(state, process, ProcessState::Gone, "processes gone"),
        Fault::Pause { process } => in_state(state, process, ProcessState::Stopped, "processes stopped"),
    }
}

fn in_state(state: &State, name: &str, wanted: ProcessState, unit: &str) -> Result<Evidence, AgentError> {
    let now = process::status(state, name)?.state;
    let seen = format!("`{name}` is {}", format!("{now:?}").to_lowercase());
    Ok(Evidence { verified: now == wanted, seen, count: u64::from(now == wanted), unit: unit.to_owned() })
}

/// Undoes the fault called `id` and verifies that it is gone.
///
/// # Errors
/// When it could not be undone; it then stays in the ledger.
pub(crate) fn heal(state: &State, id: &str) -> Result<Evidence, AgentError> {
    let gone = |seen: String, count: u64, unit: &str| Evidence { verified: true, seen, count, unit: unit.to_owned() };
    let Some(LedgerEntry { fault, boot_id: then, .. }) = ledger::get(state, id) else {
        return Ok(gone("healed already".to_owned(), 0, ""));
    };
    // Counted before the counters go.
    let last = match &fault {
        Fault::Drop { pairs, by: DropBy::Nft } => measure_drop(id, pairs, DropBy::Nft).map_or(0, |e| e.count),
        _ => 0,
    };
    if then == boot_id() {
        undo(state, id, &fault)?;
    }
    let evidence = match &fault {
        Fault::Drop { by: DropBy::RouterRules, .. } => gone("rules removed".to_owned(), 0, "packets dropped"),
        Fault::Drop { by: DropBy::Nft, .. } => gone(format!("{last} packets dropped"), last, "packets dropped"),
        Fault::Kill { process } => gone(format!("`{process}` may start again"), 0, "processes gone"),
        Fault::Pause { process } => gone(format!("`{process}` goes on"), 0, "processes stopped"),
    };
    ledger::strike(state, id)?;
    Ok(evidence)
}

/// Takes the effect away. What another fault in the ledger also wants stays.
fn undo(state: &State, id: &str, fault: &Fault) -> Result<(), AgentError> {
    let others: Vec<Fault> = ledger::all(state).into_iter().filter(|e| e.id != id).map(|e| e.fault).collect();
    match fault {
        Fault::Drop { pairs, by: DropBy::RouterRules } => {
            let wanted = |pair: &(IpAddr, IpAddr)| {
                others.iter().any(|other| match other {
                    Fault::Drop { pairs, by: DropBy::RouterRules } => pairs.contains(pair),
                    _ => false,
                })
            };
            let ours: Vec<_> = pairs.iter().filter(|pair| !wanted(pair)).copied().collect();
            rules::remove(&ours)?;
            match rules::count(&ours)? {
                0 => Ok(()),
                left => Err(AgentError::new(format!("{left} rules of `{id}` are still there"))),
            }
        }
        Fault::Drop { by: DropBy::Nft, .. } => nft::heal(id),
        Fault::Kill { .. } => Ok(()),
        // Somebody else still wants it paused.
        Fault::Pause { .. } if others.contains(fault) => Ok(()),
        Fault::Pause { process } => process::resume_tree(state, process).map(|_| ()),
    }
}

/// Undoes all entries; those that could not be undone are in the error.
///
/// # Errors
/// With every fault that is left.
pub(crate) fn heal_all(state: &State) -> Result<Vec<LedgerEntry>, AgentError> {
    let entries = ledger::all(state);
    let errors: Vec<String> =
        entries.iter().filter_map(|entry| heal(state, &entry.id).err().map(|e| format!("{}: {e}", entry.id))).collect();
    if errors.is_empty() { Ok(entries) } else { Err(AgentError::new(errors.join("; "))) }
}

/// Extends what the kernel would otherwise heal by itself.
pub(crate) fn renew(state: &State, lease_ms: u64) {
    for entry in ledger::all(state) {
        if let Fault::Drop { pairs, by: DropBy::Nft } = &entry.fault {
            // A failure shows when the fault is measured: packets pass again.
            let _ = nft::renew(&entry.id, pairs, lease_ms);
        }
    }
}

/// All addresses of this node's interfaces but loopback.
pub(crate) fn own_addresses() -> Vec<IpAddr> {
    let Ok(interfaces) = nix::ifaddrs::getifaddrs() else { return Vec::new() };
    let mut addresses: Vec<IpAddr> = interfaces
        .filter_map(|interface| {
            let address = interface.address?;
            let v4 = address.as_sockaddr_in().map(|a| IpAddr::V4(a.ip()));
            v4.or_else(|| address.as_sockaddr_in6().map(|a| IpAddr::V6(a.ip())))
        })
        .filter(|address| !address.is_loopback())
        .collect();
    addresses.sort();
    addresses.dedup();
    addresses
}

/// Where the ssh connection comes from that carries the control channel; sudo may have dropped the variable, so ancestors
/// are asked too.
fn controller_address() -> Option<IpAddr> {
    let mut pid = std::process::id();
    while pid > 1 {
        let environment = std::fs::read(format!("/proc/{pid}/environ")).unwrap_or_default();
        for variable in environment.split(|byte| *byte == 0) {
            if let Some(value) = variable.strip_prefix(b"SSH_CONNECTION=") {
                return std::str::from_utf8(value).ok()?.split(' ').next()?.parse().ok();
            }
        }
        pid = super::procfs::Stat::of(pid)?.ppid;
    }
    None
}

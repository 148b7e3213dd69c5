//! Programs that set a machine's clock right again: they are stopped while it is to be wrong.

use crate::protocol::AgentError;
use std::process::{Command, Stdio};

/// What they are called by systemd.
const KNOWN: [&str; 9] = [
    "systemd-timesyncd",
    "chrony",
    "chronyd",
    "ntp",
    "ntpd",
    "ntpsec",
    "openntpd",
    "phc2sys",
    // Sets the guest's clock to the host's.
    "vboxadd-service",
];

/// Those that run now; none where there is no systemd.
pub(super) fn running() -> Vec<String> {
    let asked = Command::new("systemctl").arg("is-active").args(KNOWN).stdin(Stdio::null()).output();
    let said = asked.map(|output| String::from_utf8_lossy(&output.stdout).into_owned()).unwrap_or_default();
    // A line for each, in order; names of one and the same service are stopped once.
    let active = KNOWN.iter().zip(said.lines()).filter(|(_, state)| matches!(*state, "active" | "activating"));
    active.map(|(name, _)| (*name).to_owned()).collect()
}

/// Stops or starts services.
///
/// # Errors
/// With systemd's own words.
pub(super) fn all(verb: &str, names: &[String]) -> Result<(), AgentError> {
    if names.is_empty() {
        return Ok(());
    }
    let failed = |why: &dyn std::fmt::Display| {
        AgentError::new(format!("cannot {verb} what keeps the clock right ({}): {why}", names.join(", ")))
    };
    let output =
        Command::new("systemctl").arg(verb).args(names).stdin(Stdio::null()).output().map_err(|e| failed(&e))?;
    match output.status.success() {
        true => Ok(()),
        false => Err(failed(&String::from_utf8_lossy(&output.stderr).lines().next().unwrap_or("no reason given"))),
    }
}

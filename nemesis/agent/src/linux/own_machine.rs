//! Whether this node is a machine of its own: what hits a whole kernel must not hit somebody else's.

use super::state::boot_id;
use crate::protocol::AgentError;
use std::os::unix::fs::MetadataExt;

/// Inode of the pid namespace that a kernel boots with (`PROC_PID_INIT_INO`): all others are containers.
const FIRST_PID_NAMESPACE: u64 = 0xEFFF_FFFC;

/// Turns down what would hit the controller's kernel, or that of another node, whose boots these are. `no` is how the
/// sentence begins: `this machine is not taken down`.
///
/// # Errors
/// Why not.
pub(crate) fn refuse_others(other_boots: &[String], no: &str) -> Result<(), AgentError> {
    let no = |why: &str| Err(AgentError::new(format!("{no}: {why}")));
    if other_boots.contains(&boot_id()) {
        return no("its kernel is also the controller's or another node's");
    }
    let namespace = std::fs::metadata("/proc/self/ns/pid").map(|meta| meta.ino());
    if namespace.ok() != Some(FIRST_PID_NAMESPACE) {
        return no("this node is a container, and the machine is not its own");
    }
    if !nix::unistd::geteuid().is_root() {
        return no("that takes root");
    }
    Ok(())
}

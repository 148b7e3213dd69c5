//! Which addresses are this node's, and which is the controller's.

use crate::protocol::AgentError;
use std::net::IpAddr;

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

/// Turns down faults of links over which the controller reaches a node; in the router, of its own.
///
/// # Errors
/// With the pair that names it.
pub(crate) fn never_the_control_path(pairs: &[(IpAddr, IpAddr)], is_router: bool) -> Result<(), AgentError> {
    let controller = controller_address();
    let own = if is_router { own_addresses() } else { Vec::new() };
    for (from, to) in pairs {
        let who = match [from, to] {
            ends if ends.into_iter().any(|address| Some(*address) == controller) => "controller",
            ends if ends.into_iter().any(|address| own.contains(address)) => "router",
            _ => continue,
        };
        return Err(AgentError::new(format!("{from} -> {to} names the {who}: the control path is never cut")));
    }
    Ok(())
}

/// Where the ssh connection comes from that carries the control channel; sudo may have dropped the variable, so ancestors
/// are asked too.
pub(crate) fn controller_address() -> Option<IpAddr> {
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

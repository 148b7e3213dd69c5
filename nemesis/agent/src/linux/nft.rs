//! Drops packets on the receiving node by an nftables table of our own, `inet squall`.
//!
//! Each fault has a chain of its own, jumped to from our base chain, with one set of sources per family and destination
//! rule. Set elements time out with the lease, so the kernel heals by itself even when nothing of ours is left alive.
//! Never touches what is not ours; the table goes with its last fault. Uses the `nft` program: Debian and Ubuntu
//! package `nftables`.

use crate::protocol::AgentError;
use std::collections::BTreeSet;
use std::io::Write;
use std::net::IpAddr;
use std::process::{Command, Stdio};

type Pairs = [(IpAddr, IpAddr)];

/// Our table.
const TABLE: &str = "inet squall";

/// Name of a fault's chain and prefix of its sets: nft allows letters, digits and underscores.
fn chain(id: &str) -> String {
    let name: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '_' }).collect();
    format!("f_{name}")
}

/// Starts dropping.
///
/// # Errors
/// When `nft` is missing or refuses.
pub(crate) fn inject(id: &str, pairs: &Pairs, lease_ms: u64) -> Result<(), AgentError> {
    let chain = chain(id);
    let mut script = format!(
        "add table {TABLE}\n\
         add chain {TABLE} input {{ type filter hook input priority -300; policy accept; }}\n\
         add chain {TABLE} {chain}\n"
    );
    for (n, to) in destinations(pairs).iter().enumerate() {
        let (kind, ip) = if to.is_ipv4() { ("ipv4_addr", "ip") } else { ("ipv6_addr", "ip6") };
        script += &format!("add set {TABLE} {chain}_{n} {{ type {kind}; flags timeout; }}\n");
        script += &format!("add rule {TABLE} {chain} {ip} daddr {to} {ip} saddr @{chain}_{n} counter drop\n");
    }
    script += &elements(&chain, pairs, lease_ms);
    script += &format!("add rule {TABLE} input jump {chain}\n");
    nft(&["-f", "-"], &script).map(|_| ())
}

fn destinations(pairs: &Pairs) -> BTreeSet<IpAddr> {
    pairs.iter().map(|(_, to)| *to).collect()
}

fn elements(chain: &str, pairs: &Pairs, lease_ms: u64) -> String {
    let mut script = String::new();
    for (n, to) in destinations(pairs).iter().enumerate() {
        for (from, _) in pairs.iter().filter(|(from, there)| there == to && from.is_ipv4() == to.is_ipv4()) {
            let timeout = if lease_ms == 0 { String::new() } else { format!(" timeout {lease_ms}ms") };
            script += &format!("add element {TABLE} {chain}_{n} {{ {from}{timeout} }}\n");
        }
    }
    script
}

/// Sets the time that is left to `lease_ms`.
///
/// # Errors
/// When `nft` refuses.
pub(crate) fn renew(id: &str, pairs: &Pairs, lease_ms: u64) -> Result<(), AgentError> {
    let chain = chain(id);
    // An element's timeout is only set when it is added: out and in again, in one transaction.
    let mut script = String::new();
    for n in 0..destinations(pairs).len() {
        script += &format!("flush set {TABLE} {chain}_{n}\n");
    }
    script += &elements(&chain, pairs, lease_ms);
    nft(&["-f", "-"], &script).map(|_| ())
}

/// Packets dropped so far; `None` when the fault is not in force (never injected, or its elements timed out).
///
/// # Errors
/// When `nft` is missing.
pub(crate) fn measure(id: &str) -> Result<Option<u64>, AgentError> {
    let chain = chain(id);
    let Ok(listing) = nft(&["-j", "list", "table", "inet", "squall"], "") else { return Ok(None) };
    let json: serde_json::Value =
        serde_json::from_str(&listing).map_err(|e| AgentError::new(format!("nft answered no JSON: {e}")))?;
    let (mut packets, mut rules, mut elements) = (0, 0, 0);
    for item in json["nftables"].as_array().into_iter().flatten() {
        if item["rule"]["chain"] == chain.as_str() {
            rules += 1;
            for part in item["rule"]["expr"].as_array().into_iter().flatten() {
                packets += part["counter"]["packets"].as_u64().unwrap_or_default();
            }
        }
        if item["set"]["name"].as_str().is_some_and(|name| is_set_of(name, &chain)) {
            elements += item["set"]["elem"].as_array().map_or(0, Vec::len);
        }
    }
    Ok((rules > 0 && elements > 0).then_some(packets))
}

fn is_set_of(name: &str, chain: &str) -> bool {
    name.strip_prefix(chain)
        .and_then(|rest| rest.strip_prefix('_'))
        .is_some_and(|n| !n.is_empty() && n.chars().all(|c| c.is_ascii_digit()))
}

/// Removes the fault's rules and sets, and the table with the last of them.
///
/// # Errors
/// When `nft` refuses.
pub(crate) fn heal(id: &str) -> Result<(), AgentError> {
    let chain = chain(id);
    let Ok(listing) = nft(&["-j", "-a", "list", "table", "inet", "squall"], "") else {
        // No table, no fault.
        return Ok(());
    };
    let json: serde_json::Value =
        serde_json::from_str(&listing).map_err(|e| AgentError::new(format!("nft answered no JSON: {e}")))?;
    let items: Vec<&serde_json::Value> = json["nftables"].as_array().into_iter().flatten().collect();
    let is_other = |item: &&&serde_json::Value| {
        item["chain"]["name"].as_str().is_some_and(|name| name.starts_with("f_") && name != chain)
    };
    if items.iter().find(is_other).is_none() {
        return nft(&["delete", "table", "inet", "squall"], "").map(|_| ());
    }
    let mut script = String::new();
    for item in &items {
        let rule = &item["rule"];
        let jumps = rule["expr"].as_array().into_iter().flatten().any(|e| e["jump"]["target"] == chain.as_str());
        if let (true, Some(handle)) = (jumps, rule["handle"].as_u64()) {
            script += &format!("delete rule {TABLE} input handle {handle}\n");
        }
    }
    if items.iter().any(|item| item["chain"]["name"] == chain.as_str()) {
        script += &format!("flush chain {TABLE} {chain}\ndelete chain {TABLE} {chain}\n");
    }
    for item in &items {
        if let Some(name) = item["set"]["name"].as_str().filter(|name| is_set_of(name, &chain)) {
            script += &format!("delete set {TABLE} {name}\n");
        }
    }
    nft(&["-f", "-"], &script).map(|_| ())
}

/// Runs `nft`, by `sudo -n` when not root.
fn nft(arguments: &[&str], script: &str) -> Result<String, AgentError> {
    let mut command = if nix::unistd::geteuid().is_root() {
        Command::new("nft")
    } else {
        let mut command = Command::new("sudo");
        command.args(["-n", "nft"]);
        command
    };
    // Debian keeps it out of an ordinary user's path.
    let path = std::env::var("PATH").unwrap_or_default();
    command.env("PATH", format!("{path}:/usr/sbin:/sbin"));
    let failed = |error: &dyn std::fmt::Display| {
        AgentError::new(format!("cannot use nft: {error} (Debian and Ubuntu package `nftables`)"))
    };
    let mut child = command
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .map_err(|e| failed(&e))?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(script.as_bytes()).map_err(|e| failed(&e))?;
    }
    let output = child.wait_with_output().map_err(|e| failed(&e))?;
    if output.status.success() {
        return Ok(String::from_utf8_lossy(&output.stdout).into_owned());
    }
    let complaint = String::from_utf8_lossy(&output.stderr);
    Err(failed(&complaint.lines().next().unwrap_or("no reason given")))
}

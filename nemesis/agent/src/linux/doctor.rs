//! What this machine can do, and what to install where something is missing.

use crate::protocol::{Finding, Level};
use nix::unistd::geteuid;
use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

/// Looks at everything squall may need of a node.
pub fn doctor() -> Vec<Finding> {
    vec![
        kernel(),
        privileges(),
        user_namespaces(),
        program("nftables", "nft", "partitions over ssh", "apt install nftables"),
        program("iproute2", "tc", "slow and lossy links over ssh (netem)", "apt install iproute2"),
        device("/dev/fuse", "disk faults on the local cluster"),
        device("/dev/net/tun", "slow and lossy links on the local cluster"),
        device("/dev/kvm", "a fast Vagrant cluster; without it machines are emulated"),
        control_groups(),
        clock(),
        sshd(),
        space(),
    ]
}

fn finding(what: &str, level: Level, seen: impl Into<String>, advice: impl Into<String>) -> Finding {
    Finding { what: what.to_owned(), level, seen: seen.into(), advice: advice.into() }
}

fn kernel() -> Finding {
    let release = fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    let seen = format!("Linux {} on {}", release.trim(), std::env::consts::ARCH);
    finding("kernel", Level::Good, seen, "")
}

fn privileges() -> Finding {
    let can_sudo = || {
        let sudo = Command::new("sudo").args(["-n", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
        sudo.is_ok_and(|status| status.success())
    };
    if geteuid().is_root() {
        finding("privileges", Level::Good, "root", "")
    } else if can_sudo() {
        finding("privileges", Level::Good, "sudo without a password", "")
    } else {
        let advice = "as a node over ssh: log in as root, or allow `sudo -n` (NOPASSWD) for partitions";
        finding("privileges", Level::Limited, "an ordinary user without sudo", advice)
    }
}

/// Tried for real, in a child: configuration has too many ways to say no.
fn user_namespaces() -> Finding {
    if geteuid().is_root() {
        return finding("namespaces", Level::Good, "root needs no user namespace", "");
    }
    let tried = Command::new("unshare").args(["-rn", "true"]).stdin(Stdio::null()).stderr(Stdio::null()).status();
    match tried {
        Ok(status) if status.success() => finding("namespaces", Level::Good, "user namespaces work", ""),
        Ok(_) => finding(
            "namespaces",
            Level::Limited,
            "user namespaces are refused",
            "for the local cluster: run as root, or `sudo sysctl -w kernel.apparmor_restrict_unprivileged_userns=0` (Ubuntu)",
        ),
        Err(error) => {
            finding("namespaces", Level::Limited, format!("not tried: unshare: {error}"), "apt install util-linux")
        }
    }
}

fn control_groups() -> Finding {
    match super::cgroup::on_offer() {
        Ok(seen) => finding("control groups", Level::Good, seen, ""),
        Err(why) => {
            let advice = "for OOM kills, and for exact limits of CPU time, memory and processes: run as root";
            finding("control groups", Level::Limited, why, advice)
        }
    }
}

fn program(what: &str, name: &str, needed_for: &str, advice: &str) -> Finding {
    let path = std::env::var("PATH").unwrap_or_default();
    let found = path
        .split(':')
        .chain(["/usr/sbin", "/sbin"])
        .map(|dir| Path::new(dir).join(name))
        .find(|candidate| candidate.is_file());
    match found {
        Some(path) => finding(what, Level::Good, path.display().to_string(), ""),
        None => finding(what, Level::Limited, format!("no `{name}`"), format!("for {needed_for}: {advice}")),
    }
}

fn device(path: &str, needed_for: &str) -> Finding {
    match fs::OpenOptions::new().read(true).write(true).open(path) {
        Ok(_) => finding(path, Level::Good, "usable", ""),
        Err(error) => finding(path, Level::Limited, error.to_string(), format!("for {needed_for}")),
    }
}

/// Clock faults set no clock: they need our machine code and ptrace(2), which the Yama module can forbid to everybody.
fn clock() -> Finding {
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if cfg!(not(target_arch = "x86_64")) {
        finding("clocks", Level::Limited, std::env::consts::ARCH, "for clock faults: nodes with x86-64 processors")
    } else if scope.trim() == "3" {
        let advice = "for clock faults: boot with another kernel.yama.ptrace_scope";
        finding("clocks", Level::Limited, "nobody may use ptrace", advice)
    } else {
        finding("clocks", Level::Good, "programs can be given a clock of their own", "")
    }
}

fn sshd() -> Finding {
    let Ok(config) = fs::read_to_string("/etc/ssh/sshd_config") else {
        return finding(
            "sshd",
            Level::Limited,
            "no readable sshd_config",
            "as a node over ssh: apt install openssh-server",
        );
    };
    let value = config.lines().map(str::trim).find_map(|line| line.strip_prefix("MaxSessions"));
    let sessions = value.and_then(|text| text.trim().parse::<u32>().ok()).unwrap_or(10);
    // One channel for the agent, one for uploads.
    if sessions >= 2 {
        finding("sshd", Level::Good, format!("MaxSessions {sessions}"), "")
    } else {
        finding("sshd", Level::Limited, format!("MaxSessions {sessions}"), "squall needs 2 sessions: raise MaxSessions")
    }
}

fn space() -> Finding {
    match nix::sys::statvfs::statvfs("/var") {
        Ok(stat) => {
            let gib = stat.blocks_available() * stat.fragment_size() / (1 << 30);
            let level = if gib >= 1 { Level::Good } else { Level::Limited };
            let advice = if gib >= 1 { "" } else { "a run keeps data and logs below /var/lib/squall: make room" };
            finding("space in /var", level, format!("{gib} GiB free"), advice)
        }
        Err(errno) => finding(
            "space in /var",
            Level::Limited,
            errno.to_string(),
            "squall keeps its data on a node there by default",
        ),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_complaint_comes_with_advice() {
        for finding in doctor() {
            assert!(!finding.seen.is_empty(), "{finding:?}");
            assert_eq!(finding.level == Level::Good, finding.advice.is_empty(), "{finding:?}");
        }
        let missing = program("nftables", "no-such-program", "partitions", "apt install nftables");
        assert!(missing.level == Level::Limited && missing.advice.contains("apt install"), "{missing:?}");
        let missing = device("/dev/no-such-device", "disk faults");
        assert!(missing.level == Level::Limited && missing.advice.contains("disk faults"), "{missing:?}");
    }
}

//! The controller of a run on the local cluster, or who launched it, dies at any moment, with faults of every family in force: nothing is left.
//!
//! `SQUALL_TEST_KILLS` says how often (10). Where the kernel allows no namespaces the test says so.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

const TEST: &str = "\
name: killed
cluster: { nodes: 3 }
target: { squall-node: {} }
workload: { register: { keys: 5, rate: 200/s } }
nemesis:
  - partition: { shape: [one, isolate-primary], every: 1s, for: 700ms }
  - delay: { by: 20ms, jitter: 5ms, shape: full, every: 1s, for: 600ms }
  - clock-bump: { nodes: one, every: 1s, for: 700ms }
  - disk-slow: { nodes: all, ops: fsync, delay: 5ms, every: 1s, for: 500ms }
  - bit-rot: { nodes: one, every: 1s, for: 500ms }
  - pause: { nodes: one, every: 1500ms, for: 500ms }
  - cpu-limit: { nodes: all, share: 0.2, every: 1s, for: 900ms }
  - kill: { nodes: one, every: 2s, restart_after: 300ms }
duration: 60s
";

/// The longest a run lives: it is up and under faults after some two seconds (milliseconds).
const LIFE_MS_MAX: u64 = 6000;

/// The namespaces of a process, as `/proc` names them: `net:[4026531840]`.
fn namespaces(pid: u32) -> BTreeSet<String> {
    let kinds = ["net", "mnt", "pid", "uts", "ipc", "user"];
    let name = |kind| std::fs::read_link(format!("/proc/{pid}/ns/{kind}")).ok()?.to_str().map(str::to_owned);
    kinds.into_iter().filter_map(name).collect()
}

fn pids() -> impl Iterator<Item = u32> {
    std::fs::read_dir("/proc").unwrap().flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Every process of this run, wherever it is: by the folder in its command line, and whatever shares a namespace with one.
fn processes(dir: &Path, spaces: &BTreeSet<String>) -> Vec<u32> {
    let marker = dir.to_str().unwrap();
    let is_ours = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        String::from_utf8_lossy(&line).contains(marker) || !namespaces(*pid).is_disjoint(spaces)
    };
    pids().filter(is_ours).collect()
}

/// The control groups of a process that are not ours, too.
fn groups(pid: u32) -> BTreeSet<PathBuf> {
    let of = |pid: &str| std::fs::read_to_string(format!("/proc/{pid}/cgroup")).unwrap_or_default();
    let (theirs, ours) = (of(&pid.to_string()), of("self"));
    let others = theirs.lines().filter(|line| !ours.lines().any(|own| own == *line));
    let path = |line: &str| {
        let mut parts = line.splitn(3, ':').skip(1);
        let (controllers, path) = (parts.next()?, parts.next()?.trim_start_matches('/'));
        // One that has ended but was not collected is in the root group.
        let is_below = !path.is_empty() && !path.contains("..");
        is_below.then(|| Path::new("/sys/fs/cgroup").join(controllers.trim_start_matches("name=")).join(path))
    };
    others.filter_map(path).collect()
}

/// The process whose command line has all of these words, outside of every namespace's own counting.
fn controller(dir: &Path, launcher: u32) -> Option<u32> {
    processes(dir, &BTreeSet::new()).into_iter().find(|pid| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        *pid != launcher && line.contains(" run test.yaml") && !line.contains("local-init")
    })
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "gave up waiting for: {what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

fn said(program: &str, arguments: &[&str]) -> String {
    let output = Command::new(program).args(arguments).output();
    output.map_or(String::new(), |output| String::from_utf8_lossy(&output.stdout).into_owned())
}

/// Our marks on this machine itself, outside of all namespaces.
fn marks_outside(dir: &Path) -> String {
    let rules = [said("ip", &["rule"]), said("ip", &["-6", "rule"])].concat();
    let rules = rules.lines().filter(|line| line.starts_with("77")).map(str::to_owned);
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    let mounts = mounts.lines().filter(|line| line.contains(dir.to_str().unwrap())).map(str::to_owned);
    let links = said("ip", &["-o", "link"]);
    let links = links.lines().filter(|line| line.contains(": squall")).map(str::to_owned);
    rules.chain(mounts).chain(links).collect::<Vec<_>>().join("\n")
}

#[test]
fn whenever_the_controller_is_killed_nothing_is_left() {
    let kills = std::env::var("SQUALL_TEST_KILLS").map_or(10, |text| text.parse().unwrap());
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("test.yaml"), TEST).unwrap();
    let run = |arguments: &[&str]| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
        command.args(["run", "test.yaml", "--quiet"]).args(arguments).arg("--store").arg(dir.path().join("store"));
        command.current_dir(dir.path()).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        command.spawn().unwrap()
    };
    let probe = run(&["--duration", "1s"]).wait_with_output().unwrap();
    let error = String::from_utf8_lossy(&probe.stderr);
    if error.contains("needs Linux namespaces") || error.contains("FUSE") || error.contains("x86-64") {
        println!("skipped: {error}");
        return;
    }
    assert!(probe.status.success(), "{error}");
    let host = namespaces(std::process::id());
    let (mut under_faults, mut in_groups) = (0, 0);
    for n in 0..kills {
        let mut launcher = run(&["--seed", &n.to_string()]);
        wait_for("the controller to start", || controller(dir.path(), launcher.id()).is_some());
        // Spread over all of a run's beginning; the golden ratio leaves no gap, however many there are.
        let life = (f64::from(n) * 0.618_033_988_75).fract() * LIFE_MS_MAX as f64;
        std::thread::sleep(Duration::from_millis(life as u64));
        let pid = controller(dir.path(), launcher.id()).expect("the controller runs for a minute");
        let all = processes(dir.path(), &BTreeSet::new());
        let spaces: BTreeSet<String> =
            all.iter().flat_map(|pid| namespaces(*pid)).filter(|s| !host.contains(s)).collect();
        let all = processes(dir.path(), &spaces);
        let groups: BTreeSet<PathBuf> = all.iter().flat_map(|pid| groups(*pid)).collect();
        in_groups += u32::from(!groups.is_empty());
        under_faults += u32::from(!ledgers(dir.path()).is_empty());
        let (victim, code) = if n % 2 == 0 { (pid, Some(70)) } else { (launcher.id(), None) };
        assert!(Command::new("kill").args(["-KILL", &victim.to_string()]).status().unwrap().success());
        assert_eq!(launcher.wait().unwrap().code(), code, "kill {n}");
        wait_for(&format!("kill {n} after {life:.0} ms: all processes and with them their namespaces to go"), || {
            processes(dir.path(), &spaces).is_empty()
        });
        wait_for(&format!("kill {n}: the control groups to go"), || groups.iter().all(|group| !group.exists()));
        assert_eq!(marks_outside(dir.path()), "", "kill {n}");
        std::fs::remove_dir_all(dir.path().join("store")).unwrap();
    }
    println!("{kills} kills, {under_faults} of them with entries in a ledger, {in_groups} with control groups");
    assert!(under_faults > 0, "no kill came while a fault was in force");
}

/// The entries of all nodes' ledgers that are more than preparations.
fn ledgers(dir: &Path) -> String {
    said("find", &[dir.to_str().unwrap(), "-path", "*/agent/ledger/*.json", "!", "-name", "0-*"])
}

//! Faults of resources: seen from outside of the process that they hit, and gone afterwards with all that they took.

mod common;
mod groups;

use common::{Agent, LONG_LEASE_MS, is_gone, let_the_watchdog_look, stat, wait_for};
use groups::control_groups;
use squall_agent::faults::Fault;
use squall_agent::faults::cpu::Cpu;
use squall_agent::faults::files::Files;
use squall_agent::faults::memory::Memory;
use squall_agent::faults::oom_kill::OomKill;
use squall_agent::faults::processes::Processes;
use squall_agent::protocol::{Evidence, ProcessState, Request, StartProcess};
use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

/// Prints what it can open and what it can fork, without a process of its own for the pause in between.
const WORKER: &str = "mkfifo never; exec bash -c 'exec 3<>never; while :; do \
                      true </dev/null && echo opened; (exit 7); test $? = 7 && echo forked; read -t 0.02 -u 3; done'";

fn victim() -> String {
    "victim".to_owned()
}

fn start(script: &str) -> Request {
    Request::Start(StartProcess {
        name: victim(),
        // Another process is the leader: what it becomes is no matter of the start.
        argv: ["sh", "-c", &format!("({script}) & wait")].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        cwd: String::new(),
        log: "victim.log".to_owned(),
    })
}

fn heal(agent: &mut Agent, id: &str) -> Evidence {
    let healed = agent.fault(Request::Heal { id: id.to_owned() });
    assert!(healed.verified, "{healed:?}");
    healed
}

fn measure(agent: &mut Agent, id: &str) -> Evidence {
    agent.fault(Request::Measure { id: id.to_owned() })
}

/// Whether control groups are to be had; says so when they are not.
fn by_group(evidence: &Evidence) -> bool {
    let is_by_group = evidence.seen.contains("control group");
    if !is_by_group {
        println!("skipped: no control group can be made here: {}", evidence.seen);
    }
    is_by_group
}

fn log(root: &Path) -> String {
    fs::read_to_string(root.join("victim.log")).unwrap_or_default()
}

/// Waits for a line to come that says this.
fn wait_for_line(root: &Path, what: &str) {
    let before = log(root).matches(what).count();
    wait_for(what, || log(root).matches(what).count() > before);
}

/// The soft limit of a process, as `/proc` says it.
fn soft_limit(pid: u32, title: &str) -> String {
    let text = fs::read_to_string(format!("/proc/{pid}/limits")).unwrap();
    let line = text.lines().find_map(|line| line.strip_prefix(title)).unwrap();
    line.split_ascii_whitespace().next().unwrap().to_owned()
}

fn members(group: &Path) -> Vec<u32> {
    fs::read_to_string(group.join("cgroup.procs")).unwrap().lines().map(|line| line.parse().unwrap()).collect()
}

#[test]
fn faults_on_a_process_share_a_group_that_a_later_start_joins() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let busy = "while :; do :; done";
    let first = agent.process(start(busy)).pid.unwrap();
    let cpu = |share| Fault::Cpu(Cpu { process: victim(), share });
    if !by_group(&agent.inject("1-cpu", cpu(0.05))) {
        return agent.shutdown();
    }
    let group = control_groups(root.path()).pop().unwrap();
    assert!(members(&group).contains(&first));
    wait_for("the CPU time to run out", || measure(&mut agent, "1-cpu").count > 0);
    assert!(agent.inject("2-cpu", cpu(0.5)).verified);
    let memory = agent.inject("3-memory", Fault::Memory(Memory { process: victim(), more: 32 << 20 }));
    assert!(memory.verified && memory.seen.contains("32 MiB more"), "{memory:?}");
    agent.process(Request::Stop { name: victim(), signal: 9, grace_ms: 0 });
    let second = agent.process(start(busy)).pid.unwrap();
    for group in control_groups(root.path()) {
        assert!(members(&group).contains(&second), "{}", group.display());
    }
    for id in ["1-cpu", "2-cpu", "3-memory"] {
        assert!(measure(&mut agent, id).verified, "{id}");
    }
    assert!(heal(&mut agent, "1-cpu").count > 0);
    assert!(measure(&mut agent, "2-cpu").verified);
    heal(&mut agent, "3-memory");
    assert!(members(&group).contains(&second), "the other fault still has the group");
    heal(&mut agent, "2-cpu");
    assert!(control_groups(root.path()).is_empty());
    assert!(fs::read_dir(root.path().join("agent/groups")).unwrap().next().is_none());
    assert_eq!(agent.process(Request::Status { name: victim() }).pid, Some(second), "it lives on");
    agent.shutdown();
}

#[test]
fn what_does_not_fit_into_memory_is_killed() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    agent.process(start("while :; do head -c 50000000 /dev/zero | tail -c 50000000 | wc -c; sleep 0.02; done"));
    wait_for_line(root.path(), "50000000\n");
    let memory = Fault::Memory(Memory { process: victim(), more: 8 << 20 });
    if by_group(&agent.inject("1-memory", memory)) {
        wait_for("what was begun before", || measure(&mut agent, "1-memory").count > 1);
        let before = log(root.path()).matches("50000000\n").count();
        wait_for("another", || measure(&mut agent, "1-memory").count > 3);
        assert_eq!(log(root.path()).matches("50000000\n").count(), before);
        assert!(heal(&mut agent, "1-memory").count > 3);
        wait_for_line(root.path(), "50000000\n");
        assert!(control_groups(root.path()).is_empty());
    }
    agent.shutdown();
}

#[test]
fn the_kernel_kills_the_whole_tree_and_nobody_else() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let pid = agent.process(start("sleep 1000 & sleep 1001 & while :; do echo both; sleep 0.1; done")).pid.unwrap();
    wait_for_line(root.path(), "both");
    let inject = Request::Inject {
        id: "1-oom".to_owned(),
        fault: Fault::OomKill(OomKill { process: victim() }),
        lease_ms: 60_000,
    };
    match agent.ask(inject) {
        Err(refused) => {
            assert!(refused.message.contains("needs a control group"), "{refused}");
            println!("skipped: {refused}");
        }
        Ok(squall_agent::protocol::Reply::Fault(killed)) => {
            assert!(killed.verified && killed.count >= 3, "{killed:?}");
            assert!(is_gone(pid));
            wait_for("the agent to hear of it", || {
                agent.process(Request::Status { name: victim() }).ended == Some("signal 9".to_owned())
            });
            assert!(control_groups(root.path()).is_empty());
            heal(&mut agent, "1-oom");
            let again = agent.process(start("sleep 1000")).pid.unwrap();
            assert_eq!(fs::read_to_string(format!("/proc/{again}/oom_score_adj")).unwrap().trim(), "0");
        }
        Ok(other) => panic!("{other:?}"),
    }
    agent.shutdown();
}

#[test]
fn no_file_is_opened_and_no_process_forked_until_it_is_healed() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let pid = agent.process(start(WORKER)).pid.unwrap();
    wait_for_line(root.path(), "opened");
    let before = soft_limit(pid, "Max open files");
    let files = agent.inject("1-files", Fault::Files(Files { process: victim(), left: 0 }));
    assert!(files.verified && files.count >= 2, "{files:?}");
    wait_for_line(root.path(), "Too many open files");
    let second = Request::Inject {
        id: "2-files".to_owned(),
        fault: Fault::Files(Files { process: victim(), left: 3 }),
        lease_ms: 1000,
    };
    assert!(agent.ask(second).unwrap_err().message.contains("already"));
    heal(&mut agent, "1-files");
    assert_eq!(soft_limit(pid, "Max open files"), before);
    wait_for_line(root.path(), "opened");
    wait_for_line(root.path(), "forked");
    let pids = Request::Inject {
        id: "3-pids".to_owned(),
        fault: Fault::Processes(Processes { process: victim(), left: 0 }),
        lease_ms: 60_000,
    };
    if agent.ask(pids).is_ok() {
        wait_for_line(root.path(), "Resource temporarily unavailable");
        heal(&mut agent, "3-pids");
        wait_for_line(root.path(), "forked");
    } else {
        println!("skipped: processes cannot be limited here");
    }
    assert!(control_groups(root.path()).is_empty());
    agent.shutdown();
}

/// An agent that sees no control groups, as on a machine without them.
#[test]
fn where_there_are_no_groups_the_process_is_stopped_in_turns_and_allocations_fail() {
    let root = tempfile::tempdir().unwrap();
    let hide = ["unshare", "-m", "sh", "-c", "umount -l /sys/fs/cgroup || exit 1; exec \"$@\"", "sh"];
    if !std::process::Command::new("unshare")
        .args(["-m", "umount", "-l", "/sys/fs/cgroup"])
        .output()
        .unwrap()
        .status
        .success()
    {
        return println!("skipped: control groups cannot be hidden from an agent here");
    }
    let mut agent = Agent::start_by(&hide, root.path(), LONG_LEASE_MS);
    let pid = agent
        .process(start("while :; do head -c 50000000 /dev/zero | tail -c 50000000 | wc -c; sleep 0.02; done"))
        .pid
        .unwrap();
    let cpu = agent.inject("1-cpu", Fault::Cpu(Cpu { process: victim(), share: 0.3 }));
    assert!(cpu.verified && cpu.seen.contains("stopped"), "{cpu:?}");
    wait_for("a stop", || stat(pid).unwrap().0 == 'T');
    wait_for("it to go on", || stat(pid).unwrap().0 != 'T');
    wait_for("some more", || measure(&mut agent, "1-cpu").count > 3);
    heal(&mut agent, "1-cpu");
    assert!(stat(pid).unwrap().0 != 'T');
    let before = soft_limit(pid, "Max address space");
    let memory = agent.inject("2-memory", Fault::Memory(Memory { process: victim(), more: 8 << 20 }));
    assert!(memory.verified && memory.seen.contains("address space"), "{memory:?}");
    assert_ne!(soft_limit(pid, "Max address space"), before);
    wait_for_line(root.path(), "memory exhausted");
    heal(&mut agent, "2-memory");
    assert_eq!(soft_limit(pid, "Max address space"), before);
    wait_for_line(root.path(), "50000000\n");
    for fault in [
        Fault::OomKill(OomKill { process: victim() }),
        Fault::Processes(Processes { process: victim(), left: 3 }),
        Fault::Cpu(Cpu { process: victim(), share: 2.0 }),
    ] {
        let inject = Request::Inject { id: "3-x".to_owned(), fault, lease_ms: 1000 };
        let refused = agent.ask(inject).unwrap_err();
        assert!(refused.message.contains("is mounted here"), "{refused}");
    }
    assert!(fs::read_dir(root.path().join("agent/ledger")).unwrap().next().is_none());
    agent.shutdown();
}

#[test]
fn a_dead_agents_limits_are_lifted_while_the_process_lives() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let pid = agent.process(start("while :; do :; done")).pid.unwrap();
    let before = soft_limit(pid, "Max open files");
    let faults = [
        Fault::Files(Files { process: victim(), left: 1 }),
        Fault::Cpu(Cpu { process: victim(), share: 0.1 }),
        Fault::Memory(Memory { process: victim(), more: 8 << 20 }),
    ];
    for (n, fault) in faults.into_iter().enumerate() {
        let inject = Request::Inject { id: format!("{n}-x"), fault, lease_ms: 700 };
        assert!(agent.fault(inject).verified);
    }
    assert_ne!(soft_limit(pid, "Max open files"), before);
    agent.kill_9();
    let ledger = root.path().join("agent/ledger");
    wait_for("the ledger to empty", || fs::read_dir(&ledger).unwrap().next().is_none());
    assert_eq!(soft_limit(pid, "Max open files"), before);
    assert!(control_groups(root.path()).is_empty());
    let mut second = Agent::start(root.path(), LONG_LEASE_MS);
    let status = second.process(Request::Status { name: victim() });
    assert_eq!((status.pid, status.state), (Some(pid), ProcessState::Running));
    second.shutdown();
    wait_for("the end", || is_gone(pid));
}

#[test]
fn what_cannot_be_carried_out_is_told() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    for (fault, said) in [
        (Fault::Cpu(Cpu { process: victim(), share: 0.0 }), "`share` must be from 0.01 to 64"),
        (Fault::Memory(Memory { process: victim(), more: 4096 }), "at least 1 MiB"),
    ] {
        let inject = Request::Inject { id: "1-x".to_owned(), fault, lease_ms: 1000 };
        let refused = agent.ask(inject).unwrap_err();
        assert!(refused.message.contains(said), "{refused}");
    }
    // A process that does not run: nothing to limit, but a group for when it starts.
    let gone = agent.inject("2-files", Fault::Files(Files { process: victim(), left: 0 }));
    assert!(!gone.verified && gone.seen.contains("does not run"), "{gone:?}");
    heal(&mut agent, "2-files");
    assert!(fs::read_dir(root.path().join("agent/ledger")).unwrap().next().is_none());
    agent.shutdown();
}

#[test]
fn whoever_removes_the_root_leaves_no_group_behind() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let pid = agent.process(start("sleep 1000")).pid.unwrap();
    if by_group(&agent.inject("1-cpu", Fault::Cpu(Cpu { process: victim(), share: 0.5 }))) {
        assert_eq!(control_groups(root.path()).len(), 1);
    }
    let_the_watchdog_look();
    fs::remove_dir_all(root.path()).unwrap();
    wait_for("the process to end", || is_gone(pid));
    wait_for("its group to go", || control_groups(root.path()).is_empty());
    agent.kill_9();
}

//! The agent as a program: what it starts, breaks and undoes, and what is left when it or its controller dies.

#[expect(dead_code, reason = "shared with other tests")]
mod common;

use common::{Agent, LONG_LEASE_MS, is_gone, stat, wait_for};
use squall_agent::faults::Fault;
use squall_agent::faults::drop::{Drop, DropBy};
use squall_agent::faults::kill::Kill;
use squall_agent::faults::pause::Pause;
use squall_agent::protocol::{ProcessState, ProcessStatus, Reply, Request, StartProcess, VERSION};
use std::collections::BTreeMap;
use std::time::Duration;

/// The tree that the tests below start.
trait Tree {
    fn start_tree(&mut self) -> ProcessStatus;
    fn status(&mut self) -> ProcessStatus;
}

impl Tree for Agent {
    fn start_tree(&mut self) -> ProcessStatus {
        let script = "sleep 1000 & (sleep 1001 & setsid sleep 1002 & wait) & wait";
        let start = StartProcess {
            name: "tree".to_owned(),
            argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            cwd: String::new(),
            log: "tree.log".to_owned(),
        };
        let status = self.process(Request::Start(start));
        // The shell needs a moment for its children.
        wait_for("the whole tree", || descendants(status.pid.unwrap()).len() >= 5);
        status
    }

    fn status(&mut self) -> ProcessStatus {
        self.process(Request::Status { name: "tree".to_owned() })
    }
}

fn pause() -> Fault {
    Fault::Pause(Pause { process: "tree".to_owned() })
}

/// The tree below `root` by our own reading of `/proc`, with it.
fn descendants(root: u32) -> Vec<u32> {
    let all: Vec<(u32, u32)> = std::fs::read_dir("/proc")
        .unwrap()
        .flatten()
        .filter_map(|entry| entry.file_name().to_str()?.parse().ok())
        .filter_map(|pid: u32| stat(pid).filter(|(state, _)| *state != 'Z').map(|(_, ppid)| (pid, ppid)))
        .collect();
    let mut tree = vec![root];
    let mut at = 0;
    while at < tree.len() {
        let parent = tree[at];
        tree.extend(all.iter().filter(|(_, ppid)| *ppid == parent).map(|(pid, _)| *pid));
        at += 1;
    }
    tree
}

#[test]
fn a_kill_takes_the_whole_tree() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let tree = descendants(agent.start_tree().pid.unwrap());
    let evidence = agent.inject("1-kill", Fault::Kill(Kill { process: "tree".to_owned() }));
    assert!(evidence.verified && evidence.count >= 5, "{evidence:?}");
    assert!(tree.iter().all(|pid| is_gone(*pid)), "{tree:?}");
    assert_eq!(agent.status().state, ProcessState::Gone);
    // Again is the same, and a second process under the name is another one.
    let again = agent.inject("1-kill", Fault::Kill(Kill { process: "tree".to_owned() }));
    assert!(again.verified);
    agent.fault(Request::Heal { id: "1-kill".to_owned() });
    let second = agent.start_tree();
    assert_eq!(second.state, ProcessState::Running);
    agent.shutdown();
    wait_for("the end of the second", || is_gone(second.pid.unwrap()));
}

#[test]
fn a_pause_stops_every_thread_and_heals() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let tree = descendants(agent.start_tree().pid.unwrap());
    assert!(agent.inject("1-pause", pause()).verified);
    assert!(tree.iter().all(|pid| stat(*pid).unwrap().0 == 'T'), "{tree:?}");
    assert_eq!(agent.status().state, ProcessState::Stopped);
    assert!(root.path().join("agent/ledger/1-pause.json").exists());
    assert!(agent.fault(Request::Heal { id: "1-pause".to_owned() }).verified);
    assert!(tree.iter().all(|pid| stat(*pid).unwrap().0 != 'T'), "{tree:?}");
    assert!(!root.path().join("agent/ledger/1-pause.json").exists());
    agent.shutdown();
}

#[test]
fn another_agent_takes_over() {
    let root = tempfile::tempdir().unwrap();
    let mut first = Agent::start(root.path(), LONG_LEASE_MS);
    let started = first.start_tree();
    assert!(first.inject("1-pause", pause()).verified);
    first.kill_9();
    let mut second = Agent::start(root.path(), LONG_LEASE_MS);
    let found = second.status();
    assert_eq!((found.pid, found.start_ticks, found.state), (started.pid, started.start_ticks, ProcessState::Stopped));
    let Reply::Ledger(healed) = second.ask(Request::HealAll).unwrap() else { panic!() };
    assert_eq!(healed.iter().map(|entry| entry.id.as_str()).collect::<Vec<_>>(), ["1-pause"]);
    assert_eq!(second.status().state, ProcessState::Running);
    second.shutdown();
    wait_for("the end", || is_gone(started.pid.unwrap()));
}

#[test]
fn when_everybody_dies_the_watchdog_undoes_it() {
    for round in 0..3 {
        let root = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(root.path(), 700);
        let tree = descendants(agent.start_tree().pid.unwrap());
        assert!(agent.inject("1-pause", pause()).verified);
        std::thread::sleep(Duration::from_millis(150 * round));
        agent.kill_9();
        assert!(tree.iter().all(|pid| stat(*pid).unwrap().0 == 'T'), "still in force right after");
        wait_for("the ledger to empty", || {
            std::fs::read_dir(root.path().join("agent/ledger")).unwrap().next().is_none()
        });
        // The session's lease is out too: nothing that it started may run on.
        wait_for("the processes to end", || tree.iter().all(|pid| is_gone(*pid)));
    }
}

/// Their command lines are their interpreters', and what they become has another one altogether.
#[test]
fn scripts_are_started_like_programs() {
    use std::os::unix::fs::PermissionsExt;
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let bodies = [("waits", "echo \"$0 $2\"; sleep 1000; :"), ("becomes", "echo \"$0 $2\"; exec sleep 1000")];
    for (name, body) in bodies {
        let script = root.path().join(name);
        std::fs::write(&script, format!("#!/bin/sh -u\n{body}\n")).unwrap();
        std::fs::set_permissions(&script, std::fs::Permissions::from_mode(0o755)).unwrap();
        let log = format!("{name}.log");
        let start = StartProcess {
            name: name.to_owned(),
            argv: [script.to_str().unwrap(), "--one", "two words"].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            cwd: String::new(),
            log: log.clone(),
        };
        let status = agent.process(Request::Start(start));
        assert_eq!(status.state, ProcessState::Running, "{name}");
        let said = format!("{} two words\n", script.display());
        wait_for("the script's word", || {
            std::fs::read_to_string(root.path().join(&log)).is_ok_and(|text| text == said)
        });
        let stopped = agent.process(Request::Stop { name: name.to_owned(), signal: 15, grace_ms: 5000 });
        assert!(stopped.state == ProcessState::Gone && is_gone(status.pid.unwrap()), "{stopped:?}");
    }
    agent.shutdown();
}

#[test]
fn refuses_what_it_cannot_answer_for() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let address = |text: &str| text.parse().unwrap();
    let foreign = Fault::Drop(Drop { pairs: vec![(address("0.0.0.1"), address("0.0.0.2"))], by: DropBy::Nft });
    let refused = agent.ask(Request::Inject { id: "1-x".to_owned(), fault: foreign, lease_ms: 1000 }).unwrap_err();
    assert!(refused.message.contains("no address of this node"), "{refused}");
    let bad_id = agent.ask(Request::Inject { id: "../x".to_owned(), fault: pause(), lease_ms: 1000 }).unwrap_err();
    assert!(bad_id.message.contains("is no name"), "{bad_id}");
    let missing = StartProcess {
        name: "x".to_owned(),
        argv: vec!["/no/such/program".to_owned()],
        env: BTreeMap::new(),
        cwd: String::new(),
        log: "x.log".to_owned(),
    };
    let error = agent.ask(Request::Start(missing)).unwrap_err();
    assert!(error.message.contains("/no/such/program"), "{error}");
    assert!(std::fs::read_dir(root.path().join("agent/ledger")).unwrap().next().is_none());
    let old = agent.ask(Request::Hello { version: VERSION + 1, lease_ms: 0, again: false }).unwrap_err();
    assert!(old.message.contains("version"), "{old}");
    agent.shutdown();
}

//! Processes that die again and again; and agents that die whenever they like.

#[expect(dead_code, reason = "shared with other tests")]
mod common;
mod groups;
mod leftovers;

use common::{Agent, LONG_LEASE_MS, is_gone, stat, wait_for};
use groups::control_groups;
use leftovers::of_root;
use squall_agent::faults::Fault;
use squall_agent::faults::cpu::Cpu;
use squall_agent::faults::crash_loop::CrashLoop;
use squall_agent::faults::files::Files;
use squall_agent::faults::kill::Kill;
use squall_agent::faults::memory::Memory;
use squall_agent::faults::oom_kill::OomKill;
use squall_agent::faults::pause::Pause;
use squall_agent::faults::processes::Processes;
use squall_agent::faults::term::Term;
use squall_agent::protocol::{ProcessState, Request, StartProcess};
use std::collections::BTreeMap;
use std::time::Duration;

fn victim() -> String {
    "victim".to_owned()
}

fn start(script: &str) -> Request {
    Request::Start(StartProcess {
        name: victim(),
        argv: ["sh", "-c", script].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        cwd: String::new(),
        log: "victim.log".to_owned(),
    })
}

/// Whatever fault of processes was asked for and whenever the agent dies, even in the middle of it: by the end of the lease
/// nothing is left.
#[test]
fn fifty_kills_leave_nothing_behind() {
    let life = |n: u64| {
        let root = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(root.path(), 400);
        // Its child has the root in its command line, so that it is found whatever became of the agent.
        let script = format!("sh -c 'sleep 1000; : {}' & wait", root.path().display());
        let pid = match n % 10 {
            0 => {
                agent.send(&start(&script));
                None
            }
            _ => agent.process(start(&script)).pid,
        };
        let fault = match n % 10 {
            1 => Fault::Pause(Pause { process: victim() }),
            2 => Fault::Kill(Kill { process: victim() }),
            3 => Fault::Term(Term { process: victim(), grace_ms: 20 }),
            5 => Fault::Cpu(Cpu { process: victim(), share: 0.1 }),
            6 => Fault::Files(Files { process: victim(), left: 0 }),
            7 => Fault::Memory(Memory { process: victim(), more: 8 << 20 }),
            8 => Fault::Processes(Processes { process: victim(), left: 0 }),
            9 => Fault::OomKill(OomKill { process: victim() }),
            _ => Fault::CrashLoop(CrashLoop { process: victim(), lives_ms: (0, 9), again: 0, seed: n }),
        };
        agent.send(&Request::Inject { id: "1-x".to_owned(), fault, lease_ms: 60_000 });
        // Before it is read, in the middle of it, or when it is in force.
        std::thread::sleep(Duration::from_millis(n * 7 % 60));
        agent.kill_9();
        let ledger = root.path().join("agent/ledger");
        wait_for("the ledger to empty", || std::fs::read_dir(&ledger).unwrap().next().is_none());
        wait_for("the process to end", || pid.is_none_or(is_gone));
        wait_for("control groups to go", || control_groups(root.path()).is_empty());
        wait_for("processes, helpers and the watchdog to end", || of_root(root.path()).is_empty());
    };
    std::thread::scope(|scope| {
        for first in 0..10 {
            scope.spawn(move || (0..5).for_each(|n| life(first * 5 + n)));
        }
    });
}

#[test]
fn a_crash_loop_hits_every_life() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let first = agent.process(start("sleep 1000")).pid.unwrap();
    let fault = CrashLoop { process: victim(), lives_ms: (0, 20), again: 0, seed: 1 };
    assert!(agent.inject("1-crash-loop", Fault::CrashLoop(fault)).verified);
    assert!(is_gone(first));
    for _ in 0..5 {
        let life = agent.process(start("sleep 1000")).pid.unwrap();
        wait_for("the end of this life", || is_gone(life));
    }
    assert_eq!(agent.fault(Request::Heal { id: "1-crash-loop".to_owned() }).count, 6);
    let survivor = agent.process(start("sleep 1000")).pid.unwrap();
    std::thread::sleep(Duration::from_millis(100));
    let status = agent.process(Request::Status { name: victim() });
    assert_eq!((status.state, stat(survivor).is_some()), (ProcessState::Running, true));
    agent.shutdown();
    wait_for("the end", || is_gone(survivor));
}

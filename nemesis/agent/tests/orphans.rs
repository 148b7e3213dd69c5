//! What a session started ends with it, even when everybody is gone who would see to it.

#[expect(dead_code, reason = "shared with other tests")]
mod common;
mod leftovers;

use common::{Agent, LONG_LEASE_MS, is_gone, let_the_watchdog_look, stat, wait_for};
use leftovers::of_root;
use squall_agent::faults::Fault;
use squall_agent::faults::crash_loop::CrashLoop;
use squall_agent::protocol::{Request, StartProcess};
use std::collections::BTreeMap;

/// An interrupted test leaves a root that somebody removes.
#[test]
fn nothing_outlives_its_root() {
    for watchdog_dies in [false, true] {
        let root = tempfile::tempdir().unwrap();
        let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
        let start = |name: &str| {
            Request::Start(StartProcess {
                name: name.to_owned(),
                argv: ["sleep", "1000"].map(str::to_owned).to_vec(),
                env: BTreeMap::new(),
                cwd: String::new(),
                log: format!("{name}.log"),
            })
        };
        let calm = agent.process(start("calm")).pid.unwrap();
        agent.process(start("victim"));
        let fault = CrashLoop { process: "victim".to_owned(), lives_ms: (0, 9), again: 0, seed: 1 };
        assert!(agent.inject("1-crash-loop", Fault::CrashLoop(fault)).verified);
        let_the_watchdog_look();
        agent.kill_9();
        let is = |pid: &u32, what: &str| {
            let line = std::fs::read_to_string(format!("/proc/{pid}/cmdline")).unwrap_or_default();
            line.split('\0').any(|word| word == what)
        };
        let (mut helpers, mut watchdogs) = (of_root(root.path()), of_root(root.path()));
        helpers.retain(|pid| is(pid, "helper"));
        watchdogs.retain(|pid| is(pid, "watchdog"));
        assert_eq!((helpers.len(), watchdogs.len()), (1, 1));
        if watchdog_dies {
            let pid = nix::unistd::Pid::from_raw(watchdogs[0] as i32);
            nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGKILL).unwrap();
        }
        assert!(stat(helpers[0]).is_some() && stat(calm).is_some());
        // Somebody may just be writing there.
        wait_for("the root to go", || std::fs::remove_dir_all(root.path()).is_ok());
        wait_for("helper and watchdog to end", || of_root(root.path()).is_empty());
        if watchdog_dies {
            // Nobody knows of the program itself any more.
            let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(calm as i32), nix::sys::signal::Signal::SIGKILL);
        }
        wait_for("the program to end", || is_gone(calm));
    }
}

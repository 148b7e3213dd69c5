//! What an agent makes of a ledger that another boot has left. No machine is booted here: the ledger says that one was.

#[expect(dead_code, reason = "what it offers is for several tests")]
mod common;

use common::{Agent, is_gone};
use squall_agent::faults::Fault;
use squall_agent::faults::clock::OwnClock;
use squall_agent::faults::machine_down::MachineDown;
use squall_agent::faults::pause::Pause;
use squall_agent::protocol::{LedgerEntry, Reply, Request, StartProcess, VERSION};
use std::collections::BTreeMap;
use std::path::Path;

const LEASE_MS: u64 = 60_000;

fn own_boot() -> String {
    std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap().trim().to_owned()
}

/// Gives every entry of the ledger to another boot.
fn reboot(root: &Path) {
    for file in std::fs::read_dir(root.join("agent/ledger")).unwrap().flatten() {
        let text = std::fs::read_to_string(file.path()).unwrap();
        std::fs::write(file.path(), text.replace(&own_boot(), "another-boot")).unwrap();
    }
}

fn ledger(agent: &mut Agent) -> Vec<(String, bool)> {
    match agent.ask(Request::Ledger).unwrap() {
        Reply::Ledger(entries) => {
            entries.into_iter().map(|LedgerEntry { id, boot_id, .. }| (id, boot_id == own_boot())).collect()
        }
        other => panic!("{other:?}"),
    }
}

fn greet(agent: &mut Agent, again: bool) {
    assert!(matches!(agent.ask(Request::Hello { version: VERSION, lease_ms: LEASE_MS, again }), Ok(Reply::Hello(_))));
}

fn entry(id: &str) -> (String, bool) {
    (id.to_owned(), true)
}

#[test]
fn preparations_are_made_again_and_the_rest_is_struck() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LEASE_MS);
    let start = StartProcess {
        name: "sleeper".to_owned(),
        argv: ["sleep", "1000"].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        cwd: String::new(),
        log: "sleeper.log".to_owned(),
    };
    let pid = agent.process(Request::Start(start)).pid.unwrap();
    agent.inject("0-prepared-0", Fault::OwnClock(OwnClock { process: "other".to_owned() }));
    agent.inject("1-pause", Fault::Pause(Pause { process: "sleeper".to_owned() }));
    assert_eq!(ledger(&mut agent), [entry("0-prepared-0"), entry("1-pause")]);

    // In the same boot a greeting changes nothing.
    greet(&mut agent, true);
    assert_eq!(ledger(&mut agent), [entry("0-prepared-0"), entry("1-pause")]);

    reboot(root.path());
    greet(&mut agent, true);
    assert_eq!(ledger(&mut agent), [entry("0-prepared-0")], "as of this boot");

    // Another session does not go on with it.
    reboot(root.path());
    greet(&mut agent, false);
    assert_eq!(ledger(&mut agent), []);
    agent.shutdown();
    assert!(is_gone(pid));
}

#[test]
fn a_machine_is_not_taken_down_twice_and_never_one_that_is_shared() {
    let root = tempfile::tempdir().unwrap();
    let mut agent = Agent::start(root.path(), LEASE_MS);
    let down = |other: &str| {
        let fault = Fault::MachineDown(MachineDown { orderly: false, other_boots: vec![other.to_owned()] });
        Request::Inject { id: "1-power-off".to_owned(), fault, lease_ms: LEASE_MS }
    };
    let refused = agent.ask(down(&own_boot())).unwrap_err();
    assert!(refused.message.contains("its kernel is also the controller's"), "{refused}");
    assert_eq!(ledger(&mut agent), []);

    // Asked again after the boot, because the answer was lost: what is in the ledger is only measured.
    let entry = LedgerEntry {
        id: "1-power-off".to_owned(),
        fault: Fault::MachineDown(MachineDown { orderly: false, other_boots: vec![own_boot()] }),
        deadline_boottime_ns: u64::MAX,
        boot_id: "another-boot".to_owned(),
    };
    let file = root.path().join("agent/ledger/1-power-off.json");
    std::fs::write(&file, serde_json::to_vec(&entry).unwrap()).unwrap();
    greet(&mut agent, true);
    let seen = agent.fault(down(&own_boot()));
    assert!(seen.verified && seen.seen == "booted anew", "{seen:?}");
    assert!(agent.fault(Request::Heal { id: "1-power-off".to_owned() }).verified);

    // Of another session it is of no interest.
    std::fs::write(&file, serde_json::to_vec(&entry).unwrap()).unwrap();
    greet(&mut agent, false);
    assert_eq!(ledger(&mut agent), []);
    agent.shutdown();
}

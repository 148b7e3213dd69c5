//! Faults on files at rest: what they leave, and what healing puts back.

#[expect(dead_code, reason = "shared with other tests")]
mod common;

use common::{Agent, LONG_LEASE_MS};
use squall_agent::faults::Fault;
use squall_agent::faults::damage::{Damage, How};
use squall_agent::faults::restore::Restore;
use squall_agent::faults::snapshot::Snapshot;
use squall_agent::protocol::{Evidence, Request};
use std::fs;
use std::os::unix::fs::PermissionsExt;

fn damage(how: How, path: &str, seed: u64) -> Fault {
    Fault::Damage(Damage { dirs: vec!["data".to_owned()], path: path.to_owned(), how, seed })
}

fn heal(agent: &mut Agent, id: &str) -> Evidence {
    agent.fault(Request::Heal { id: id.to_owned() })
}

#[test]
fn damage_is_what_it_says_and_is_put_back() {
    let root = tempfile::tempdir().unwrap();
    let dir = root.path().join("data/wal");
    fs::create_dir_all(&dir).unwrap();
    let content: Vec<u8> = (0..20_000u32).map(|n| (n / 4096) as u8 + 1).collect();
    let (log, other) = (dir.join("1.log"), dir.join("other"));
    fs::write(&log, &content).unwrap();
    fs::write(&other, "not hit").unwrap();
    fs::set_permissions(&log, fs::Permissions::from_mode(0o640)).unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    for (name, how) in How::ALL {
        for seed in 0..5 {
            let seen = agent.inject("1-damage", damage(how, "*.log", seed));
            assert!(seen.verified && seen.seen.contains("data/wal/1.log"), "{name}: {seen:?}");
            assert!(agent.fault(Request::Measure { id: "1-damage".to_owned() }).verified);
            let now = fs::read(&log).ok();
            let differ = |now: &[u8]| now.iter().zip(&content).filter(|(a, b)| a != b).count();
            match (how, now) {
                (How::BitFlip, Some(now)) => assert_eq!((now.len(), differ(&now)), (20_000, 1)),
                (How::Truncate, Some(now)) => assert!(now.len() < 20_000 && content.starts_with(&now)),
                (How::Zero, Some(now)) => assert!(now.contains(&0) && differ(&now) <= 4096 && differ(&now) > 0),
                (How::Copy, Some(now)) => assert!(!now.contains(&0) && differ(&now) <= 4096 && differ(&now) > 0),
                (How::Delete, None) => {}
                (how, now) => panic!("{how:?}: {now:?}"),
            }
            assert!(heal(&mut agent, "1-damage").verified);
            assert_eq!(fs::read(&log).unwrap(), content, "{name}");
            assert_eq!(fs::metadata(&log).unwrap().permissions().mode() & 0o777, 0o640);
        }
    }
    assert_eq!(fs::read(&other).unwrap(), b"not hit");
    // Somebody has written the file since: nothing of that is taken away.
    agent.inject("2-damage", damage(How::Truncate, "*.log", 1));
    fs::write(&log, "written since").unwrap();
    assert!(!agent.fault(Request::Measure { id: "2-damage".to_owned() }).verified);
    assert!(heal(&mut agent, "2-damage").seen.contains("stays"));
    assert_eq!(fs::read(&log).unwrap(), b"written since");
    let nothing = agent.inject("3-damage", damage(How::Zero, "*.none", 1));
    assert!(!nothing.verified && nothing.seen.contains("no file is called *.none"), "{nothing:?}");
    heal(&mut agent, "3-damage");
    assert!(fs::read_dir(root.path().join("agent/kept")).unwrap().next().is_none(), "no copies are left");
    agent.shutdown();
}

#[test]
fn directories_are_rolled_back() {
    let root = tempfile::tempdir().unwrap();
    let data = root.path().join("data");
    fs::create_dir_all(data.join("wal")).unwrap();
    fs::write(data.join("wal/1"), "old").unwrap();
    std::os::unix::fs::symlink("wal/1", data.join("current")).unwrap();
    let mut agent = Agent::start(root.path(), LONG_LEASE_MS);
    let dirs = || vec!["data".to_owned()];
    let kept = agent.inject("1-then", Fault::Snapshot(Snapshot { dirs: dirs() }));
    assert!(kept.verified && kept.count == 1, "{kept:?}");
    fs::write(data.join("wal/1"), "new").unwrap();
    fs::write(data.join("wal/2"), "newer").unwrap();
    fs::remove_file(data.join("current")).unwrap();
    let restore = || Fault::Restore(Restore { dirs: dirs(), snapshot: "1-then".to_owned() });
    let back = agent.inject("2-back", restore());
    assert!(back.verified && back.seen.contains("sha256"), "{back:?}");
    assert_eq!(fs::read(data.join("current")).unwrap(), b"old");
    assert!(!data.join("wal/2").exists());
    for id in ["2-back", "1-then"] {
        assert!(heal(&mut agent, id).verified);
    }
    assert!(!root.path().join("agent/kept/1-then").exists());
    let missing = Request::Inject { id: "3-back".to_owned(), fault: restore(), lease_ms: 1000 };
    assert!(agent.ask(missing).unwrap_err().message.contains("no snapshot"));
    agent.shutdown();
}

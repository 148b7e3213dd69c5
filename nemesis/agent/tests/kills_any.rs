//! Agents that die whenever they like, with a fault of any other family than processes': links, packets, disks, files at
//! rest, clocks. By the end of the lease nothing is left.

#[expect(dead_code, reason = "shared with other tests")]
mod common;
mod leftovers;
#[expect(dead_code, reason = "shared with other tests")]
#[path = "support/net.rs"]
mod net;

use common::{Agent, LONG_LEASE_MS, wait_for};
use leftovers::of_root;
use net::Net;
use squall_agent::disk::{DiskError, DiskOp, Impairment as DiskImpairment, Lose, Rule, When};
use squall_agent::faults::Fault;
use squall_agent::faults::clock::{Clock, ClockShift, OwnClock};
use squall_agent::faults::damage::{Damage, How};
use squall_agent::faults::disk::Disk;
use squall_agent::faults::disk_rule::DiskRule;
use squall_agent::faults::drop::{Drop, DropBy};
use squall_agent::faults::link::{Impairment, Link};
use squall_agent::faults::power_cut::PowerCut;
use squall_agent::faults::restore::Restore;
use squall_agent::faults::snapshot::Snapshot;
use squall_agent::protocol::{Request, StartProcess};
use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

/// What the session's lease is when the fault comes (milliseconds).
const LEASE_MS: u64 = 400;

/// How long after the fault was asked for the agent dies, at most (milliseconds).
const DEATH_MS_MAX: u64 = 120;

/// SplitMix64 (G. Steele and others, 2014).
struct Random(u64);

impl Random {
    fn below(&mut self, end: u64) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        (z ^ (z >> 31)) % end
    }

    fn of<T: Clone>(&mut self, choice: &[T]) -> T {
        choice[self.below(choice.len() as u64) as usize].clone()
    }
}

fn user() -> String {
    "user".to_owned()
}

fn data() -> String {
    "data".to_owned()
}

/// What is there before the fault, and the fault.
fn any_fault(random: &mut Random) -> (Vec<(&'static str, Fault)>, Fault) {
    let seed = random.below(1000);
    let (a, b) = Net::pair(random.below(2) == 1);
    let disk = || vec![("0-disk", Fault::Disk(Disk { dir: data(), directories: None }))];
    let dirs = vec![data()];
    match random.below(6) {
        0 => {
            let (to, by) = random.of(&[(b, DropBy::RouterRules), ("10.78.1.1".parse().unwrap(), DropBy::Nft)]);
            let from = if by == DropBy::Nft { "10.78.1.2".parse().unwrap() } else { a };
            (Vec::new(), Fault::Drop(Drop { pairs: vec![(from, to)], by }))
        }
        1 => {
            let impairment = random.of(&[
                Impairment::Delay { delay_us: 50_000, jitter_us: 1000, keep_order: true },
                Impairment::Loss { probability: 0.5, burst: 1.0 },
                Impairment::Clog { after_us: 0, until_us: None },
            ]);
            (Vec::new(), Fault::Link(Link { pairs: vec![(a, b), (b, a)], impairment, seed }))
        }
        2 => {
            let effect = random.of(&[
                DiskImpairment::Hang,
                DiskImpairment::Slow { delay_ms: 20 },
                DiskImpairment::Fail(DiskError::Io),
                DiskImpairment::LoseOnFsync,
            ]);
            let ops = vec![DiskOp::Write, DiskOp::Fsync];
            let rule = Rule { ops, path: "**".to_owned(), when: When::Always, effect, seed };
            (disk(), Fault::DiskRule(DiskRule { dir: data(), rule }))
        }
        3 => {
            let lose = random.of(&[Lose::All, Lose::Subset, Lose::Torn, Lose::Sequence]);
            (disk(), Fault::PowerCut(PowerCut { process: user(), dirs, lose, seed }))
        }
        4 => {
            let how = random.of(&How::ALL).1;
            let damage = Fault::Damage(Damage { dirs, path: "kept".to_owned(), how, seed });
            let restore = Fault::Restore(Restore { dirs: vec!["old".to_owned()], snapshot: "0-snapshot".to_owned() });
            let snapshot = Fault::Snapshot(Snapshot { dirs: vec!["old".to_owned()] });
            random.of(&[(Vec::new(), damage), (vec![("0-snapshot", snapshot)], restore)])
        }
        _ => {
            let shift = random.of(&[
                ClockShift::Bump { offset_ms: -3_600_000 },
                ClockShift::Freeze,
                ClockShift::Drift { ppm: 100_000 },
            ]);
            let own = vec![("0-clock", Fault::OwnClock(OwnClock { process: user() }))];
            (own, Fault::Clock(Clock { process: user(), shift, monotonic: seed.is_multiple_of(2) }))
        }
    }
}

/// What of ours is in the router's network.
fn left_in(net: &Net) -> String {
    net.router.run(|| {
        let run = |program: &str, arguments: &[&str]| {
            let output = Command::new(program).args(arguments).output().unwrap();
            String::from_utf8_lossy(&output.stdout).into_owned()
        };
        let rules = [run("ip", &["rule"]), run("ip", &["-6", "rule"])].concat();
        let rules = rules.lines().filter(|line| line.starts_with("77"));
        let links = run("ip", &["-o", "link"]);
        let links = links.lines().filter(|line| !line.contains(": lo:") && !line.contains(": node"));
        let tables = run("nft", &["list", "tables"]);
        rules.chain(links).chain(tables.lines()).collect::<Vec<_>>().join("\n")
    })
}

fn mounts_below(root: &Path) -> usize {
    let mounts = std::fs::read_to_string("/proc/self/mounts").unwrap();
    mounts.lines().filter(|line| line.contains(root.to_str().unwrap())).count()
}

/// Whether the fault was on record when the agent died.
fn life(net: &Net, n: u64) -> bool {
    let mut random = Random(n);
    let root = tempfile::tempdir().unwrap();
    for dir in ["data", "old"] {
        std::fs::create_dir(root.path().join(dir)).unwrap();
    }
    let content: Vec<u8> = (0..20_000u32).map(|n| (n / 4096) as u8 + 1).collect();
    std::fs::write(root.path().join("data/kept"), &content).unwrap();
    std::fs::write(root.path().join("old/kept"), &content).unwrap();
    let path = root.path().to_owned();
    let mut agent = net.router.run(move || Agent::start(&path, LONG_LEASE_MS));
    let (before, fault) = any_fault(&mut random);
    for (id, fault) in before {
        assert!(agent.fault(Request::Inject { id: id.to_owned(), fault, lease_ms: 0 }).verified, "{n}: {id}");
    }
    // The root in its command line, so that it is found whatever became of the agent.
    let file = root.path().join("data/file");
    let script = format!("while :; do date >>{0}; sync {0}; sleep 0.01; done", file.display());
    let start = Request::Start(StartProcess {
        name: user(),
        argv: ["sh", "-c", &script].map(str::to_owned).to_vec(),
        env: BTreeMap::new(),
        cwd: String::new(),
        log: "user.log".to_owned(),
    });
    agent.process(start);
    std::fs::write(root.path().join("old/kept"), "newer").unwrap();
    let what = format!("life {n}, {fault:?}");
    agent.ask(Request::Renew { lease_ms: LEASE_MS }).unwrap();
    let is_damage = matches!(fault, Fault::Damage(_));
    agent.send(&Request::Inject { id: "1-x".to_owned(), fault, lease_ms: 60_000 });
    // Before it is read, in the middle of it, or when it is in force.
    std::thread::sleep(Duration::from_millis(random.below(DEATH_MS_MAX)));
    agent.kill_9();
    let ledger = root.path().join("agent/ledger");
    let was_on_record = ledger.join("1-x.json").exists();
    wait_for(&format!("{what}: the ledger to empty"), || std::fs::read_dir(&ledger).unwrap().next().is_none());
    wait_for(&format!("{what}: all processes to end"), || of_root(root.path()).is_empty());
    wait_for(&format!("{what}: rules and links to go"), || left_in(net).is_empty());
    assert_eq!(mounts_below(root.path()), 0, "{what}");
    let kept = std::fs::read_dir(root.path().join("agent/kept")).map_or(0, |dir| dir.count());
    assert_eq!(kept, 0, "{what}: copies are left");
    if is_damage {
        assert!(std::fs::read(root.path().join("data/kept")).unwrap() == content, "{what}: the damage is still there");
    }
    was_on_record
}

#[test]
fn fifty_kills_with_any_fault_leave_nothing_behind() {
    if !nix::unistd::geteuid().is_root() || std::fs::File::open("/dev/fuse").is_err() {
        println!("skipped: needs root and /dev/fuse");
        return;
    }
    if cfg!(not(target_arch = "x86_64")) {
        println!("skipped: clock faults need x86-64");
        return;
    }
    let on_record = AtomicU64::new(0);
    std::thread::scope(|scope| {
        for first in 0..5 {
            let on_record = &on_record;
            scope.spawn(move || match Net::up() {
                Ok(net) => (0..10).for_each(|n| {
                    on_record.fetch_add(u64::from(life(&net, first * 10 + n)), Ordering::Relaxed);
                }),
                Err(why) => println!("skipped: {why}"),
            });
        }
    });
    println!("50 kills, {} of them with the fault on record", on_record.into_inner());
}

//! Faults of links as they are seen by real sockets on two nodes with a router between them, and what is left of them when
//! controller, agent or shaper die.
//!
//! Needs root and /dev/net/tun; where one is missing the tests say so and are skipped.
#![cfg(target_os = "linux")]

mod support;

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_agent::faults::Fault;
use squall_agent::faults::link::{Impairment, Link};
use squall_agent::protocol::Request;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream, UdpSocket};
use std::path::Path;
use std::time::{Duration, Instant};
use support::agent::Agent;
use support::net::{Net, receive};

/// Nothing came for this long: nothing comes.
const SILENCE: Duration = Duration::from_millis(300);

/// Longer than any machine should need for what is not delayed.
const PATIENCE: Duration = Duration::from_secs(10);

/// The network, or `None` and why.
fn net() -> Option<Net> {
    Net::up().inspect_err(|why| eprintln!("skipped: {why}")).ok()
}

fn start(net: &Net, root: &Path, lease_ms: u64) -> Agent {
    let root = root.to_owned();
    net.router.run(move || Agent::start(&root, lease_ms))
}

/// From a to b.
fn forth(is_v6: bool, impairment: Impairment) -> Fault {
    Fault::Link(Link { pairs: vec![Net::pair(is_v6)], impairment, seed: 7 })
}

fn delay(ms: u64) -> Impairment {
    Impairment::Delay { delay_us: ms * 1000, jitter_us: 0, keep_order: true }
}

const CLOG: Impairment = Impairment::Clog { after_us: 0, until_us: None };

const CERTAIN_LOSS: Impairment = Impairment::Loss { probability: 1.0, burst: 1.0 };

/// One datagram after the other.
fn send(socket: &UdpSocket, datagrams: impl Iterator<Item = Vec<u8>>) {
    for datagram in datagrams {
        socket.send(&datagram).unwrap();
    }
}

/// All datagrams that come until there is silence.
fn drain(socket: &UdpSocket) -> Vec<Vec<u8>> {
    socket.set_read_timeout(Some(SILENCE)).unwrap();
    let mut buffer = [0; 2000];
    let mut all = Vec::new();
    while let Ok(len) = receive(socket, &mut buffer) {
        all.push(buffer[..len].to_vec());
    }
    all
}

/// The shortest of a few ways there and back.
fn round_trip(a: &UdpSocket, b: &UdpSocket) -> Duration {
    let mut buffer = [0; 8];
    let once = || {
        a.set_read_timeout(Some(PATIENCE)).unwrap();
        b.set_read_timeout(Some(PATIENCE)).unwrap();
        let begun = Instant::now();
        a.send(b"there").unwrap();
        receive(b, &mut buffer).unwrap();
        b.send(b"and back").unwrap();
        receive(a, &mut buffer).unwrap();
        begun.elapsed()
    };
    std::iter::repeat_with(once).take(3).min().unwrap()
}

/// What the router has of ours: rules and interfaces.
fn traces(net: &Net) -> Vec<String> {
    net.router.run(|| {
        let lines = |arguments: &[&str]| {
            let output = std::process::Command::new("ip").args(arguments).output().unwrap();
            String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect::<Vec<_>>()
        };
        let all = [lines(&["rule"]), lines(&["-6", "rule"]), lines(&["-o", "link"])].concat();
        all.into_iter().filter(|line| line.contains("squall") || line.starts_with("77")).collect()
    })
}

fn wait_for(what: &str, mut done: impl FnMut() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(30), "gave up waiting for: {what}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Process id of the shaper of this root.
fn shaper(root: &Path) -> Option<i32> {
    let record = std::fs::read(root.join("agent/processes/helper.shaper.router.json")).ok()?;
    let record: serde_json::Value = serde_json::from_slice(&record).ok()?;
    let pid = record["pid"].as_i64()? as i32;
    std::fs::read_to_string(format!("/proc/{pid}/cmdline")).is_ok_and(|line| line.contains("shaper")).then_some(pid)
}

fn kill_9(pid: i32) {
    // It may have ended in this moment.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(pid), nix::sys::signal::Signal::SIGKILL);
}

#[test]
fn delays_add_up_and_end_one_by_one() {
    let Some(net) = net() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut agent = start(&net, root.path(), 0);
    for is_v6 in [false, true] {
        let (a, b) = net.sockets(is_v6);
        let ms = Duration::from_millis;
        assert!(round_trip(&a, &b) < ms(100));
        agent.inject("1-delay", forth(is_v6, delay(100)));
        agent.inject("2-delay", forth(is_v6, delay(150)));
        assert!(round_trip(&a, &b) >= ms(250));
        agent.heal("1-delay");
        let alone = round_trip(&a, &b);
        assert!(alone >= ms(150) && alone < ms(250), "{alone:?}");
        let seen = agent.heal("2-delay");
        assert_eq!((seen.count, seen.unit.as_str()), (6, "packets delayed"));
        assert!(round_trip(&a, &b) < ms(100));
        assert_eq!(traces(&net), [""; 0]);
    }
    agent.shutdown();
}

#[test]
fn lost_one_way_doubled_held_and_back() {
    let Some(net) = net() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut agent = start(&net, root.path(), 0);
    for is_v6 in [false, true] {
        let (a, b) = net.sockets(is_v6);
        agent.inject("1-loss", forth(is_v6, CERTAIN_LOSS));
        for n in 0..10 {
            a.send(&[n]).unwrap();
            b.send(&[n]).unwrap();
        }
        assert_eq!((drain(&b).len(), drain(&a).len()), (0, 10));
        assert_eq!(agent.measure("1-loss").count, 10);
        agent.heal("1-loss");

        agent.inject("2-duplicate", forth(is_v6, Impairment::Duplicate { probability: 1.0 }));
        send(&a, (0..10).map(|n| vec![n]));
        assert_eq!(drain(&b), (0..10).flat_map(|n| [vec![n], vec![n]]).collect::<Vec<_>>());
        agent.heal("2-duplicate");

        agent.inject("3-clog", forth(is_v6, CLOG));
        send(&a, (0..10).map(|n| vec![n]));
        assert_eq!(drain(&b).len(), 0);
        assert_eq!(agent.heal("3-clog").count, 10);
        assert_eq!(drain(&b), (0..10).map(|n| vec![n]).collect::<Vec<_>>());

        agent.inject("4-reorder", forth(is_v6, Impairment::Reorder { probability: 0.5, by_us: 50_000 }));
        send(&a, (0..20).map(|n| vec![n]));
        let came = drain(&b);
        assert!(came.len() == 20 && !came.is_sorted(), "{came:?}");
        agent.heal("4-reorder");
    }
    assert_eq!(traces(&net), [""; 0]);
    agent.shutdown();
}

#[test]
fn damage_is_dropped_by_the_kernel_or_seen_by_the_application() {
    let Some(net) = net() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut agent = start(&net, root.path(), 0);
    for is_v6 in [false, true] {
        let (a, b) = net.sockets(is_v6);
        let corrupt = |deliver| forth(is_v6, Impairment::Corrupt { probability: 1.0, bits: 3, deliver });
        let payload = [0x55; 100];
        agent.inject("1-corrupt", corrupt(false));
        send(&a, (0..10).map(|_| payload.to_vec()));
        assert_eq!(drain(&b).len(), 0);
        assert_eq!(agent.heal("1-corrupt").count, 10);
        agent.inject("2-corrupt", corrupt(true));
        send(&a, (0..10).map(|_| payload.to_vec()));
        let came = drain(&b);
        assert_eq!(came.len(), 10);
        assert!(came.iter().all(|datagram| datagram.len() == 100 && datagram != &payload), "{came:?}");
        agent.heal("2-corrupt");
    }
    agent.shutdown();
}

#[test]
fn a_narrow_link_is_narrow() {
    let Some(net) = net() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut agent = start(&net, root.path(), 0);
    let (a, b) = net.sockets(false);
    // 40 packets of 1028 bytes with their headers, of which 10 pass at once, at 100 a second.
    let rate = Impairment::Rate { bits_per_s: 822_400, burst_bytes: 10_280, queue_bytes: 1_000_000 };
    agent.inject("1-rate", forth(false, rate));
    let begun = Instant::now();
    send(&a, (0..40).map(|_| vec![0; 1000]));
    b.set_read_timeout(Some(PATIENCE)).unwrap();
    for _ in 0..40 {
        receive(&b, &mut [0; 1000]).unwrap();
    }
    assert!(begun.elapsed() >= Duration::from_millis(300), "{:?}", begun.elapsed());
    agent.heal("1-rate");
    // What does not fit is lost.
    let small = Impairment::Rate { bits_per_s: 822_400, burst_bytes: 0, queue_bytes: 10_280 };
    agent.inject("2-rate", forth(false, small));
    send(&a, (0..40).map(|_| vec![0; 1000]));
    let came = drain(&b).len();
    assert!((10..30).contains(&came), "{came}");
    assert!(agent.measure("2-rate").seen.contains("did not fit"), "{:?}", agent.measure("2-rate"));
    agent.shutdown();
}

#[test]
fn both_ends_of_a_connection_are_reset() {
    let Some(net) = net() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut agent = start(&net, root.path(), 0);
    for is_v6 in [false, true] {
        let (_, b) = Net::pair(is_v6);
        let listener = net.b.run(move || TcpListener::bind((b, 0)).unwrap());
        let address = listener.local_addr().unwrap();
        let connect = || {
            let client = net.a.run(move || TcpStream::connect(address).unwrap());
            let server = listener.accept().unwrap().0;
            for stream in [&client, &server] {
                stream.set_read_timeout(Some(PATIENCE)).unwrap();
            }
            (client, server)
        };
        let (mut client, mut server) = connect();
        let mut buffer = [0; 10];
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut buffer[..5]).unwrap();
        agent.inject("1-reset", forth(is_v6, Impairment::Reset { probability: 1.0 }));
        client.write_all(b"again").unwrap();
        for stream in [&mut client, &mut server] {
            let error = stream.read(&mut buffer).unwrap_err();
            assert_eq!(error.raw_os_error(), Some(nix::libc::ECONNRESET), "{error}");
        }
        assert!(agent.heal("1-reset").count >= 1);
        let (mut client, mut server) = connect();
        client.write_all(b"hello").unwrap();
        server.read_exact(&mut buffer[..5]).unwrap();
    }
    agent.shutdown();
}

#[test]
fn what_ends_in_the_router_is_refused() {
    let Some(net) = net() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut agent = start(&net, root.path(), 0);
    let ends_here = Link { pairs: vec![(Net::pair(false).0, "10.78.2.1".parse().unwrap())], impairment: CLOG, seed: 7 };
    let never = Link { pairs: vec![Net::pair(false)], impairment: Impairment::Duplicate { probability: 2.0 }, seed: 7 };
    for (link, expected) in [(ends_here, "10.78.2.1 ends here"), (never, "at most 1, not 2")] {
        let inject = Request::Inject { id: "1-bad".to_owned(), fault: Fault::Link(link), lease_ms: 1000 };
        let error = agent.ask(inject).unwrap_err().to_string();
        assert!(error.contains(expected), "{error}");
    }
    assert_eq!((traces(&net), shaper(root.path())), (Vec::new(), None));
    agent.shutdown();
}

#[test]
fn packets_pass_as_soon_as_the_shaper_is_dead() {
    let Some(net) = net() else { return };
    let root = tempfile::tempdir().unwrap();
    let mut agent = start(&net, root.path(), 0);
    let (a, b) = net.sockets(false);
    agent.inject("1-loss", forth(false, CERTAIN_LOSS));
    a.send(b"lost").unwrap();
    assert_eq!(drain(&b).len(), 0);
    kill_9(shaper(root.path()).unwrap());
    wait_for("packets to pass", || {
        a.send(b"passes").unwrap();
        receive(&b, &mut [0; 10]).is_ok()
    });
    let seen = agent.measure("1-loss");
    assert!(!seen.verified && seen.seen.contains("packets pass"), "{seen:?}");
    // The next fault gets a shaper of its own, and the first one's end leaves it alone.
    agent.inject("2-duplicate", forth(false, Impairment::Duplicate { probability: 1.0 }));
    let healed = agent.fault(Request::Heal { id: "1-loss".to_owned() });
    assert!(!healed.verified && healed.seen.contains("before its end"), "{healed:?}");
    drain(&b);
    a.send(b"twice").unwrap();
    assert_eq!(drain(&b).len(), 2);
    agent.heal("2-duplicate");
    assert_eq!(traces(&net), [""; 0]);
    agent.shutdown();
}

#[test]
fn random_kills_leave_nothing_behind() {
    let Some(net) = net() else { return };
    let rounds = std::env::var("SQUALL_KILL_ROUNDS").ok().and_then(|text| text.parse().ok()).unwrap_or(10);
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let (a, b) = net.sockets(false);
    for round in 0..rounds {
        let root = tempfile::tempdir().unwrap();
        let mut agent = start(&net, root.path(), 500);
        let impairments = [delay(100), CERTAIN_LOSS, CLOG];
        for (n, impairment) in impairments.iter().take(rng.random_range(1..=3)).enumerate() {
            agent.inject(&format!("{n}-fault"), forth(false, *impairment));
        }
        a.send(b"on its way").unwrap();
        std::thread::sleep(Duration::from_millis(rng.random_range(0..100)));
        // The agent dies in all cases: nobody renews the lease. With it the shaper, before, after, or not.
        let dying = shaper(root.path()).unwrap();
        match rng.random_range(0..3) {
            0 => agent.kill_9(),
            1 => {
                kill_9(dying);
                agent.kill_9();
            }
            _ => {
                agent.kill_9();
                std::thread::sleep(Duration::from_millis(rng.random_range(0..400)));
                kill_9(dying);
            }
        }
        wait_for("rules and interface to go", || traces(&net).is_empty());
        wait_for("the ledger to empty", || {
            std::fs::read_dir(root.path().join("agent/ledger")).unwrap().next().is_none()
        });
        assert_eq!(shaper(root.path()), None, "round {round}");
        drain(&b);
        assert!(round_trip(&a, &b) < Duration::from_millis(100), "round {round}");
    }
}

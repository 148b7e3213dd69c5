//! Against real etcds on loopback. Where there is no etcd these tests say so and do nothing.
//!
//! Every cluster has addresses of its own in 127.0.0.0/8, so that etcd's usual ports are free on them whatever else runs.

use super::*;
use squall_checkers::{Sym, Value};
use squall_harness::config::Doc;
use squall_harness::{Op, Outcome};
use std::net::Ipv4Addr;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

/// A real cluster; its processes end with it.
struct Real {
    members: Vec<Member>,
    processes: Vec<Child>,
    dir: tempfile::TempDir,
}

impl Drop for Real {
    fn drop(&mut self) {
        for process in &mut self.processes {
            let _ = process.kill();
            let _ = process.wait();
        }
    }
}

fn target() -> Etcd {
    Etcd {
        program: "etcd".to_owned(),
        install: false,
        serializable: false,
        heartbeat: Duration::from_millis(100),
        election_timeout: Duration::from_millis(500),
        unsafe_no_fsync: true,
        args: Vec::new(),
    }
}

impl Real {
    /// `nodes` members that know a leader; `None`, with a word about it, without etcd. `test` tells clusters apart.
    async fn start(test: u8, nodes: u8) -> Option<Self> {
        let found = Command::new("etcd").arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
        if !found.is_ok_and(|status| status.success()) {
            println!("SKIPPED: there is no etcd here; {HOW_TO_INSTALL}");
            return None;
        }
        let [_, _, high, low] = std::process::id().to_be_bytes();
        let member = |n: u8| Member {
            name: format!("n{n}"),
            // Process, test and member are all in the address; 127.0 stays for everybody else.
            address: IpAddr::V4(Ipv4Addr::new(127, 1 + high % 250, low, test * 16 + n)),
        };
        let members: Vec<Member> = (1..=nodes).map(member).collect();
        let dir = tempfile::tempdir().unwrap();
        let mut real = Self { members, processes: Vec::new(), dir };
        for at in 0..real.members.len() {
            real.launch(at);
        }
        real.wait_ready().await;
        Some(real)
    }

    fn launch(&mut self, at: usize) {
        let own = &self.members[at];
        let root = self.dir.path().join(&own.name);
        std::fs::create_dir_all(root.join("data")).unwrap();
        let argv = target().argv(&self.members, own, root.to_str().unwrap(), "new");
        let log = std::fs::File::create(root.join("etcd.log")).unwrap();
        let process = Command::new(&argv[0])
            .args(&argv[1..])
            .env("ETCD_UNSUPPORTED_ARCH", std::env::consts::ARCH)
            .stdin(Stdio::null())
            .stdout(log.try_clone().unwrap())
            .stderr(log)
            .spawn();
        self.processes.push(process.unwrap());
    }

    async fn states(&self) -> Vec<anyhow::Result<Json>> {
        futures::future::join_all(self.members.iter().map(|member| status(member.address))).await
    }

    async fn wait_ready(&mut self) {
        let deadline = Instant::now() + Duration::from_secs(120);
        loop {
            let states = self.states().await;
            if leader(&states).is_some() && states.iter().all(|state| state.as_ref().is_ok_and(knows_leader)) {
                return;
            }
            for (member, process) in self.members.iter().zip(&mut self.processes) {
                if let Some(code) = process.try_wait().unwrap() {
                    let log = self.dir.path().join(&member.name).join("etcd.log");
                    panic!("{} ended with {code}: {}", member.name, std::fs::read_to_string(log).unwrap());
                }
            }
            assert!(Instant::now() < deadline, "no leader: {states:?}");
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    }

    fn client(&self, at: usize, serializable: bool) -> RegisterClient {
        client_of(self.members[at].address, serializable).unwrap()
    }

    fn kill(&mut self, at: usize) {
        self.processes[at].kill().unwrap();
        self.processes[at].wait().unwrap();
    }
}

async fn invoke(client: &mut RegisterClient, f: &str, value: Value) -> Outcome {
    client.invoke(&Op { process: 0, f: Sym::new(f), key: Value::Int(3), value }).await
}

fn pair(expected: Value, new: i64) -> Value {
    Value::list([expected, Value::Int(new)])
}

#[tokio::test]
async fn a_single_node_keeps_registers() {
    let Some(mut real) = Real::start(1, 1).await else { return };
    let mut client = real.client(0, false);
    let mismatch = Outcome::Fail(Sym::new("mismatch"));
    let int = Value::Int;
    let steps = [
        ("read", Value::Nil, Outcome::Ok(Value::Nil)),
        ("cas", pair(int(1), 2), mismatch.clone()),
        ("cas", pair(Value::Nil, 1), Outcome::Ok(pair(Value::Nil, 1))),
        ("cas", pair(Value::Nil, 2), mismatch.clone()),
        ("read", Value::Nil, Outcome::Ok(int(1))),
        ("write", int(5), Outcome::Ok(int(5))),
        ("cas", pair(int(1), 6), mismatch),
        ("cas", pair(int(5), 6), Outcome::Ok(pair(int(5), 6))),
        ("read", Value::Nil, Outcome::Ok(int(6))),
        ("write", int(-7), Outcome::Ok(int(-7))),
        ("read", Value::Nil, Outcome::Ok(int(-7))),
    ];
    for (f, value, outcome) in steps {
        assert_eq!(invoke(&mut client, f, value.clone()).await, outcome, "{f} {value}");
    }
    let mut local = real.client(0, true);
    assert_eq!(invoke(&mut local, "read", Value::Nil).await, Outcome::Ok(int(-7)));

    real.kill(0);
    // The kept connection may be what is noticed first; a fresh client can only be refused.
    let mut fresh = real.client(0, false);
    assert_eq!(invoke(&mut fresh, "write", int(8)).await, Outcome::Fail(Sym::new("connection refused")));
    assert!(status(real.members[0].address).await.is_err());
}

#[tokio::test]
async fn without_a_majority_writes_are_unknown_and_only_serializable_reads_answer() {
    let Some(mut real) = Real::start(2, 3).await else { return };
    let first = leader(&real.states().await).unwrap();
    let survivor = (first + 1) % 3;
    let (mut client, mut local) = (real.client(survivor, false), real.client(survivor, true));
    assert_eq!(invoke(&mut client, "write", Value::Int(1)).await, Outcome::Ok(Value::Int(1)));
    // A linearizable read waits until this node has applied the write; after it the local state must have it too.
    assert_eq!(invoke(&mut client, "read", Value::Nil).await, Outcome::Ok(Value::Int(1)));

    real.kill(first);
    real.kill((first + 2) % 3);
    assert_eq!(invoke(&mut local, "read", Value::Nil).await, Outcome::Ok(Value::Int(1)));
    let mut reader = real.client(survivor, false);
    let (written, read) =
        tokio::join!(invoke(&mut client, "write", Value::Int(2)), invoke(&mut reader, "read", Value::Nil));
    assert!(matches!(written, Outcome::Info(_)), "{written:?}");
    assert!(matches!(read, Outcome::Fail(_)), "{read:?}");
    assert_eq!(leader(&real.states().await), None);
}

#[test]
fn the_newest_leader_is_the_primary() {
    let state = |own: &str, leader: &str, term: &str| {
        Ok(json!({ "header": { "member_id": own }, "leader": leader, "raftTerm": term }))
    };
    let dead = || Err(anyhow::anyhow!("no answer"));
    assert_eq!(leader(&[state("1", "1", "9"), state("2", "2", "10"), state("3", "2", "10")]), Some(1));
    assert_eq!(leader(&[dead(), state("2", "1", "4"), state("3", "3", "3")]), Some(2));
    assert_eq!(leader(&[dead(), state("2", "0", "4"), Ok(json!({}))]), None);
}

#[test]
fn settings_are_read_and_bad_ones_said() {
    let settings = |yaml: &str| {
        let mut section = Section::new("target.etcd", Doc::parse("a.yaml", yaml).unwrap()).unwrap();
        read(&mut section).map(|_| ()).and_then(|()| section.finish()).map_err(|error| error.to_string())
    };
    assert_eq!(settings("{}"), Ok(()));
    assert_eq!(settings("{ install: true, serializable: true, args: [--auto-compaction-retention, 1h] }"), Ok(()));
    let table = [
        ("{ heartbeat: 300ms }", "five times"),
        ("{ heartbeat: 500000000000000h, election_timeout: 500000000000000h }", "five times"),
        ("{ heartbeat: 0s }", "at least 1ms"),
        ("{ install: true, program: /opt/etcd }", "leave `program` out"),
        ("{ serialisable: true }", "did you mean `serializable`"),
    ];
    for (yaml, what) in table {
        let error = settings(yaml).expect_err(yaml);
        assert!(error.contains(what), "{yaml}: {error}");
    }
}

//! Real processes on loopback: leaders die, members come back and catch up, and nothing that was acknowledged is lost.

mod support;

use serde_json::json;
use support::{Cluster, eventually};

#[test]
fn goes_on_without_its_leader_and_catches_up_by_snapshot() {
    let mut cluster = Cluster::started(3, &["--snapshot-every", "20", "--request-timeout-ms", "30000"]);
    let first = cluster.leader();
    let other = (first + 1) % 3;
    assert_eq!(cluster.put(other, "a", json!(1)).0, 200, "through a follower");
    for i in 0..3 {
        assert_eq!(cluster.read(i, "a"), (200, json!({ "value": 1 })), "every node answers with the latest value");
    }

    cluster.kill(first);
    let second = cluster.leader();
    assert_ne!(first, second);
    // Until the log that the dead one would need is gone: the leader waits a moment for those it sends a snapshot to.
    let mut n = 0;
    eventually("the log is compacted", || {
        for _ in 0..100 {
            let (code, body) = cluster.put(second, &format!("k{}", n % 10), json!(n));
            assert_eq!(code, 200, "{body}");
            n += 1;
        }
        (cluster.status(second)["snapshot_index"].as_u64()? >= 80).then_some(())
    });

    cluster.start(first);
    let hash = cluster.status(second)["state_hash"].clone();
    let state = eventually("the returned member catches up", || {
        let state = cluster.status(first);
        (state["state_hash"] == hash).then_some(state)
    });
    assert!(state["snapshot_index"].as_u64().unwrap() >= 80, "by snapshot, the log is gone: {state}");
    assert_eq!(cluster.read(first, "k9"), (200, json!({ "value": n - 1 })));
    assert_eq!(cluster.read(first, "a"), (200, json!({ "value": 1 })));
}

#[test]
fn leadership_moves_on_request() {
    let cluster = Cluster::started(3, &["--request-timeout-ms", "30000"]);
    let first = cluster.leader();
    let next = (first + 1) % 3;
    let transfer = |at: usize, body: &str| cluster.send(at, "POST", "/transfer", &[], Some(body)).unwrap();
    assert_eq!(transfer(next, r#"{"to": "n0"}"#).0, 409, "a follower has nothing to hand over");
    assert_eq!(transfer(first, r#"{"to": "n9"}"#).0, 409);
    assert_eq!(transfer(first, &format!(r#"{{"to": "n{next}"}}"#)).0, 202);
    eventually("the other leads", || (cluster.status(next)["role"] == "leader").then_some(()));
    assert_eq!(cluster.put(first, "a", json!(1)).0, 200, "through the one that led before");
}

#[test]
fn remembers_everything_when_all_die_at_once() {
    let mut cluster = Cluster::started(3, &["--snapshot-every", "15", "--request-timeout-ms", "30000"]);
    for n in 0..50 {
        assert_eq!(cluster.put(n % 3, &format!("k{}", n % 7), json!({ "n": n })).0, 200);
    }
    (0..3).for_each(|i| cluster.kill(i));
    (0..3).for_each(|i| cluster.start(i));
    cluster.leader();
    for n in 43..50 {
        assert_eq!(cluster.read(n % 3, &format!("k{}", n % 7)), (200, json!({ "value": { "n": n } })));
    }
}

#[test]
fn every_leader_may_die_in_turn() {
    let mut cluster = Cluster::started(5, &["--request-timeout-ms", "30000"]);
    for round in 0..4 {
        let leader = cluster.leader();
        cluster.kill(leader);
        let next = cluster.leader();
        let expected = if round == 0 { json!(null) } else { json!(round - 1) };
        let body = json!({ "expected": expected, "new": round }).to_string();
        let answer = cluster.send(next, "POST", "/kv/turn/cas", &[], Some(&body)).unwrap();
        assert_eq!(answer.0, 200, "round {round}: {}", answer.1);
        cluster.start(leader);
    }
    assert_eq!(cluster.read(cluster.leader(), "turn"), (200, json!({ "value": 3 })));
}

#[test]
fn refuses_a_folder_that_is_in_use() {
    let cluster = Cluster::started(1, &[]);
    let output = cluster.command(0).output().unwrap();
    assert!(!output.status.success());
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(text.contains("another node uses"), "{text}");
}

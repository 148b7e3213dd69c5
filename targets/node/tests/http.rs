//! The client API, as curl would use it: every answer, every error, and that `definite` is honest.

mod support;

use serde_json::{Value as Json, json};
use support::{Cluster, eventually};

fn refused(answer: (u16, Json), code: u16, text: &str) {
    assert_eq!(answer.0, code, "{}", answer.1);
    assert_eq!(answer.1["definite"], true, "{}", answer.1);
    assert!(answer.1["error"].as_str().unwrap().contains(text), "{}", answer.1);
}

#[test]
fn one_node_answers_everything() {
    let cluster = Cluster::started(1, &[]);
    let send = |method: &str, path: &str, body: &str| cluster.send(0, method, path, &[], Some(body)).unwrap();

    assert_eq!(send("GET", "/kv/a", ""), (200, json!({ "value": null })));
    let (code, body) = send("PUT", "/kv/a", r#"{"value": 5}"#);
    assert_eq!((code, &body["ok"]), (200, &json!(true)));
    assert!(body["index"].as_u64().unwrap() > 1, "{body}");
    assert_eq!(send("GET", "/kv/a", ""), (200, json!({ "value": 5 })));

    assert_eq!(send("POST", "/kv/a/cas", r#"{"expected": 4, "new": 6}"#), (409, json!({ "ok": false, "value": 5 })));
    assert_eq!(send("POST", "/kv/a/cas", r#"{"expected": 5, "new": {"x": [6]}}"#).0, 200);
    assert_eq!(send("GET", "/kv/a", ""), (200, json!({ "value": { "x": [6] } })));
    assert_eq!(send("POST", "/kv/new/cas", r#"{"expected": null, "new": 1}"#).0, 200, "null is absence");
    assert_eq!(send("DELETE", "/kv/a", "").0, 200);
    assert_eq!(send("GET", "/kv/a", ""), (200, json!({ "value": null })));
    assert_eq!(send("PUT", "/kv/a%20b%2Fc", r#"{"value": "ü"}"#).0, 200);
    assert_eq!(send("GET", "/kv/a%20b%2fc", ""), (200, json!({ "value": "ü" })));

    refused(send("PUT", "/kv/a", ""), 400, "body is no good");
    refused(send("PUT", "/kv/a", "{}"), 400, "missing field `value`");
    refused(send("PUT", "/kv/a", r#"{"value": 1, "ttl": 3}"#), 400, "unknown field `ttl`");
    refused(send("POST", "/kv/a/cas", r#"{"new": 6}"#), 400, "missing field `expected`");
    refused(send("PATCH", "/kv/a", ""), 405, "method");
    refused(send("GET", "/nothing", ""), 404, "no such page");
    assert_eq!(send("PUT", "/kv/a", &format!("{{\"value\": \"{}\"}}", "x".repeat(2 << 20))).0, 413);
    assert_eq!(send("GET", "/kv/a", ""), (200, json!({ "value": null })), "none of these had an effect");

    let (code, status) = send("GET", "/status", "");
    assert_eq!((code, &status["role"], &status["leader"]), (200, &json!("leader"), &json!("n0")));
    for field in ["term", "commit", "applied", "last_index", "snapshot_index"] {
        assert!(status[field].is_u64(), "{field}: {status}");
    }
    assert_eq!(send("GET", "/healthz", "").0, 200);
    let metrics = send("GET", "/metrics", "").1;
    let metrics = metrics.as_str().unwrap();
    for line in
        ["squall_node_elections_won_total 1", "# TYPE squall_node_sync_seconds histogram", "squall_node_is_leader 1"]
    {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[test]
fn a_named_request_applies_once() {
    let cluster = Cluster::started(3, &["--request-timeout-ms", "30000"]);
    let put = |i: usize, value: u64, sequence: &str| {
        let headers = [("x-client", "anna"), ("x-seq", sequence)];
        cluster.send(i, "PUT", "/kv/a", &headers, Some(&json!({ "value": value }).to_string())).unwrap()
    };
    let first = put(0, 1, "1");
    assert_eq!(first.0, 200);
    assert_eq!(cluster.put(1, "a", json!(2)).0, 200, "somebody else");
    assert_eq!(put(2, 1, "1").0, 200, "again, through another node: the same answer, no effect");
    assert_eq!(cluster.read(0, "a"), (200, json!({ "value": 2 })));
    assert_eq!(put(0, 3, "2").0, 200);
    let (code, body) = put(1, 1, "1");
    assert_eq!((code, &body["definite"]), (410, &json!(false)), "long gone; it may well have been applied then");
    assert_eq!(cluster.read(0, "a"), (200, json!({ "value": 3 })));
    refused(put(0, 4, "-1"), 400, "x-seq");
}

#[test]
fn definite_only_when_certain() {
    let mut cluster = Cluster::new(3, &["--request-timeout-ms", "500"]);
    cluster.start(0);
    let (code, body) = cluster.put(0, "a", json!(1));
    assert_eq!((code, &body["definite"]), (503, &json!(true)), "nobody leads: it is in no log");
    assert_eq!(cluster.get(0, "/healthz").unwrap().0, 503);
    (1..3).for_each(|i| cluster.start(i));
    let leader = cluster.leader();
    (0..3).filter(|i| *i != leader).for_each(|i| cluster.kill(i));
    // It leads on for a moment and takes the write into its log, then learns that nobody answers. On a busy machine it
    // may know already, and says so.
    let (code, body) = cluster.put(leader, "a", json!(7));
    assert!(matches!((code, body["definite"].as_bool()), (504, Some(false)) | (503, Some(true))), "{code} {body}");
    let never = if code == 503 { vec![7, 8] } else { vec![8] };
    eventually("the leader steps down", || (cluster.status(leader)["leader"].is_null()).then_some(()));
    let (code, body) = cluster.put(leader, "a", json!(8));
    assert_eq!((code, &body["definite"]), (503, &json!(true)));
    let (code, _) = cluster.read(leader, "a");
    assert_eq!(code, 503, "no majority, no answer");
    (0..3).filter(|i| *i != leader).for_each(|i| cluster.start(i));
    cluster.leader();
    let (code, body) = cluster.read(leader, "a");
    assert_eq!(code, 200);
    assert!(!never.iter().any(|value| body["value"] == *value), "those were certainly not: {body}");
}

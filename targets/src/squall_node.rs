//! `squall-node`: the project's own replicated stack, deployed like any other target.

use crate::http::{Http, NoAnswer, error_word};
use crate::json::{from_json, to_json};
use anyhow::{Context, bail};
use async_trait::async_trait;
use reqwest::Method;
use serde_json::{Value as Json, json};
use squall_agent::protocol::{Request, StartProcess};
use squall_checkers::{Sym, Value};
use squall_harness::config::{ConfigError, Section};
use squall_harness::target::{Change, Claims, Survives};
use squall_harness::{Client, ClientFactory, Cluster, Kind, Node, Op, Outcome, Target};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

/// Where clients connect.
const CLIENT_PORT: u16 = 8080;
/// Where peers connect.
const PEER_PORT: u16 = 9090;
/// Its data, below the node's root.
const DATA: &str = "data/squall-node";
/// How long a node may take to say how it is.
const STATUS_TIME_MAX: Duration = Duration::from_millis(500);

/// How this target is named and read.
pub fn kind() -> Kind<dyn Target> {
    Kind {
        name: "squall-node",
        doc: "squall's own replicated key-value store (Raft), with planted bugs on demand",
        read,
    }
}

struct SquallNode {
    bugs: Vec<String>,
    snapshot_every: u64,
    election_timeout: Duration,
    heartbeat: Duration,
    args: Vec<String>,
}

fn read(section: &mut Section) -> Result<Box<dyn Target>, ConfigError> {
    let bugs = section.get(
        "bug",
        Vec::<String>::new(),
        "planted bugs to switch on, e.g. [stale-read]; see `squall node --help`",
    )?;
    let snapshot_every = section.get("snapshot_every", 2000u64, "entries between two snapshots")?;
    let election_timeout = section.get(
        "election_timeout",
        Duration::from_millis(500),
        "a follower without a leader for this long stands for election",
    )?;
    let heartbeat = section.get("heartbeat", Duration::from_millis(60), "pause between a leader's signs of life")?;
    let args = section.get("args", Vec::<String>::new(), "more arguments for `squall node`")?;
    if heartbeat < Duration::from_millis(1) {
        return Err(section.error("`heartbeat` must be at least 1ms"));
    }
    // Divided, since a product of what people write may overflow.
    if heartbeat > election_timeout / 2 {
        return Err(section.error("`election_timeout` must be at least twice `heartbeat`"));
    }
    if snapshot_every == 0 {
        return Err(section.error("`snapshot_every` must be at least 1"));
    }
    Ok(Box::new(SquallNode { bugs, snapshot_every, election_timeout, heartbeat, args }))
}

impl SquallNode {
    fn argv(&self, cluster: &Cluster, node: &Node) -> Vec<String> {
        let peers: Vec<String> = cluster
            .nodes
            .iter()
            .map(|peer| format!("{}={}", peer.name, SocketAddr::new(peer.address, PEER_PORT)))
            .collect();
        let mut argv: Vec<String> = [
            node.program.as_str(),
            "node",
            "--id",
            node.name.as_str(),
            "--listen",
            &SocketAddr::new(node.address, CLIENT_PORT).to_string(),
            "--peer-listen",
            &SocketAddr::new(node.address, PEER_PORT).to_string(),
            "--peers",
            &peers.join(","),
            "--data-dir",
            &format!("{}/{DATA}", node.root),
            "--snapshot-every",
            &self.snapshot_every.to_string(),
            "--election-timeout-ms",
            &self.election_timeout.as_millis().to_string(),
            "--heartbeat-ms",
            &self.heartbeat.as_millis().to_string(),
        ]
        .map(str::to_owned)
        .to_vec();
        for bug in &self.bugs {
            argv.extend(["--bug".to_owned(), bug.clone()]);
        }
        argv.extend(self.args.iter().cloned());
        argv
    }
}

#[async_trait]
impl Target for SquallNode {
    fn name(&self) -> &'static str {
        "squall-node"
    }

    /// Raft counts on what a majority has synced: a node that has forgotten an entry, or its vote, may help to elect a
    /// leader that lacks what was acknowledged. One is enough.
    fn claims(&self) -> Claims {
        Claims { crashes: Survives::All, lost_data: Survives::Nothing }
    }

    async fn install(&self, _: &Cluster, node: &Node) -> anyhow::Result<()> {
        let stop = Request::Stop { name: self.name().to_owned(), signal: 9, grace_ms: 0 };
        node.control.call(stop).await?;
        node.control.call(Request::Remove { path: DATA.to_owned() }).await?;
        node.control.call(Request::MakeDir { path: DATA.to_owned() }).await?;
        Ok(())
    }

    async fn start(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        let start = StartProcess {
            name: self.name().to_owned(),
            argv: self.argv(cluster, node),
            env: BTreeMap::new(),
            cwd: node.root.clone(),
            log: "squall-node.log".to_owned(),
        };
        node.control.call(Request::Start(start)).await?;
        Ok(())
    }

    async fn ready(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let states = futures::future::join_all(cluster.nodes.iter().map(|node| status(node))).await;
        let mut leaders = Vec::new();
        for (node, state) in cluster.nodes.iter().zip(states) {
            let state = state.with_context(|| format!("{} does not answer", node.name))?;
            match state["leader"].as_str() {
                Some(leader) if !leader.is_empty() => leaders.push(leader.to_owned()),
                _ => bail!("{} knows no leader", node.name),
            }
        }
        leaders.dedup();
        if leaders.len() != 1 {
            bail!("the nodes do not agree on a leader: {}", leaders.join(", "));
        }
        Ok(())
    }

    fn data(&self) -> Vec<String> {
        vec![DATA.to_owned()]
    }

    fn clients(&self, workload: &str) -> Option<Arc<dyn ClientFactory>> {
        (workload == "register").then(|| Arc::new(Clients) as Arc<dyn ClientFactory>)
    }

    async fn primaries(&self, cluster: &Cluster) -> Vec<String> {
        let states = futures::future::join_all(cluster.nodes.iter().map(|node| status(node))).await;
        // Where several believe to lead, the newest term is right.
        let leads = |state: Json| (state["role"] == "leader").then(|| state["term"].as_u64()).flatten();
        let leaders =
            cluster.nodes.iter().zip(states).filter_map(|(node, state)| Some((leads(state.ok()?)?, node.name)));
        leaders.max_by_key(|(term, _)| *term).map(|(_, name)| name.to_string()).into_iter().collect()
    }

    fn can_change(&self, change: Change) -> bool {
        // Its Raft has a fixed list of members.
        change == Change::Leader
    }

    async fn transfer_leader(&self, cluster: &Cluster, to: &Node) -> anyhow::Result<()> {
        let leader = self.primaries(cluster).await.into_iter().next().context("nobody leads")?;
        let leader = cluster.node(&leader).context("whoever leads is no node of ours")?;
        let http = Http::new(&SocketAddr::new(leader.address, CLIENT_PORT).to_string())?;
        let body = json!({ "to": to.name.as_str() });
        let answer = tokio::time::timeout(STATUS_TIME_MAX, http.send(Method::POST, "/transfer", Some(&body))).await;
        match answer {
            Ok(Ok((202, _))) => Ok(()),
            Ok(Ok((code, body))) => bail!("{} answered {code}: {}", leader.name, error_word(code, &body)),
            Ok(Err(why)) => bail!("{}: {}", leader.name, why.word()),
            Err(_) => bail!("{}: no answer in time", leader.name),
        }
    }

    fn start_up_time_max(&self) -> Duration {
        Duration::from_secs(30)
    }
}

async fn status(node: &Node) -> anyhow::Result<Json> {
    let http = Http::new(&SocketAddr::new(node.address, CLIENT_PORT).to_string())?;
    let answer = tokio::time::timeout(STATUS_TIME_MAX, http.send(Method::GET, "/status", None)).await;
    match answer {
        Ok(Ok((200, state))) => Ok(state),
        Ok(Ok((code, _))) => bail!("/status answered {code}"),
        Ok(Err(why)) => bail!("/status: {}", why.word()),
        Err(_) => bail!("/status: no answer in time"),
    }
}

struct Clients;

#[async_trait]
impl ClientFactory for Clients {
    async fn open(&self, node: &Arc<Node>, _: u32) -> anyhow::Result<Box<dyn Client>> {
        Ok(Box::new(RegisterClient { http: Http::new(&SocketAddr::new(node.address, CLIENT_PORT).to_string())? }))
    }
}

struct RegisterClient {
    http: Http,
}

#[async_trait]
impl Client for RegisterClient {
    async fn invoke(&mut self, op: &Op) -> Outcome {
        let path = format!("/kv/{}", op.key);
        match (op.f.as_str(), &op.value) {
            ("read", _) => read_outcome(self.http.send(Method::GET, &path, None).await),
            ("write", value) => {
                let body = json!({ "value": to_json(value) });
                write_outcome(self.http.send(Method::PUT, &path, Some(&body)).await, value)
            }
            ("cas", Value::List(pair)) if pair.len() == 2 => {
                let body = json!({ "expected": to_json(&pair[0]), "new": to_json(&pair[1]) });
                write_outcome(self.http.send(Method::POST, &format!("{path}/cas"), Some(&body)).await, &op.value)
            }
            // Nothing was sent.
            _ => Outcome::Fail(Sym::new("no such operation")),
        }
    }
}

/// A read changes nothing, so without its answer it certainly had no effect: every failure is `fail`.
fn read_outcome(answer: Result<(u16, Json), NoAnswer>) -> Outcome {
    match answer {
        Ok((200, body)) => match body.get("value").and_then(from_json) {
            Some(value) => Outcome::Ok(value),
            None => Outcome::Fail(Sym::new("answer without a value")),
        },
        Ok((code, body)) => Outcome::Fail(error_word(code, &body)),
        Err(why) => Outcome::Fail(why.word()),
    }
}

fn write_outcome(answer: Result<(u16, Json), NoAnswer>, value: &Value) -> Outcome {
    match answer {
        // Committed and applied. Both answers count only with the words of the node itself.
        Ok((200, body)) if body["ok"] == true => Outcome::Ok(value.clone()),
        // Compared by the committed state machine, and different: never applied.
        Ok((409, body)) if body["ok"] == false => Outcome::Fail(Sym::new("mismatch")),
        // Rejected before it was understood.
        Ok((code @ (400 | 404 | 405 | 413 | 415 | 422), body)) => Outcome::Fail(error_word(code, &body)),
        // The server vouches that the request never entered any log.
        Ok((code, body)) if body["definite"] == true => Outcome::Fail(error_word(code, &body)),
        // In a log somewhere, perhaps.
        Ok((code, body)) => Outcome::Info(error_word(code, &body)),
        // No connection: no byte of the request has left.
        Err(why @ NoAnswer::NotSent(_)) => Outcome::Fail(why.word()),
        // Timeout, reset, closed, cut short: carried out, perhaps.
        Err(why @ NoAnswer::MaybeSent(_)) => Outcome::Info(why.word()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::fake_server::{FakeServer, Then};

    #[test]
    fn fail_only_with_proof() {
        let written = Value::Int(5);
        let table = [
            (Ok((200, json!({"ok": true}))), Outcome::Ok(written.clone())),
            (Ok((409, json!({"ok": false, "value": 3}))), Outcome::Fail(Sym::new("mismatch"))),
            (Ok((503, json!({"error": "no leader", "definite": true}))), Outcome::Fail(Sym::new("no leader"))),
            (Ok((503, json!({"error": "lost", "definite": false}))), Outcome::Info(Sym::new("lost"))),
            (Ok((500, Json::Null)), Outcome::Info(Sym::new("status 500"))),
            // Not the words of a node: whoever said that proves nothing.
            (Ok((200, Json::Null)), Outcome::Info(Sym::new("status 200"))),
            (Ok((409, Json::Null)), Outcome::Info(Sym::new("status 409"))),
            (Ok((410, json!({"error": "gone on", "definite": false}))), Outcome::Info(Sym::new("gone on"))),
            (Ok((422, Json::Null)), Outcome::Fail(Sym::new("status 422"))),
            (Err(NoAnswer::NotSent("connection refused")), Outcome::Fail(Sym::new("connection refused"))),
            (Err(NoAnswer::MaybeSent("timeout")), Outcome::Info(Sym::new("timeout"))),
        ];
        for (answer, outcome) in table {
            assert_eq!(write_outcome(answer.clone(), &written), outcome, "{answer:?}");
        }
        assert_eq!(read_outcome(Ok((200, json!({"value": null})))), Outcome::Ok(Value::Nil));
        assert_eq!(read_outcome(Err(NoAnswer::MaybeSent("timeout"))), Outcome::Fail(Sym::new("timeout")));
    }

    fn client(address: SocketAddr) -> RegisterClient {
        RegisterClient { http: Http::new(&address.to_string()).unwrap() }
    }

    fn op(f: &str, value: Value) -> Op {
        Op { process: 0, f: Sym::new(f), key: Value::Int(3), value }
    }

    #[tokio::test]
    async fn answers_of_a_server_are_read() {
        let pair = Value::list([Value::Int(1), Value::Int(2)]);
        let (ok, mismatch) = (r#"{"ok":true,"index":9}"#, r#"{"ok":false,"value":7}"#);
        let table = [
            ("write", Value::Int(5), Then::Answer(200, ok), Outcome::Ok(Value::Int(5))),
            ("cas", pair.clone(), Then::Answer(200, ok), Outcome::Ok(pair.clone())),
            ("cas", pair, Then::Answer(409, mismatch), Outcome::Fail(Sym::new("mismatch"))),
            ("read", Value::Nil, Then::Answer(200, r#"{"value":5}"#), Outcome::Ok(Value::Int(5))),
            ("read", Value::Nil, Then::Answer(200, r#"{"value":null}"#), Outcome::Ok(Value::Nil)),
            ("read", Value::Nil, Then::Answer(200, "{}"), Outcome::Fail(Sym::new("answer without a value"))),
        ];
        let script: Vec<Then> = table.iter().map(|row| row.2).collect();
        let server = FakeServer::start(&script).await;
        let mut client = client(server.address);
        for (f, value, then, outcome) in table {
            assert_eq!(client.invoke(&op(f, value)).await, outcome, "{f} {then:?}");
        }
    }

    #[tokio::test]
    async fn a_write_without_its_answer_is_unknown_and_a_read_failed() {
        let broken = [Then::CutShort, Then::Close, Then::Reset, Then::Answer(502, "<html>")];
        for then in broken {
            // A request before it, so that the connection is a kept one: clients like to send again on those.
            let first = Then::Answer(200, r#"{"ok":true}"#);
            let server = FakeServer::start(&[first, then, first, then]).await;
            let mut client = client(server.address);
            for f in ["write", "read"] {
                assert!(matches!(client.invoke(&op("write", Value::Int(1))).await, Outcome::Ok(_)));
                let outcome = client.invoke(&op(f, Value::Int(2))).await;
                match f {
                    "write" => assert!(matches!(outcome, Outcome::Info(_)), "{then:?}: {outcome:?}"),
                    _ => assert!(matches!(outcome, Outcome::Fail(_)), "{then:?}: {outcome:?}"),
                }
            }
            assert_eq!(server.requests(), 4, "{then:?}: something was sent again");
        }
    }

    #[tokio::test]
    async fn an_operation_that_is_given_up_is_not_sent_again() {
        let server = FakeServer::start(&[Then::Hang, Then::Hang]).await;
        let mut client = client(server.address);
        let late = tokio::time::timeout(Duration::from_millis(300), client.invoke(&op("write", Value::Int(1)))).await;
        assert!(late.is_err());
        assert!(server.requests() <= 1);
    }

    #[tokio::test]
    async fn refused_connections_are_definite() {
        let mut server = FakeServer::start(&[Then::AnswerAndClose(200, r#"{"ok":true}"#)]).await;
        let mut client = client(server.address);
        assert!(matches!(client.invoke(&op("write", Value::Int(1))).await, Outcome::Ok(_)));
        server.end().await;
        // The kept connection is closed, and nobody listens: whichever of both is noticed first, nothing was carried out,
        // but only a connection that was refused proves it.
        match client.invoke(&op("write", Value::Int(2))).await {
            Outcome::Fail(why) => assert_eq!(why.as_str(), "connection refused"),
            Outcome::Info(why) => assert_eq!(why.as_str(), "connection lost"),
            other @ Outcome::Ok(_) => panic!("{other:?}"),
        }
        let refused = Outcome::Fail(Sym::new("connection refused"));
        assert_eq!(client.invoke(&op("write", Value::Int(3))).await, refused);
        assert_eq!(server.requests(), 1);
    }

    #[tokio::test]
    async fn words_outside_the_vocabulary_are_not_sent() {
        let server = FakeServer::start(&[Then::Hang]).await;
        let mut client = client(server.address);
        for (f, value) in [("append", Value::Int(1)), ("cas", Value::Int(1)), ("cas", Value::list([Value::Nil]))] {
            assert_eq!(client.invoke(&op(f, value)).await, Outcome::Fail(Sym::new("no such operation")));
        }
        assert_eq!(server.requests(), 0);
    }
}

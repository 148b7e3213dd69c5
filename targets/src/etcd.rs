//! etcd, by its v3 API: a real cluster with data wiped between runs.
//!
//! Spoken over the HTTP/JSON gateway that etcd itself serves, since a gRPC client would need the protobuf compiler to
//! build. The gateway passes every call on to the same handlers.

use crate::http::{Http, NoAnswer};
use anyhow::{Context, bail};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Method;
use serde_json::{Value as Json, json};
use squall_agent::protocol::{Reply, Request, StartProcess};
use squall_checkers::{Sym, Value};
use squall_harness::config::{ConfigError, Section};
use squall_harness::{Client, ClientFactory, Cluster, Kind, Node, Op, Outcome, Target};
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Its data, below the node's root.
const DATA: &str = "data/etcd";
/// How long a node may take to say how it is.
const STATUS_TIME_MAX: Duration = Duration::from_millis(800);

/// How this target is named and read.
pub fn kind() -> Kind<dyn Target> {
    Kind { name: "etcd", doc: "etcd 3.4 or later, as packaged (etcd-server), by its v3 API", read }
}

struct Etcd {
    program: String,
    serializable: bool,
    heartbeat: Duration,
    election_timeout: Duration,
    unsafe_no_fsync: bool,
    args: Vec<String>,
}

fn read(section: &mut Section) -> Result<Box<dyn Target>, ConfigError> {
    let program = section.get("program", "etcd".to_owned(), "the etcd program on the nodes")?;
    let serializable =
        section.get("serializable", false, "read without asking the leader: fast, and not linearizable")?;
    let heartbeat = section.get("heartbeat", Duration::from_millis(100), "etcd's --heartbeat-interval")?;
    let election_timeout = section.get("election_timeout", Duration::from_secs(1), "etcd's --election-timeout")?;
    let unsafe_no_fsync = section.get(
        "unsafe_no_fsync",
        false,
        "etcd's --unsafe-no-fsync (3.4.21 and later): loses data in a power cut",
    )?;
    let args = section.get("args", Vec::<String>::new(), "more arguments for etcd")?;
    if heartbeat * 5 > election_timeout {
        return Err(section.error("`election_timeout` must be at least five times `heartbeat`: etcd refuses otherwise"));
    }
    Ok(Box::new(Etcd { program, serializable, heartbeat, election_timeout, unsafe_no_fsync, args }))
}

fn url(node: &Node, port: u16) -> String {
    format!("http://{}", SocketAddr::new(node.address, port))
}

impl Etcd {
    fn argv(&self, cluster: &Cluster, node: &Node) -> Vec<String> {
        let members: Vec<String> =
            cluster.nodes.iter().map(|peer| format!("{}={}", peer.name, url(peer, PEER_PORT))).collect();
        let flags = [
            ("--name", node.name.to_string()),
            ("--data-dir", format!("{}/{DATA}", node.root)),
            ("--listen-client-urls", url(node, CLIENT_PORT)),
            ("--advertise-client-urls", url(node, CLIENT_PORT)),
            ("--listen-peer-urls", url(node, PEER_PORT)),
            ("--initial-advertise-peer-urls", url(node, PEER_PORT)),
            ("--initial-cluster", members.join(",")),
            ("--initial-cluster-state", "new".to_owned()),
            ("--initial-cluster-token", "squall".to_owned()),
            ("--heartbeat-interval", self.heartbeat.as_millis().to_string()),
            ("--election-timeout", self.election_timeout.as_millis().to_string()),
            ("--logger", "zap".to_owned()),
            ("--log-level", "info".to_owned()),
        ];
        let mut argv = vec![self.program.clone()];
        argv.extend(flags.into_iter().flat_map(|(flag, value)| [flag.to_owned(), value]));
        if self.unsafe_no_fsync {
            argv.push("--unsafe-no-fsync".to_owned());
        }
        argv.extend(self.args.iter().cloned());
        argv
    }
}

#[async_trait]
impl Target for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    async fn install(&self, _: &Cluster, node: &Node) -> anyhow::Result<()> {
        let version = Request::Exec {
            argv: vec![self.program.clone(), "--version".to_owned()],
            env: BTreeMap::new(),
            timeout_ms: 10_000,
        };
        let there = matches!(node.control.call(version).await, Ok(Reply::Output { code: Some(0), .. }));
        if !there {
            bail!("there is no `{}` on it; Debian and Ubuntu: apt install etcd-server", self.program);
        }
        let stop = Request::Stop { name: self.name().to_owned(), signal: 9, grace_ms: 0 };
        node.control.call(stop).await?;
        node.control.call(Request::Remove { path: DATA.to_owned() }).await?;
        node.control.call(Request::MakeDir { path: "data".to_owned() }).await?;
        Ok(())
    }

    async fn start(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        let start = StartProcess {
            name: self.name().to_owned(),
            argv: self.argv(cluster, node),
            // Debian sets none, but a login shell may: flags must win alone.
            env: BTreeMap::from([("ETCD_UNSUPPORTED_ARCH".to_owned(), node.hello.arch.clone())]),
            cwd: node.root.clone(),
            log: "etcd.log".to_owned(),
        };
        node.control.call(Request::Start(start)).await?;
        Ok(())
    }

    async fn ready(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let states = futures::future::join_all(cluster.nodes.iter().map(|node| status(node))).await;
        for (node, state) in cluster.nodes.iter().zip(states) {
            let state = state.with_context(|| format!("{} does not answer", node.name))?;
            if state["leader"].as_str().is_none_or(|leader| leader == "0") {
                bail!("{} knows no leader", node.name);
            }
        }
        Ok(())
    }

    fn clients(&self, workload: &str) -> Option<Arc<dyn ClientFactory>> {
        let serializable = self.serializable;
        (workload == "register").then(|| Arc::new(Clients { serializable }) as Arc<dyn ClientFactory>)
    }

    async fn primaries(&self, cluster: &Cluster) -> Vec<String> {
        let states = futures::future::join_all(cluster.nodes.iter().map(|node| status(node))).await;
        // Where several believe to lead, the newest term is right.
        let leads = |state: Json| {
            let own = state["header"]["member_id"] == state["leader"];
            own.then(|| state["raftTerm"].as_str()?.parse::<u64>().ok()).flatten()
        };
        let leaders =
            cluster.nodes.iter().zip(states).filter_map(|(node, state)| Some((leads(state.ok()?)?, node.name)));
        leaders.max_by_key(|(term, _)| *term).map(|(_, name)| name.to_string()).into_iter().collect()
    }
}

async fn status(node: &Node) -> anyhow::Result<Json> {
    let http = Http::new(&SocketAddr::new(node.address, CLIENT_PORT).to_string())?;
    let answer =
        tokio::time::timeout(STATUS_TIME_MAX, http.send(Method::POST, "/v3/maintenance/status", Some(&json!({}))))
            .await;
    match answer {
        Ok(Ok((200, state))) => Ok(state),
        Ok(Ok((code, _))) => bail!("its status answered {code}"),
        Ok(Err(why)) => bail!("its status: {}", why.word()),
        Err(_) => bail!("its status: no answer in time"),
    }
}

struct Clients {
    serializable: bool,
}

#[async_trait]
impl ClientFactory for Clients {
    async fn open(&self, node: &Arc<Node>, _: u32) -> anyhow::Result<Box<dyn Client>> {
        // Bound to its node: a client that fails over would hide what a node in a minority answers.
        let http = Http::new(&SocketAddr::new(node.address, CLIENT_PORT).to_string())?;
        Ok(Box::new(RegisterClient { http, serializable: self.serializable }))
    }
}

struct RegisterClient {
    http: Http,
    serializable: bool,
}

fn encoded(text: &str) -> String {
    BASE64.encode(text)
}

#[async_trait]
impl Client for RegisterClient {
    async fn invoke(&mut self, op: &Op) -> Outcome {
        let key = encoded(&format!("register/{}", op.key));
        match (op.f.as_str(), &op.value) {
            ("read", _) => {
                let body = json!({ "key": key, "serializable": self.serializable });
                read_outcome(self.http.send(Method::POST, "/v3/kv/range", Some(&body)).await)
            }
            ("write", value) => {
                let body = json!({ "key": key, "value": encoded(&value.to_string()) });
                write_outcome(self.http.send(Method::POST, "/v3/kv/put", Some(&body)).await, value, false)
            }
            ("cas", Value::List(pair)) if pair.len() == 2 => {
                let compare = if pair[0].is_nil() {
                    json!({ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" })
                } else {
                    json!({ "key": key, "target": "VALUE", "result": "EQUAL", "value": encoded(&pair[0].to_string()) })
                };
                let put = json!({ "requestPut": { "key": key, "value": encoded(&pair[1].to_string()) } });
                let body = json!({ "compare": [compare], "success": [put] });
                write_outcome(self.http.send(Method::POST, "/v3/kv/txn", Some(&body)).await, &op.value, true)
            }
            // Nothing was sent.
            _ => Outcome::Fail(Sym::new("no such operation")),
        }
    }
}

/// A read changes nothing, so without its answer it certainly had no effect: every failure is `fail`.
fn read_outcome(answer: Result<(u16, Json), NoAnswer>) -> Outcome {
    let body = match answer {
        Ok((200, body)) => body,
        Ok((code, body)) => return Outcome::Fail(error_word(code, &body)),
        Err(why) => return Outcome::Fail(why.word()),
    };
    let Some(value) = body["kvs"][0]["value"].as_str() else {
        // A range without keys is the answer of an empty register; anything else is no answer.
        return if body["header"].is_object() {
            Outcome::Ok(Value::Nil)
        } else {
            Outcome::Fail(Sym::new("not a range"))
        };
    };
    let text = BASE64.decode(value).ok().and_then(|bytes| String::from_utf8(bytes).ok());
    match text.and_then(|text| text.parse().ok()) {
        Some(number) => Outcome::Ok(Value::Int(number)),
        None => Outcome::Fail(Sym::new("value that nobody wrote")),
    }
}

fn write_outcome(answer: Result<(u16, Json), NoAnswer>, value: &Value, conditional: bool) -> Outcome {
    match answer {
        // The comparison was made by the applied transaction, and did not hold.
        Ok((200, body)) if conditional && body["succeeded"] != true => Outcome::Fail(Sym::new("mismatch")),
        // Committed and applied.
        Ok((200, _)) => Outcome::Ok(value.clone()),
        // InvalidArgument: rejected before it was proposed.
        Ok((400, body)) => Outcome::Fail(error_word(400, &body)),
        // Everything else may have been proposed: `request timed out`, `leader changed`, and, because a proposal may be
        // dropped or not before it is said, `no leader` too.
        Ok((code, body)) => Outcome::Info(error_word(code, &body)),
        Err(why @ NoAnswer::NotSent(_)) => Outcome::Fail(why.word()),
        Err(why @ NoAnswer::MaybeSent(_)) => Outcome::Info(why.word()),
    }
}

fn error_word(code: u16, body: &Json) -> Sym {
    match body["error"].as_str().or(body["message"].as_str()) {
        Some(error) => Sym::new(error),
        None => Sym::new(&format!("status {code}")),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fail_only_with_proof() {
        let (one, pair) = (Value::Int(1), Value::list([Value::Int(1), Value::Int(2)]));
        let mismatch = Ok((200, json!({ "header": {} })));
        assert_eq!(write_outcome(mismatch.clone(), &pair, true), Outcome::Fail(Sym::new("mismatch")));
        assert_eq!(write_outcome(mismatch, &one, false), Outcome::Ok(one.clone()));
        assert_eq!(write_outcome(Ok((200, json!({ "succeeded": true }))), &pair, true), Outcome::Ok(pair.clone()));
        let timed_out = Ok((503, json!({ "error": "etcdserver: request timed out", "code": 14 })));
        assert_eq!(write_outcome(timed_out, &one, false), Outcome::Info(Sym::new("etcdserver: request timed out")));
        assert_eq!(
            write_outcome(Err(NoAnswer::NotSent("connection refused")), &one, false),
            Outcome::Fail(Sym::new("connection refused"))
        );
    }

    #[test]
    fn reads_decode_what_was_written() {
        let found = json!({ "header": {}, "kvs": [ { "value": encoded("42") } ] });
        assert_eq!(read_outcome(Ok((200, found))), Outcome::Ok(Value::Int(42)));
        assert_eq!(read_outcome(Ok((200, json!({ "header": {} })))), Outcome::Ok(Value::Nil));
        assert_eq!(read_outcome(Ok((200, Json::Null))), Outcome::Fail(Sym::new("not a range")));
    }
}

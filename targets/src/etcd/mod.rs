//! etcd, by its v3 API: a real cluster with data wiped between runs.
//!
//! Spoken over the HTTP/JSON gateway that etcd itself serves, since a gRPC client would need the protobuf compiler to
//! build. The gateway passes every call on to the same handlers.

mod client;
mod members;
#[cfg(test)]
mod tests;

use crate::http::Http;
use anyhow::{Context, bail};
use async_trait::async_trait;
use client::RegisterClient;
use reqwest::Method;
use serde_json::{Value as Json, json};
use squall_agent::protocol::{Reply, Request, StartProcess};
use squall_harness::cluster::Network;
use squall_harness::config::{ConfigError, Section};
use squall_harness::target::{Change, Claims, Survives};
use squall_harness::{Client, ClientFactory, Cluster, Kind, Node, Target};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

const CLIENT_PORT: u16 = 2379;
const PEER_PORT: u16 = 2380;
/// Its data, below the node's root.
const DATA: &str = "data/etcd";
/// How long a node may take to say how it is.
const STATUS_TIME_MAX: Duration = Duration::from_millis(800);
/// What to type where it is missing.
const HOW_TO_INSTALL: &str = "Debian and Ubuntu: apt-get install etcd-server";
/// How long a package may take to download and install.
const INSTALL_TIME_MAX: Duration = Duration::from_secs(300);

/// How this target is named and read.
pub fn kind() -> Kind<dyn Target> {
    Kind { name: "etcd", doc: "etcd 3.4 or later, as packaged (etcd-server), by its v3 API", read }
}

struct Etcd {
    program: String,
    install: bool,
    serializable: bool,
    heartbeat: Duration,
    election_timeout: Duration,
    unsafe_no_fsync: bool,
    args: Vec<String>,
}

fn read(section: &mut Section) -> Result<Box<dyn Target>, ConfigError> {
    let program = section.get("program", "etcd".to_owned(), "the etcd program on the nodes")?;
    let install = section.get(
        "install",
        false,
        "install Debian's etcd-server on nodes without it, as root; not on local clusters",
    )?;
    let serializable =
        section.get("serializable", false, "read without asking the leader: fast, and not linearizable")?;
    let heartbeat = section.get("heartbeat", Duration::from_millis(100), "etcd's --heartbeat-interval")?;
    let election_timeout = section.get("election_timeout", Duration::from_secs(1), "etcd's --election-timeout")?;
    let unsafe_no_fsync = section.get(
        "unsafe_no_fsync",
        false,
        "etcd's --unsafe-no-fsync (3.4.10 and later): loses data in a power cut",
    )?;
    let args = section.get("args", Vec::<String>::new(), "more arguments for etcd")?;
    if heartbeat < Duration::from_millis(1) {
        return Err(section.error("`heartbeat` must be at least 1ms"));
    }
    // Divided, since a product of what people write may overflow.
    if heartbeat > election_timeout / 5 {
        return Err(section.error("`election_timeout` must be at least five times `heartbeat`: etcd refuses otherwise"));
    }
    if install && program != "etcd" {
        return Err(section.error("`install` puts Debian's `etcd` on the nodes, so leave `program` out"));
    }
    Ok(Box::new(Etcd { program, install, serializable, heartbeat, election_timeout, unsafe_no_fsync, args }))
}

/// What the members of a cluster know of each other.
struct Member {
    name: String,
    address: IpAddr,
}

impl Member {
    fn of(node: &Node) -> Self {
        Self { name: node.name.to_string(), address: node.address }
    }

    fn url(&self, port: u16) -> String {
        format!("http://{}", SocketAddr::new(self.address, port))
    }
}

impl Etcd {
    /// The command of `own`, with its data below `root`, for a cluster that is `new` or `existing`.
    fn argv(&self, members: &[Member], own: &Member, root: &str, state: &str) -> Vec<String> {
        let cluster: Vec<String> =
            members.iter().map(|member| format!("{}={}", member.name, member.url(PEER_PORT))).collect();
        let flags = [
            ("--name", own.name.clone()),
            ("--data-dir", format!("{root}/{DATA}")),
            ("--listen-client-urls", own.url(CLIENT_PORT)),
            ("--advertise-client-urls", own.url(CLIENT_PORT)),
            ("--listen-peer-urls", own.url(PEER_PORT)),
            ("--initial-advertise-peer-urls", own.url(PEER_PORT)),
            ("--initial-cluster", cluster.join(",")),
            ("--initial-cluster-state", state.to_owned()),
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

    async fn run(&self, node: &Node, argv: Vec<String>) -> anyhow::Result<()> {
        let arch = node.control.hello().map(|hello| hello.arch).unwrap_or_default();
        let start = StartProcess {
            name: self.name().to_owned(),
            argv,
            // Elsewhere than on x86-64 some versions want to be told that one means it.
            env: BTreeMap::from([("ETCD_UNSUPPORTED_ARCH".to_owned(), arch)]),
            cwd: node.root.clone(),
            log: "etcd.log".to_owned(),
        };
        node.control.call(Request::Start(start)).await?;
        Ok(())
    }

    /// Puts Debian's package on a node that has none.
    async fn put_there(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        if !self.install {
            bail!("there is no `{}` on it; {HOW_TO_INSTALL}, or say `install: true`", self.program);
        }
        if matches!(cluster.network, Network::Router(_)) {
            bail!("`install` is not for local clusters, whose nodes share this machine's programs; {HOW_TO_INSTALL}");
        }
        // Lists may be missing or too old to find the package; when they cannot be fetched, the next step says what is
        // wrong.
        run(node, &["apt-get", "update"]).await?;
        let (code, stderr) = run(node, &["apt-get", "install", "-y", "--no-install-recommends", "etcd-server"]).await?;
        if code != Some(0) {
            bail!("apt-get cannot install etcd-server: {}", stderr.trim());
        }
        // The package starts a server of its own, which is not the one under test. Without systemd there is none.
        let _ = run(node, &["systemctl", "disable", "--now", "etcd"]).await;
        if !self.is_there(node).await {
            bail!("etcd-server was installed, but `{} --version` still fails", self.program);
        }
        Ok(())
    }

    async fn is_there(&self, node: &Node) -> bool {
        let version = Request::Exec {
            argv: vec![self.program.clone(), "--version".to_owned()],
            env: BTreeMap::new(),
            timeout_ms: 10_000,
        };
        matches!(node.control.call(version).await, Ok(Reply::Output { code: Some(0), .. }))
    }
}

/// Runs a command that may take as long as an installation; its exit code and what it complained about.
async fn run(node: &Node, argv: &[&str]) -> anyhow::Result<(Option<i32>, String)> {
    let exec = Request::Exec {
        argv: argv.iter().map(|&word| word.to_owned()).collect(),
        env: BTreeMap::from([("DEBIAN_FRONTEND".to_owned(), "noninteractive".to_owned())]),
        timeout_ms: INSTALL_TIME_MAX.as_millis() as u64,
    };
    // A little more than the command's own limit, so that it is the agent that says what was late.
    match node.control.call_with(exec, Vec::new(), INSTALL_TIME_MAX + Duration::from_secs(10)).await? {
        (Reply::Output { code, stderr, .. }, _) => Ok((code, stderr)),
        (other, _) => bail!("the agent answered {other:?} to a command"),
    }
}

#[async_trait]
impl Target for Etcd {
    fn name(&self) -> &'static str {
        "etcd"
    }

    /// Raft counts on what a majority has synced: a node that has forgotten an entry, or its vote, may help to elect a
    /// leader that lacks what was acknowledged. One is enough.
    fn claims(&self) -> Claims {
        Claims { crashes: Survives::All, lost_data: Survives::Nothing }
    }

    async fn install(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        if !self.is_there(node).await {
            self.put_there(cluster, node).await?;
        }
        let stop = Request::Stop { name: self.name().to_owned(), signal: 9, grace_ms: 0 };
        node.control.call(stop).await?;
        node.control.call(Request::Remove { path: DATA.to_owned() }).await?;
        node.control.call(Request::MakeDir { path: "data".to_owned() }).await?;
        Ok(())
    }

    async fn start(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        let members: Vec<Member> = cluster.nodes.iter().map(|node| Member::of(node)).collect();
        self.run(node, self.argv(&members, &Member::of(node), &node.root, "new")).await
    }

    async fn ready(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let states = futures::future::join_all(cluster.nodes.iter().map(|node| status(node.address))).await;
        for (node, state) in cluster.nodes.iter().zip(states) {
            let state = state.with_context(|| format!("{} does not answer", node.name))?;
            if !knows_leader(&state) {
                bail!("{} knows no leader", node.name);
            }
        }
        Ok(())
    }

    fn data(&self) -> Vec<String> {
        // The parent of its folder, which etcd makes itself, for it is strict about permissions.
        vec!["data".to_owned()]
    }

    fn clients(&self, workload: &str) -> Option<Arc<dyn ClientFactory>> {
        let serializable = self.serializable;
        (workload == "register").then(|| Arc::new(Clients { serializable }) as Arc<dyn ClientFactory>)
    }

    fn can_change(&self, _: Change) -> bool {
        true
    }

    async fn transfer_leader(&self, cluster: &Cluster, to: &Node) -> anyhow::Result<()> {
        members::move_leader(cluster, to).await
    }

    async fn members(&self, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
        Ok(members::list(cluster).await?.into_iter().filter_map(|member| member.name).collect())
    }

    async fn remove_member(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        members::remove(cluster, node).await?;
        let stop = Request::Stop { name: self.name().to_owned(), signal: 9, grace_ms: 0 };
        node.control.call(stop).await?;
        node.control.call(Request::Remove { path: DATA.to_owned() }).await?;
        Ok(())
    }

    async fn add_member(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        if !members::add(cluster, node).await? {
            return self.start(cluster, node).await;
        }
        // Only those that are members now: a list with others is refused.
        let names = self.members(cluster).await?;
        let known =
            cluster.nodes.iter().filter(|other| other.name == node.name || names.contains(&other.name.to_string()));
        let members: Vec<Member> = known.map(|node| Member::of(node)).collect();
        self.run(node, self.argv(&members, &Member::of(node), &node.root, "existing")).await
    }

    async fn primaries(&self, cluster: &Cluster) -> Vec<String> {
        let states = futures::future::join_all(cluster.nodes.iter().map(|node| status(node.address))).await;
        leader(&states).map(|at| cluster.nodes[at].name.to_string()).into_iter().collect()
    }
}

/// The gateway writes 64-bit numbers as texts, and leaves out zero.
fn knows_leader(state: &Json) -> bool {
    state["leader"].as_str().is_some_and(|leader| leader != "0")
}

/// Which of `states` is the leader's. Where several believe to lead, the newest term is right.
fn leader(states: &[anyhow::Result<Json>]) -> Option<usize> {
    let term_led = |state: &Json| {
        let own = state["header"]["member_id"].as_str()?;
        (state["leader"].as_str()? == own).then(|| state["raftTerm"].as_str()?.parse::<u64>().ok())?
    };
    let leaders = states.iter().enumerate().filter_map(|(at, state)| Some((term_led(state.as_ref().ok()?)?, at)));
    leaders.max().map(|(_, at)| at)
}

async fn status(address: IpAddr) -> anyhow::Result<Json> {
    let http = Http::new(&SocketAddr::new(address, CLIENT_PORT).to_string())?;
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
        Ok(Box::new(client_of(node.address, self.serializable)?))
    }
}

/// A client bound to its node: one that fails over would hide what a node in a minority answers.
fn client_of(address: IpAddr, serializable: bool) -> anyhow::Result<RegisterClient> {
    let http = Http::new(&SocketAddr::new(address, CLIENT_PORT).to_string())?;
    Ok(RegisterClient { http, serializable })
}

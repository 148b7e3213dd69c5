//! A cluster: nodes with a control channel each, brought up by a provider.
//!
//! A provider's [`Transport`] does two things only: put a file on a node, and open one duplex byte stream to a program
//! there. Everything else is the agent's, so that the same code path serves namespaces, VMs and any host over SSH.

mod control;
#[cfg(target_os = "linux")]
pub mod local;
pub mod ssh;
#[cfg(target_os = "linux")]
pub mod vagrant;

pub use control::{Boot, Control, ControlError, fetch_file};

use async_trait::async_trait;
use squall_agent::faults::drop::DropBy;
use squall_checkers::Sym;
use std::net::IpAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncWrite};

/// A duplex byte stream to a program on a node: what it reads, what it writes.
pub struct Duplex {
    /// To the program's stdin.
    pub writer: Box<dyn AsyncWrite + Send + Unpin>,
    /// From the program's stdout.
    pub reader: Box<dyn AsyncRead + Send + Unpin>,
    /// Kept alive as long as the stream is used (a child process, an ssh session).
    pub keep: Box<dyn std::any::Any + Send>,
}

/// How to reach a node.
#[async_trait]
pub trait Transport: Send + Sync {
    /// Copies a local file to `remote` (absolute, executable), creating parent directories. Does nothing when a file of
    /// the same length is there already: names carry the content's hash.
    async fn put(&self, local: &Path, remote: &str) -> anyhow::Result<()>;
    /// Starts a program on the node and connects to its stdin and stdout; its stderr goes to the run's log.
    async fn open(&self, argv: &[String]) -> anyhow::Result<Duplex>;
    /// Gives up whatever connection there is: its other end is gone, and nobody will say so. The next use makes a new one.
    async fn disconnect(&self) {}
    /// How long a lost node is waited for: as long as it may take to boot, where it can.
    fn boot_time_max(&self) -> Duration {
        Duration::from_secs(4)
    }
}

/// One machine of the cluster.
pub struct Node {
    /// `n1`, `n2`, … or what the hosts file calls it.
    pub name: Sym,
    /// Position in the cluster, from 0.
    pub index: usize,
    /// Data-plane address: what clients and peers use, and what faults may cut.
    pub address: IpAddr,
    /// Where squall may write on the node (absolute). Data, logs and the agent's state live below it.
    pub root: String,
    /// Absolute path of the squall program on the node (also serves `squall node`).
    pub program: String,
    /// The control channel; knows what the agent said of itself last.
    pub control: Control,
}

impl std::fmt::Debug for Node {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} ({})", self.name, self.address)
    }
}

/// Switches machines off and on from outside, where the provider can.
#[async_trait]
pub trait Power: Send + Sync {
    /// Cuts the power of the node with this index; returns when it is off. One that is off already is fine.
    async fn off(&self, node: usize) -> anyhow::Result<()>;
    /// Gives it power again; it boots by itself. One that is on is fine.
    async fn on(&self, node: usize) -> anyhow::Result<()>;
    /// Keeps what is on the disks of a node that runs, in place of what was kept of them before. It may stand still meanwhile.
    async fn keep_disks(&self, node: usize) -> anyhow::Result<()>;
    /// Puts what was kept back on the disks of a node that is off, and keeps it no longer.
    async fn put_disks_back(&self, node: usize) -> anyhow::Result<()>;
    /// Keeps nothing any more; when nothing is kept, that is fine.
    async fn keep_nothing(&self, node: usize) -> anyhow::Result<()>;
}

/// Who drops packets for a partition.
#[derive(Clone)]
pub enum Network {
    /// One agent in the router namespace that joins all nodes.
    Router(Control),
    /// The agent of each receiving node.
    PerNode,
}

impl Network {
    /// The mechanism the agents are asked for.
    pub fn drop_by(&self) -> DropBy {
        match self {
            Self::Router(_) => DropBy::RouterRules,
            Self::PerNode => DropBy::Nft,
        }
    }
}

/// The nodes and what joins them.
pub struct Cluster {
    /// In order; `nodes[i].index == i`.
    pub nodes: Vec<Arc<Node>>,
    /// Who cuts links.
    pub network: Network,
    /// Who switches machines off and on; `None` where only a machine itself can.
    pub power: Option<Arc<dyn Power>>,
    /// Provider's own handle: dropped when the cluster goes down.
    pub keep: Box<dyn std::any::Any + Send + Sync>,
}

impl Cluster {
    /// The node called `name`.
    pub fn node(&self, name: &str) -> Option<&Arc<Node>> {
        self.nodes.iter().find(|node| node.name == *name)
    }

    /// All control channels: nodes first, then the router's where there is one.
    pub fn controls(&self) -> Vec<(String, Control)> {
        let nodes = self.nodes.iter().map(|node| (node.name.to_string(), node.control.clone()));
        let router = match &self.network {
            Network::Router(control) => Some(("router".to_owned(), control.clone())),
            Network::PerNode => None,
        };
        nodes.chain(router).collect()
    }
}

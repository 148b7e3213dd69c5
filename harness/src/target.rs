//! The system under test.

use crate::client::ClientFactory;
use crate::cluster::{Cluster, Node};
use anyhow::bail;
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

/// How many nodes may be harmed at the same time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Survives {
    /// All of them.
    All,
    /// Fewer than half.
    Minority,
    /// None.
    Nothing,
}

impl Survives {
    /// The number for a cluster of `count`.
    pub fn nodes(self, count: usize) -> usize {
        match self {
            Self::All => count,
            Self::Minority => count.saturating_sub(1) / 2,
            Self::Nothing => 0,
        }
    }
}

/// What a target claims to survive without breaking its promises. It may well not answer meanwhile.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Claims {
    /// Processes that die at the same time: what was acknowledged comes back with them.
    pub crashes: Survives,
    /// Nodes whose data is damaged or lost.
    pub lost_data: Survives,
}

/// A change of the cluster that operators make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Change {
    /// Another node leads: [`Target::transfer_leader`].
    Leader,
    /// Nodes leave and join: [`Target::members`], [`Target::remove_member`], [`Target::add_member`].
    Members,
}

/// A system under test: how it gets onto nodes, starts, stops, and how one talks to it.
///
/// Every step may be repeated; a target never assumes that the step before it ran only once. Errors are harness
/// failures, not verdicts: say what was wrong, on which node, and what to do.
#[async_trait]
pub trait Target: Send + Sync {
    /// Its name in test files: `etcd`.
    fn name(&self) -> &'static str;

    /// Puts the program and its configuration on `node` and wipes data of earlier runs.
    async fn install(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()>;

    /// Starts it on `node`: at set-up, and again after the nemesis killed it.
    async fn start(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()>;

    /// Whether the whole cluster is ready for clients; `Err` with what is missing. Called again and again by
    /// the harness until it says yes or the start-up deadline is over.
    async fn ready(&self, cluster: &Cluster) -> anyhow::Result<()>;

    /// Opens clients that speak `workload`'s vocabulary; `None` when this target cannot do that workload.
    fn clients(&self, workload: &str) -> Option<Arc<dyn ClientFactory>>;

    /// Stops it on `node` for good.
    async fn stop(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        let _ = cluster;
        let stop =
            squall_agent::protocol::Request::Stop { name: self.process().to_owned(), signal: 15, grace_ms: 2000 };
        node.control.call(stop).await?;
        Ok(())
    }

    /// The name under which [`start`](Target::start) registers the process with the agent: what kill and pause hit.
    fn process(&self) -> &str {
        self.name()
    }

    /// Names of the nodes that hold a special role now (leader, primary); empty when unknown or none.
    async fn primaries(&self, cluster: &Cluster) -> Vec<String> {
        let _ = cluster;
        Vec::new()
    }

    /// What it claims to survive: a test that does more is refused unless it says `unsafe: true`.
    fn claims(&self) -> Claims {
        Claims { crashes: Survives::All, lost_data: Survives::Minority }
    }

    /// Folders of what must survive a crash, relative to the node's root: there after [`install`](Target::install), before the
    /// first start. Faults of disks are injected there; a target that keeps nothing has none.
    fn data(&self) -> Vec<String> {
        Vec::new()
    }

    /// Whether it can make such a change at all: a test that asks for another is refused.
    fn can_change(&self, change: Change) -> bool {
        let _ = change;
        false
    }

    /// Has whoever leads hand leadership to `to`; returns when it was begun.
    async fn transfer_leader(&self, cluster: &Cluster, to: &Node) -> anyhow::Result<()> {
        let _ = (cluster, to);
        bail!("target `{}` cannot hand leadership over", self.name())
    }

    /// Names of the nodes that are members now.
    async fn members(&self, cluster: &Cluster) -> anyhow::Result<Vec<String>> {
        let _ = cluster;
        bail!("target `{}` cannot change its members", self.name())
    }

    /// Makes `node` no member any more, ends its process and wipes its data; one that is none is fine.
    async fn remove_member(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        let _ = (cluster, node);
        bail!("target `{}` cannot change its members", self.name())
    }

    /// Makes `node` a new member and starts it, with an empty disk; one that is a member already is only started.
    async fn add_member(&self, cluster: &Cluster, node: &Node) -> anyhow::Result<()> {
        let _ = (cluster, node);
        bail!("target `{}` cannot change its members", self.name())
    }

    /// Log files on `node` to fetch after the run, relative to the node's root.
    fn logs(&self) -> Vec<String> {
        vec![format!("{}.log", self.name())]
    }

    /// How long the cluster may take to become ready.
    fn start_up_time_max(&self) -> Duration {
        Duration::from_secs(60)
    }
}

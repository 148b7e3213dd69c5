//! The system under test.

use crate::client::ClientFactory;
use crate::cluster::{Cluster, Node};
use async_trait::async_trait;
use std::sync::Arc;
use std::time::Duration;

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

    /// Folders of what must survive a crash, relative to the node's root: there after [`install`](Target::install), before the
    /// first start. Faults of disks are injected there; a target that keeps nothing has none.
    fn data(&self) -> Vec<String> {
        Vec::new()
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

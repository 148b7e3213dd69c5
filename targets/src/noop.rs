//! A target that is not there: its client answers at once. Measures the harness itself.

use async_trait::async_trait;
use squall_harness::config::{ConfigError, Section};
use squall_harness::{Client, ClientFactory, Cluster, Kind, Node, Op, Outcome, Target};
use std::sync::Arc;

/// How this target is named and read.
pub fn kind() -> Kind<dyn Target> {
    Kind { name: "noop", doc: "nothing: its client answers at once", read }
}

fn read(_: &mut Section) -> Result<Box<dyn Target>, ConfigError> {
    Ok(Box::new(Noop))
}

struct Noop;

#[async_trait]
impl Target for Noop {
    fn name(&self) -> &'static str {
        "noop"
    }
    async fn install(&self, _: &Cluster, _: &Node) -> anyhow::Result<()> {
        Ok(())
    }
    async fn start(&self, _: &Cluster, _: &Node) -> anyhow::Result<()> {
        Ok(())
    }
    async fn ready(&self, _: &Cluster) -> anyhow::Result<()> {
        Ok(())
    }
    fn clients(&self, workload: &str) -> Option<Arc<dyn ClientFactory>> {
        (workload == "noop").then(|| Arc::new(NoopClients) as Arc<dyn ClientFactory>)
    }
    async fn stop(&self, _: &Cluster, _: &Node) -> anyhow::Result<()> {
        Ok(())
    }
    fn logs(&self) -> Vec<String> {
        Vec::new()
    }
}

struct NoopClients;

#[async_trait]
impl ClientFactory for NoopClients {
    async fn open(&self, _: &Arc<Node>, _: u32) -> anyhow::Result<Box<dyn Client>> {
        Ok(Box::new(NoopClient))
    }
}

struct NoopClient;

#[async_trait]
impl Client for NoopClient {
    async fn invoke(&mut self, op: &Op) -> Outcome {
        Outcome::Ok(op.value.clone())
    }
}

//! squall-node: the project's own replicated key-value store.

/// Arguments of a node.
#[derive(clap::Args, Debug)]
pub struct NodeArgs {}

/// Runs a node.
///
/// # Errors
/// When it cannot run.
pub fn main(_: NodeArgs) -> anyhow::Result<()> {
    anyhow::bail!("not there yet")
}

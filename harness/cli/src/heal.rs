//! `squall heal`: undoes what a run left behind on hosts over ssh. The local cluster never leaves anything.

use squall_agent::protocol::{Reply, Request};
use squall_harness::cluster::ssh;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// File that lists the hosts
    #[arg(long)]
    hosts: PathBuf,
    /// Also stop every process that squall started there
    #[arg(long)]
    stop: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(heal(args))?;
    Ok(ExitCode::SUCCESS)
}

async fn heal(args: &Args) -> anyhow::Result<()> {
    let program = ssh::program::find()?;
    let cluster = ssh::up(&args.hosts, &program, Duration::from_secs(20)).await?;
    for node in &cluster.nodes {
        let reply = node.control.call(Request::HealAll).await?;
        let healed = match reply {
            Reply::Ledger(entries) => entries.into_iter().map(|entry| entry.id).collect(),
            _ => Vec::new(),
        };
        if args.stop {
            node.control.call(Request::Shutdown).await?;
        }
        let what =
            if healed.is_empty() { "nothing to heal".to_owned() } else { format!("healed {}", healed.join(" ")) };
        println!("{}: {what}", node.name);
    }
    Ok(())
}

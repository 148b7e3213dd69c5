//! `squall doctor`: what this machine, and the hosts of a file, can do.

use anyhow::bail;
use squall_agent::protocol::{Finding, Level, Reply, Request};
use squall_harness::cluster::ssh;
use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Ask the hosts of this file too
    #[arg(long)]
    hosts: Option<PathBuf>,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let mut machines = vec![("this machine".to_owned(), squall_agent::doctor::doctor())];
    if let Some(hosts) = &args.hosts {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        machines.extend(runtime.block_on(ask(hosts))?);
    }
    if args.json {
        println!("{}", serde_json::to_string_pretty(&machines)?);
    } else {
        for (machine, findings) in &machines {
            println!("{machine}");
            findings.iter().for_each(print);
        }
    }
    let bad = machines.iter().flat_map(|(_, findings)| findings).any(|finding| finding.level == Level::Bad);
    Ok(if bad { ExitCode::from(crate::EXIT_FAILURE) } else { ExitCode::SUCCESS })
}

async fn ask(hosts: &std::path::Path) -> anyhow::Result<Vec<(String, Vec<Finding>)>> {
    let program = ssh::program::find()?;
    let cluster = ssh::up(hosts, &program, Duration::from_secs(20)).await?;
    let mut machines = Vec::new();
    for node in &cluster.nodes {
        match node.control.call(Request::Doctor).await? {
            Reply::Doctor(findings) => machines.push((node.name.to_string(), findings)),
            other => bail!("{}: the agent answered with {other:?}", node.name),
        }
    }
    Ok(machines)
}

fn print(finding: &Finding) {
    let mark = match finding.level {
        Level::Good => "ok",
        Level::Limited => "limited",
        Level::Bad => "BAD",
    };
    println!("  {mark:<8} {:<16} {}", finding.what, finding.seen);
    if !finding.advice.is_empty() {
        println!("  {:<25} {}", "", finding.advice);
    }
}

//! `squall bench`: how fast the harness itself is, with a client that answers at once.

use anyhow::Context;
use squall_checkers::Sym;
use squall_harness::cluster::{Control, Duplex, Node};
use squall_harness::config::{Doc, Section};
use squall_harness::interpreter::{PhaseContext, Worker, run_phase};
use squall_harness::journal::Journal;
use squall_harness::{Seed, Shape};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// How long
    #[arg(long, default_value_t = 10)]
    seconds: u64,
    /// How many workers
    #[arg(long, default_value_t = 10)]
    workers: usize,
    /// Where the history goes (a folder; a temporary one when absent)
    #[arg(long)]
    dir: Option<PathBuf>,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    runtime.block_on(bench(args))
}

async fn bench(args: &Args) -> anyhow::Result<()> {
    let mut empty = Section::new("bench", Doc::empty())?;
    let workload = (squall_workloads::noop::kind().read)(&mut empty)?;
    let target = (squall_targets::noop::kind().read)(&mut empty)?;
    let clients = target.clients(workload.name()).context("the no-op target has no client for the no-op workload")?;
    let own = std::env::temp_dir().join(format!("squall-bench-{}", std::process::id()));
    let dir = args.dir.clone().unwrap_or_else(|| own.clone());
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
    let path = dir.join(format!("bench-{}.jsonl.zst", std::process::id()));
    let (journal, writer) = Journal::create(&path)?;
    let (stop_sender, stop) = watch::channel(false);
    let nodes = [node()];
    let workers = (0..args.workers.max(1)).map(|thread| Worker::new(thread, &nodes)).collect();
    let phase = PhaseContext { journal: journal.clone(), clients, stop, op_timeout: Duration::from_secs(3) };
    let begun = Instant::now();
    let shape = Shape { threads: args.workers.max(1), nodes: nodes.len(), seed: Seed(0) };
    let generator = workload.generator(&shape);
    let running = tokio::spawn(run_phase(workers, generator, phase));
    let mut memory = Vec::new();
    for _ in 0..args.seconds.max(1) {
        tokio::time::sleep(Duration::from_secs(1)).await;
        memory.push(resident_mib());
    }
    let _ = stop_sender.send(true);
    running.await??;
    let stats = writer.close()?;
    let seconds = begun.elapsed().as_secs_f64();
    let (ok, _, _) = stats.totals();
    let bytes = std::fs::metadata(&path)?.len();
    println!("{ok} operations by {} workers in {seconds:.2} s, all on disk", args.workers.max(1));
    println!("{:.0} operations/s, {:.1} bytes each on disk", ok as f64 / seconds, bytes as f64 / ok.max(1) as f64);
    let (first, last) = (memory.first().copied().unwrap_or(0), memory.last().copied().unwrap_or(0));
    println!("resident memory {first} MiB after 1 s, {last} MiB at the end");
    std::fs::remove_file(&path)?;
    if args.dir.is_none() {
        std::fs::remove_dir_all(&own)?;
    }
    Ok(())
}

/// A node that nobody asks anything.
fn node() -> Arc<Node> {
    let silent =
        Duplex { writer: Box::new(tokio::io::sink()), reader: Box::new(tokio::io::empty()), keep: Box::new(()) };
    Arc::new(Node {
        name: Sym::new("n1"),
        index: 0,
        address: std::net::Ipv4Addr::LOCALHOST.into(),
        root: String::new(),
        program: String::new(),
        control: Control::new("n1", silent),
    })
}

fn resident_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let kib =
        status.lines().find_map(|line| line.strip_prefix("VmRSS:")?.trim().strip_suffix(" kB")?.parse::<u64>().ok());
    kib.unwrap_or(0) / 1024
}

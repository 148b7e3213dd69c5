//! One node: its command line, and how its parts are put together.

use crate::bug::{Bug, Bugs};
use crate::http::Api;
use crate::metrics::Metrics;
use crate::peers::{self, Peers};
use crate::raft;
use crate::server::{Parts, Server};
use crate::storage::Storage;
use anyhow::{Context, bail};
use clap::Args;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::mpsc;
use std::time::Duration;
use tokio::net::TcpListener;

/// Length of the pieces in which snapshots are sent (bytes): a slow link should carry a few in an election timeout.
const SNAPSHOT_PIECE_LEN: usize = 64 << 10;

/// Arguments of a node.
#[derive(Args, Clone, Debug)]
pub struct NodeArgs {
    /// Its name, one of `--peers`
    #[arg(long)]
    id: String,
    /// Where clients connect (HTTP)
    #[arg(long)]
    listen: SocketAddr,
    /// Where the other members connect
    #[arg(long)]
    peer_listen: SocketAddr,
    /// All members and where they listen for each other: n1=10.0.0.1:9090,n2=…
    #[arg(long, value_delimiter = ',', required = true, value_parser = member)]
    peers: Vec<(String, SocketAddr)>,
    /// Where its data is kept
    #[arg(long)]
    data_dir: PathBuf,
    /// Planted bugs, for tests that must find them
    #[arg(long, value_enum)]
    bug: Vec<Bug>,
    /// Entries between two snapshots
    #[arg(long, default_value_t = 10_000, value_parser = clap::value_parser!(u64).range(1..))]
    snapshot_every: u64,
    /// A follower without a leader for this long (up to twice as long) stands for election
    #[arg(long, default_value_t = 300, value_parser = clap::value_parser!(u64).range(20..))]
    election_timeout_ms: u64,
    /// Pause between a leader's signs of life
    #[arg(long, default_value_t = 60, value_parser = clap::value_parser!(u64).range(5..))]
    heartbeat_ms: u64,
    /// A request without an answer for this long is given up
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u64).range(1..))]
    request_timeout_ms: u64,
    /// For election timeouts; random when absent
    #[arg(long)]
    seed: Option<u64>,
}

fn member(text: &str) -> Result<(String, SocketAddr), String> {
    let (name, address) = text.split_once('=').ok_or("expected NAME=IP:PORT")?;
    Ok((name.to_owned(), address.parse().map_err(|_| format!("`{address}` is not IP:PORT"))?))
}

/// Runs a node until it is killed.
///
/// # Errors
/// When its arguments, its disk or its ports are no good.
pub fn main(args: NodeArgs) -> anyhow::Result<()> {
    tracing_subscriber::fmt().json().with_writer(std::io::stderr).with_max_level(tracing::Level::INFO).init();
    let runtime = tokio::runtime::Builder::new_multi_thread().worker_threads(2).enable_all().build()?;
    runtime.block_on(serve(args))
}

async fn serve(args: NodeArgs) -> anyhow::Result<()> {
    let names: Vec<String> = args.peers.iter().map(|(name, _)| name.clone()).collect();
    let Some(id) = names.iter().position(|name| *name == args.id) else {
        bail!("`{}` is not in --peers: {}", args.id, names.join(", "));
    };
    if args.heartbeat_ms * 2 > args.election_timeout_ms {
        bail!("--election-timeout-ms must be at least twice --heartbeat-ms");
    }
    let bugs = Bugs(args.bug.clone());
    let (storage, recovered) = Storage::open(&args.data_dir, &bugs)?;
    tracing::info!(
        term = recovered.hard.term,
        snapshot = recovered.log.base(),
        last = recovered.log.last_index(),
        torn_bytes = recovered.torn,
        bugs = ?bugs.0,
        "recovered"
    );
    let config = raft::Config {
        id,
        members: names.len(),
        election_ms: args.election_timeout_ms,
        heartbeat_ms: args.heartbeat_ms,
        piece_len: SNAPSHOT_PIECE_LEN,
        seed: args.seed.unwrap_or_else(rand::random),
        commit_on_minority: bugs.has(Bug::CommitOnMinority),
        commit_old_term: bugs.has(Bug::CommitOldTerm),
    };
    let listening = |what: &'static str, at: SocketAddr| move || format!("cannot listen for {what} on {at}");
    let peer_listener =
        TcpListener::bind(args.peer_listen).await.with_context(listening("members", args.peer_listen))?;
    let client_listener = TcpListener::bind(args.listen).await.with_context(listening("clients", args.listen))?;
    let addresses: Vec<SocketAddr> = args.peers.iter().map(|(_, address)| *address).collect();
    let metrics = Arc::new(Metrics::default());
    let (inbox_sender, inbox) = mpsc::channel();
    let parts = Parts {
        config,
        names: names.clone(),
        bugs,
        snapshot_every: args.snapshot_every,
        peers: Peers::connect(id, &addresses),
        metrics: metrics.clone(),
    };
    let mut server = Server::new(parts, storage, recovered)?;
    tokio::spawn(peers::listen(peer_listener, names.len(), inbox_sender.clone()));
    let life = format!("{}-{:016x}", args.id, rand::random::<u64>());
    let api = Api::new(inbox_sender, metrics, Duration::from_millis(args.request_timeout_ms), life);
    let (failed_sender, failed) = tokio::sync::oneshot::channel();
    std::thread::Builder::new().name("core".to_owned()).spawn(move || {
        let _ = failed_sender.send(server.run(&inbox));
    })?;
    tracing::info!(listen = %args.listen, peers = names.len(), "up");
    let app = api.router();
    tokio::select! {
        served = async { axum::serve(client_listener, app).await } => served.context("the HTTP server ended"),
        end = failed => end.context("the core thread panicked")?.context("the node stops: its disk cannot be trusted"),
    }
}

//! Links measured by processes on the nodes: an echo server on one, a client of it on another (`agent echo`).

use crate::trial::Lab;
use anyhow::{Context, bail};
use serde::Deserialize;
use squall_agent::protocol::{Reply, Request, StartProcess};
use std::collections::BTreeMap;
use std::time::{Duration, Instant};

/// Where the server listens.
const PORT: u16 = 7007;

/// The server's process on its node, and its log.
const NAME: &str = "echo";
const LOG: &str = "echo.log";

/// How long the server may take to listen.
const READY_TIME_MAX: Duration = Duration::from_secs(10);

/// What a client says.
#[derive(Clone, Debug, Deserialize)]
pub(crate) struct Echoes {
    pub(crate) sent: u32,
    pub(crate) answered: u32,
    pub(crate) doubled: u32,
    pub(crate) overtaken: u32,
    pub(crate) damaged: u32,
    pub(crate) resets: u32,
    pub(crate) median_us: Option<u64>,
    pub(crate) bits_per_s: f64,
}

impl Echoes {
    /// A number of datagrams as a share of those that were sent.
    pub(crate) fn share(&self, number: u32) -> f64 {
        f64::from(number) / f64::from(self.sent.max(1))
    }

    /// Milliseconds; not a number when nothing came back.
    pub(crate) fn median_ms(&self) -> f64 {
        self.median_us.map_or(f64::NAN, |us| us as f64 / 1e3)
    }
}

/// Between which nodes: the client on the first, the server on the second.
pub(crate) struct Echo<'a> {
    lab: &'a Lab<'a>,
    from: usize,
    to: usize,
}

impl<'a> Echo<'a> {
    /// Starts the server, unless it runs.
    ///
    /// # Errors
    /// When it does not listen in time.
    pub(crate) async fn start(lab: &'a Lab<'a>, from: usize, to: usize) -> anyhow::Result<Self> {
        let node = &lab.cluster.nodes[to];
        let port = PORT.to_string();
        let start = StartProcess {
            name: NAME.to_owned(),
            argv: [node.program.as_str(), "agent", "echo", "serve", &port].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            cwd: node.root.clone(),
            log: LOG.to_owned(),
        };
        node.control.call(Request::Start(start)).await?;
        let echo = Self { lab, from, to };
        let begun = Instant::now();
        while echo.lines("ready").await? == 0 {
            if begun.elapsed() > READY_TIME_MAX {
                bail!("the echo server on {} does not listen", node.name);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        Ok(echo)
    }

    /// How many connections the server found reset so far.
    ///
    /// # Errors
    /// When its log cannot be read.
    pub(crate) async fn server_resets(&self) -> anyhow::Result<usize> {
        self.lines("reset").await
    }

    async fn lines(&self, wanted: &str) -> anyhow::Result<usize> {
        let read = Request::ReadFile { path: LOG.to_owned(), offset: 0, len_max: 1 << 20 };
        match self.lab.cluster.nodes[self.to].control.call_with(read, Vec::new(), READY_TIME_MAX).await? {
            (Reply::File { .. }, bytes) => {
                Ok(String::from_utf8_lossy(&bytes).lines().filter(|line| *line == wanted).count())
            }
            (other, _) => bail!("the agent answered a file with {other:?}"),
        }
    }

    /// Sends `count` datagrams of `len` bytes.
    ///
    /// # Errors
    /// When the client cannot be run.
    pub(crate) async fn udp(&self, count: u32, gap: Duration, len: usize) -> anyhow::Result<Echoes> {
        self.client("udp", &format!("{count} {} {len}", gap.as_micros())).await
    }

    /// Speaks and hears `count` times.
    ///
    /// # Errors
    /// When the client cannot be run.
    pub(crate) async fn tcp(&self, count: u32) -> anyhow::Result<Echoes> {
        self.client("tcp", &count.to_string()).await
    }

    async fn client(&self, protocol: &str, arguments: &str) -> anyhow::Result<Echoes> {
        let (from, to) = (&self.lab.cluster.nodes[self.from], &self.lab.cluster.nodes[self.to]);
        let address = std::net::SocketAddr::new(to.address, PORT);
        let script = format!("{} agent echo {protocol} {address} {arguments}", from.program);
        let output = self.lab.shell(self.from, &script).await?;
        serde_json::from_str(&output.stdout)
            .with_context(|| format!("the echo client failed: {}", output.stderr.trim()))
    }

    /// Datagrams with a wrong checksum that the receiving kernel dropped so far.
    ///
    /// # Errors
    /// When its counters cannot be read.
    pub(crate) async fn checksum_errors(&self) -> anyhow::Result<f64> {
        let counters = self.lab.shell(self.to, "grep ^Udp: /proc/net/snmp").await?.stdout;
        let mut lines = counters.lines().map(|line| line.split_ascii_whitespace());
        let (names, values) = (lines.next().context("no UDP counters")?, lines.next().context("no UDP counters")?);
        let found = names.zip(values).find(|(name, _)| *name == "InCsumErrors");
        found.and_then(|(_, value)| value.parse().ok()).context("this kernel does not count checksum errors")
    }
}

//! Two nodes get each other's data, as when disks are put back into the wrong machines.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::atlas::Victims;
use crate::hands::{Ask, At, Seen};
use crate::select::Who;
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use anyhow::{Context, bail};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::{self, Fault};
use squall_agent::protocol::{Reply, Request};
use squall_harness::Node;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "swap-disks",
        what: "two nodes get each other's data: kill, copy, put back on the other one, start",
        mechanism: "ordinary copies of the target's directories, by way of the controller",
        needs: "tar; not more than 60 MB of data",
        verified: "SHA-256 of names and contents before and after",
        colour: "#d37295",
    },
    lasts: Lasts {
        key: "for",
        default_ms: 1000,
        doc: "time until the next fault of this kind may begin at the earliest",
    },
    read,
    trial: TrialSetup {
        nodes: 2,
        keys: "{ beyond: true, nodes: [n1, n2] }",
        target: None,
        program: TICKER,
        machines: false,
    },
};

/// Longest archive of a node's data (bytes): it travels in one frame of the control channel.
const ARCHIVE_LEN_MAX: usize = 60_000_000;

/// How long an archive may travel.
const TRAVEL_TIME_MAX: Duration = Duration::from_secs(60);

/// How long packing and unpacking may take (milliseconds).
const TAR_TIME_MAX_MS: u64 = 30_000;

/// Nodes that get each other's data.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct SwapDisks {
    /// As in the test file; for people.
    pub select: String,
    /// The two.
    pub who: Who,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let victims = Victims::read(section, context)?;
    let select = victims.name().to_owned();
    let pairs = match victims.pairs() {
        Ok(pairs) => pairs,
        // The keys are documented whatever the cluster.
        Err(_) if section.is_describing() => Box::new(|_: &mut rand_chacha::ChaCha8Rng| (0, 1)),
        Err(why) => return Err(section.error(why)),
    };
    Ok(Box::new(move |_, rng| {
        let (a, b) = pairs(rng);
        Planned::SwapDisks(SwapDisks { select: select.clone(), who: Who::Nodes(vec![a, b]) })
    }))
}

/// Runs a command on a node to its end.
async fn tar(node: &Node, arguments: &[&str]) -> anyhow::Result<()> {
    let argv = std::iter::once("tar").chain(arguments.iter().copied()).map(str::to_owned).collect();
    let exec = Request::Exec { argv, env: BTreeMap::new(), timeout_ms: TAR_TIME_MAX_MS };
    match node.control.call(exec).await? {
        Reply::Output { code: Some(0), .. } => Ok(()),
        Reply::Output { stderr, .. } => bail!("tar on {} failed: {}", node.name, stderr.trim()),
        other => bail!("the agent answered a command with {other:?}"),
    }
}

/// Takes the copy `of` on `node` as one archive.
async fn take(node: &Node, of: &str) -> anyhow::Result<Vec<u8>> {
    let archive = format!("{of}.tar");
    tar(node, &["-C", &format!("agent/kept/{of}"), "-cf", &archive, "."]).await?;
    let mut bytes = Vec::new();
    loop {
        let read = Request::ReadFile { path: archive.clone(), offset: bytes.len() as u64, len_max: 8 << 20 };
        let (_, piece) = node.control.call_with(read, Vec::new(), TRAVEL_TIME_MAX).await?;
        if piece.is_empty() {
            node.control.call(Request::Remove { path: archive }).await?;
            return Ok(bytes);
        }
        bytes.extend(piece);
        if bytes.len() > ARCHIVE_LEN_MAX {
            bail!("the data of {} are too large to be swapped", node.name);
        }
    }
}

/// Puts another node's archive down as the copy `to`.
async fn give(node: &Node, archive: Vec<u8>, to: &str) -> anyhow::Result<()> {
    let (dir, file) = (format!("agent/kept/{to}"), format!("{to}.tar"));
    node.control.call(Request::MakeDir { path: dir.clone() }).await?;
    let put = Request::PutFile { path: file.clone(), mode: 0o600 };
    node.control.call_with(put, archive, TRAVEL_TIME_MAX).await?;
    tar(node, &["-C", &dir, "-xpf", &file]).await?;
    node.control.call(Request::Remove { path: file }).await?;
    Ok(())
}

impl SwapDisks {
    fn kill(at: &At<'_>) -> Fault {
        Fault::Kill(faults::kill::Kill { process: at.process() })
    }

    fn snapshots(at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let snapshot = || Fault::Snapshot(faults::snapshot::Snapshot { dirs: at.target.data() });
        at.per_node(hit.nodes(), |_| vec![Self::kill(at), snapshot()])
    }

    /// Where the other node's copy is put down.
    fn other(at: &At<'_>) -> String {
        format!("{}.other", at.id)
    }
}

#[async_trait]
impl PlannedFault for SwapDisks {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.who)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let snapshot = Self::other(at);
        let restore =
            || Fault::Restore(faults::restore::Restore { dirs: at.target.data(), snapshot: snapshot.clone() });
        at.per_node(hit.nodes(), |_| vec![restore()])
    }

    async fn inject(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        let &[a, b] = hit.nodes() else { bail!("one of the two nodes is down already") };
        let id = format!("{}.then", at.id);
        let then = At::new(&id, at.cluster, at.target, at.lease);
        Seen::verified(&then.inject(Self::snapshots(&then, hit)).await?)?;
        let (a, b, of, to) = (at.node(a), at.node(b), format!("{id}.1"), Self::other(at));
        let (from_a, from_b) = futures::future::try_join(take(a, &of), take(b, &of)).await?;
        futures::future::try_join(give(a, from_b, &to), give(b, from_a, &to)).await?;
        let evidence = at.inject(self.asks(at, hit)).await?;
        then.heal(Self::snapshots(&then, hit), false).await?;
        let mut seen = Seen::verified(&evidence)?;
        seen.words = evidence.iter().map(|one| one.seen.as_str()).collect::<Vec<_>>().join("; ");
        at.start(hit.nodes()).await?;
        Ok(seen)
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start_ended(hit.nodes()).await?;
        Ok(None)
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let mut reading = Reading::default();
        for &node in hit.nodes() {
            let printed = lab.shell(node, "[ -e data/name ] || hostname >data/name; cat data/name; hostname").await?;
            let (name, host) = printed.stdout.trim().split_once('\n').context("no names")?;
            let comma = if reading.words.is_empty() { "" } else { ", " };
            reading.words += &format!("{comma}{host} has the disk of {name}");
            reading.numbers.push(f64::from(u8::from(name == host)));
        }
        Ok(reading)
    }

    fn expected(&self) -> String {
        "each of two nodes has its own disk before, and the other's from then on".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        match (readings.before.numbers.as_slice(), readings.during.numbers.as_slice()) {
            ([1.0, 1.0], [0.0, 0.0]) => Ok(()),
            _ => Err("the disks were not swapped".to_owned()),
        }
    }
}

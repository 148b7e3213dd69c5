//! Carries single faults out on a cluster: asks the agents, verifies by probes.

use crate::faults::Planned;
use anyhow::{Context, bail};
use futures::future::{join_all, try_join_all};
use squall_agent::faults::Fault;
use squall_agent::protocol::{Evidence, LedgerEntry, ProcessState, Reply, Request};
use squall_harness::cluster::{Control, Network};
use squall_harness::{Cluster, Node, Target};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Mutex;
use std::time::Duration;

/// A port on which nothing listens: the refusal is the answer that we want to see.
const PROBE_PORT: u16 = 1;

/// No answer for this long means that packets do not pass.
const PROBE_TIME_MAX: Duration = Duration::from_millis(400);

/// What one agent is asked for.
pub(crate) struct Ask {
    /// The agent.
    pub(crate) control: Control,
    /// One after the other; undone in the opposite order.
    pub(crate) faults: Vec<Fault>,
}

/// Who does something to the packets of a link where no router of ours is in between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum End {
    /// Who sends them.
    Sender,
    /// Who receives them.
    Receiver,
}

/// What was seen of a fault.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Seen {
    /// In the past tense, with numbers.
    pub(crate) words: String,
    /// To be added up over the run, by unit.
    pub(crate) counts: BTreeMap<String, u64>,
}

impl Seen {
    /// What several agents saw, added up.
    pub(crate) fn of(evidence: &[Evidence]) -> Self {
        let mut seen = Self::default();
        for one in evidence.iter().filter(|one| one.count > 0) {
            seen.count(one.count, &one.unit);
        }
        let mut words: Vec<String> = seen.counts.iter().map(|(unit, n)| format!("{n} {unit}")).collect();
        for one in evidence.iter().filter(|one| one.count == 0 && !one.seen.is_empty()) {
            if !words.contains(&one.seen) {
                words.push(one.seen.clone());
            }
        }
        seen.words = words.join(", ");
        seen
    }

    /// The same, if all of them verified the fault.
    ///
    /// # Errors
    /// With the words of those that did not.
    pub(crate) fn verified(evidence: &[Evidence]) -> anyhow::Result<Self> {
        let not: Vec<&str> = evidence.iter().filter(|one| !one.verified).map(|one| one.seen.as_str()).collect();
        if not.is_empty() { Ok(Self::of(evidence)) } else { bail!("not in force: {}", not.join(", ")) }
    }

    /// Adds to the counts.
    pub(crate) fn count(&mut self, count: u64, unit: &str) {
        *self.counts.entry(unit.to_owned()).or_default() += count;
    }
}

/// Where a fault of a plan is carried out.
pub(crate) struct At<'a> {
    /// The step's id.
    pub(crate) id: &'a str,
    /// The nodes.
    pub(crate) cluster: &'a Cluster,
    /// The system under test.
    pub(crate) target: &'a dyn Target,
    /// When the agents undo it by themselves.
    pub(crate) lease: Duration,
    /// What nodes, by number, had in their ledgers before their disks were put back.
    pub(crate) ledgers: Mutex<BTreeMap<usize, Vec<LedgerEntry>>>,
}

impl<'a> At<'a> {
    pub(crate) fn new(id: &'a str, cluster: &'a Cluster, target: &'a dyn Target, lease: Duration) -> Self {
        Self { id, cluster, target, lease, ledgers: Mutex::default() }
    }
}

impl At<'_> {
    /// Name of the target's process.
    pub(crate) fn process(&self) -> String {
        self.target.process().to_owned()
    }

    /// The node with this number.
    pub(crate) fn node(&self, node: usize) -> &Node {
        &self.cluster.nodes[node]
    }

    /// The same kind of faults on each of `nodes`.
    pub(crate) fn per_node(&self, nodes: &[usize], faults: impl Fn(&Node) -> Vec<Fault>) -> Vec<Ask> {
        let ask = |&node: &usize| Ask { control: self.node(node).control.clone(), faults: faults(self.node(node)) };
        nodes.iter().map(ask).collect()
    }

    /// A fault of packets on ordered pairs, by who can do that: the router for all, or one end of each for its own. A machine
    /// that is down is not asked: it has no packets, and waiting for it would outlast the fault.
    pub(crate) fn per_link_control(
        &self,
        pairs: &[(usize, usize)],
        end: End,
        fault: impl Fn(Vec<(IpAddr, IpAddr)>) -> Fault,
    ) -> Vec<Ask> {
        let address = |node: usize| self.cluster.nodes[node].address;
        let addresses = |&(from, to): &(usize, usize)| (address(from), address(to));
        match &self.cluster.network {
            Network::Router(control) => {
                let faults = vec![fault(pairs.iter().map(addresses).collect())];
                vec![Ask { control: control.clone(), faults }]
            }
            Network::PerNode => {
                let mut by_node: BTreeMap<usize, Vec<(IpAddr, IpAddr)>> = BTreeMap::new();
                for pair in pairs {
                    let node = if end == End::Receiver { pair.1 } else { pair.0 };
                    if !self.node(node).control.is_down() {
                        by_node.entry(node).or_default().push(addresses(pair));
                    }
                }
                let ask = |(node, pairs)| Ask { control: self.node(node).control.clone(), faults: vec![fault(pairs)] };
                by_node.into_iter().map(ask).collect()
            }
        }
    }

    /// Starts the target on each of `nodes`.
    pub(crate) async fn start(&self, nodes: &[usize]) -> anyhow::Result<()> {
        let starts = nodes.iter().map(|&node| self.target.start(self.cluster, self.node(node)));
        try_join_all(starts).await.map(|_| ())
    }

    /// Starts the target where it ended meanwhile, on those of `nodes`.
    ///
    /// # Errors
    /// When it does not start.
    pub(crate) async fn start_ended(&self, nodes: &[usize]) -> anyhow::Result<()> {
        let mut ended = Vec::new();
        for &node in nodes {
            if state(self.target, self.node(node)).await? == Some(ProcessState::Gone) {
                ended.push(node);
            }
        }
        self.start(&ended).await
    }

    /// Has the agents inject what they are asked for.
    ///
    /// # Errors
    /// When one of them could not.
    pub(crate) async fn inject(&self, asks: Vec<Ask>) -> anyhow::Result<Vec<Evidence>> {
        let lease_ms = self.lease.as_millis() as u64;
        let asked = asks.into_iter().map(|ask| async move {
            let mut seen = Vec::new();
            for (n, fault) in ask.faults.into_iter().enumerate() {
                let request = Request::Inject { id: self.entry_id(n), fault, lease_ms };
                seen.push(evidence(&ask.control, request).await?);
            }
            anyhow::Ok(seen)
        });
        Ok(try_join_all(asked).await?.concat())
    }

    /// Has the agents undo what they were asked for; when it `holds`, it must be in force until now.
    ///
    /// # Errors
    /// When one of them could not, or it was not in force any more.
    pub(crate) async fn heal(&self, asks: Vec<Ask>, holds: bool) -> anyhow::Result<Vec<Evidence>> {
        let asked = asks.into_iter().map(|ask| async move {
            let mut seen = Vec::new();
            for n in (0..ask.faults.len()).rev() {
                if holds {
                    let last = evidence(&ask.control, Request::Measure { id: self.entry_id(n) }).await?;
                    if !last.verified {
                        bail!("{} before its end", last.seen);
                    }
                }
                seen.push(evidence(&ask.control, Request::Heal { id: self.entry_id(n) }).await?);
            }
            Ok(seen)
        });
        let seen = try_join_all(asked).await?.concat();
        self.heal_after_boot();
        Ok(seen)
    }

    /// What a machine that is down now has of this step would be in force again when it has booted, and stay.
    fn heal_after_boot(&self) {
        for control in self.cluster.nodes.iter().map(|node| &node.control).filter(|control| control.is_down()) {
            let (control, id) = (control.clone(), self.entry_id(0));
            tokio::spawn(async move {
                // Of one that never comes back nothing is left; and all ledgers are healed after the phase.
                let _ = control.call(Request::Heal { id }).await;
            });
        }
    }

    /// In the ledgers of the agents: each of several faults at one agent has its own.
    fn entry_id(&self, n: usize) -> String {
        if n == 0 { self.id.to_owned() } else { format!("{}.{n}", self.id) }
    }
}

/// Makes on every node what `faults` need before the target starts there.
///
/// # Errors
/// When a node lacks what that takes.
pub(crate) async fn prepare<'a>(
    faults: impl Iterator<Item = &'a Planned> + Clone,
    cluster: &Cluster,
    target: &dyn Target,
) -> anyhow::Result<()> {
    for fault in faults.clone() {
        fault.fault().check_cluster(cluster)?;
    }
    for node in &cluster.nodes {
        let mut wanted: Vec<Fault> = Vec::new();
        for fault in faults.clone().flat_map(|fault| fault.fault().preparations(target, node)) {
            if !wanted.contains(&fault) {
                wanted.push(fault);
            }
        }
        let unmounts = faults.clone().find(|fault| fault.fault().unmounts());
        if let (Some(fault), true) = (unmounts, wanted.iter().any(|fault| matches!(fault, Fault::Disk(_)))) {
            bail!(
                "`{}` unmounts the file system under the target's data, and other faults of this test put one of ours over it: leave \
                 out either the faults of devices or those of disks (`power-cut`, `disk-error`, …)",
                fault.fault().kind().doc.name
            );
        }
        // A disk of ours stands on a device, not below it. One with a log will do for all.
        let logged = wanted.iter().any(|fault| matches!(fault, Fault::Device(device) if device.logged));
        wanted.retain(|fault| !matches!(fault, Fault::Device(device) if logged && !device.logged));
        wanted.sort_by_key(|fault| !matches!(fault, Fault::Device(_)));
        for (n, fault) in wanted.into_iter().enumerate() {
            // Without a lease of its own: it stands as long as the session.
            let request = Request::Inject { id: format!("0-prepared-{n}"), fault, lease_ms: 0 };
            let prepared = evidence(&node.control, request).await?;
            if !prepared.verified {
                bail!("{} cannot be prepared for the faults of this test: {}", node.name, prepared.seen);
            }
        }
    }
    Ok(())
}

/// Asks for the injection, measurement or healing of a fault.
pub(crate) async fn evidence(control: &Control, request: Request) -> anyhow::Result<Evidence> {
    match control.call(request).await? {
        Reply::Fault(evidence) => Ok(evidence),
        other => bail!("the agent answered a fault with {other:?}"),
    }
}

/// How long each of these ordered pairs takes to open a TCP connection now, there and back (microseconds); `None` for those
/// that cannot, as when either direction is cut. Before that so many datagrams are sent there.
pub(crate) async fn round_trips(
    cluster: &Cluster,
    pairs: &[(usize, usize)],
    datagrams: u32,
) -> anyhow::Result<Vec<Option<u64>>> {
    let mut by_node: BTreeMap<usize, Vec<usize>> = BTreeMap::new();
    for &(from, to) in pairs {
        by_node.entry(from).or_default().push(to);
    }
    // A machine that is down opens no connection.
    by_node.retain(|from, _| !cluster.nodes[*from].control.is_down());
    let probes = by_node.into_iter().map(|(from, others)| async move {
        let node = &cluster.nodes[from];
        let addresses = others.iter().map(|&o| SocketAddr::new(cluster.nodes[o].address, PROBE_PORT)).collect();
        let timeout_ms = PROBE_TIME_MAX.as_millis() as u64;
        let request = Request::Probe { addresses, timeout_ms, datagrams };
        match node.control.call(request).await? {
            Reply::Probe(answers) => {
                let took = others.into_iter().zip(answers).map(|(to, answer)| ((from, to), answer.ok()));
                Ok(took.collect::<Vec<_>>())
            }
            other => bail!("{}: the agent answered a probe with {other:?}", node.name),
        }
    });
    let took: BTreeMap<_, _> = try_join_all(probes).await?.into_iter().flatten().collect();
    Ok(pairs.iter().map(|pair| took.get(pair).copied().flatten()).collect())
}

/// Which ordered pairs of different nodes cannot open a TCP connection now; each pair fails when either direction of it
/// is cut.
pub(crate) async fn unreachable(cluster: &Cluster) -> anyhow::Result<Vec<(usize, usize)>> {
    let nodes = 0..cluster.nodes.len();
    let pairs: Vec<_> =
        nodes.clone().flat_map(|a| nodes.clone().map(move |b| (a, b))).filter(|(a, b)| a != b).collect();
    let took = round_trips(cluster, &pairs, 0).await?;
    Ok(pairs.into_iter().zip(took).filter(|(_, took)| took.is_none()).map(|(pair, _)| pair).collect())
}

/// Undoes everything in all ledgers.
pub(crate) async fn heal_all(cluster: &Cluster) -> anyhow::Result<()> {
    let all = cluster.controls().into_iter().map(|(name, control)| async move {
        control.call(Request::HealAll).await.with_context(|| format!("cannot heal {name}")).map(|_| ())
    });
    join_all(all).await.into_iter().collect()
}

/// What the target's process on `node` is doing; `None` when it was never started, as with a target without processes.
pub(crate) async fn state(target: &dyn Target, node: &Node) -> anyhow::Result<Option<ProcessState>> {
    match node.control.call(Request::Status { name: target.process().to_owned() }).await? {
        Reply::Process(status) => Ok(status.pid.map(|_| status.state)),
        other => bail!("{}: the agent answered a status with {other:?}", node.name),
    }
}

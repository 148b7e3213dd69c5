//! Carries single faults out on a cluster: asks the agents, verifies by probes.

use anyhow::{Context, bail};
use futures::future::{join_all, try_join_all};
use squall_agent::protocol::{Evidence, Fault, ProcessState, Reply, Request};
use squall_harness::cluster::{Control, Network};
use squall_harness::{Cluster, Node, Target};
use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::time::Duration;

/// A port on which nothing listens: the refusal is the answer that we want to see.
const PROBE_PORT: u16 = 1;

/// No answer for this long means that packets do not pass.
const PROBE_TIME_MAX: Duration = Duration::from_millis(400);

/// Asks for the injection or measurement of a fault.
async fn fault(control: &Control, request: Request) -> anyhow::Result<Evidence> {
    match control.call(request).await? {
        Reply::Fault(evidence) => Ok(evidence),
        other => bail!("the agent answered a fault with {other:?}"),
    }
}

/// Drops the packets of these ordered pairs of nodes.
pub(crate) async fn cut(cluster: &Cluster, id: &str, pairs: &[(usize, usize)], lease: Duration) -> anyhow::Result<()> {
    let lease_ms = lease.as_millis() as u64;
    let injections = per_control(cluster, pairs).into_iter().map(|(control, pairs)| {
        let fault_of = Fault::Drop { pairs, by: cluster.network.drop_by() };
        async move { fault(&control, Request::Inject { id: id.to_owned(), fault: fault_of, lease_ms }).await }
    });
    let evidence = try_join_all(injections).await?;
    if let Some(unverified) = evidence.iter().find(|evidence| !evidence.verified) {
        bail!("the rules are not in force: {}", unverified.seen);
    }
    Ok(())
}

/// Lets them pass again; how many packets were dropped, where that is counted.
pub(crate) async fn join(cluster: &Cluster, id: &str, pairs: &[(usize, usize)]) -> anyhow::Result<u64> {
    let heals = per_control(cluster, pairs)
        .into_iter()
        .map(|(control, _)| async move { fault(&control, Request::Heal { id: id.to_owned() }).await });
    Ok(try_join_all(heals).await?.iter().map(|evidence| evidence.count).sum())
}

/// Who drops which pairs: the router all, or each receiver its own.
fn per_control(cluster: &Cluster, pairs: &[(usize, usize)]) -> Vec<(Control, Vec<(IpAddr, IpAddr)>)> {
    let address = |node: usize| cluster.nodes[node].address;
    match &cluster.network {
        Network::Router(control) => {
            vec![(control.clone(), pairs.iter().map(|&(from, to)| (address(from), address(to))).collect())]
        }
        Network::PerNode => {
            let mut by_receiver: BTreeMap<usize, Vec<(IpAddr, IpAddr)>> = BTreeMap::new();
            for &(from, to) in pairs {
                by_receiver.entry(to).or_default().push((address(from), address(to)));
            }
            by_receiver.into_iter().map(|(to, pairs)| (cluster.nodes[to].control.clone(), pairs)).collect()
        }
    }
}

/// Which ordered pairs of different nodes cannot open a TCP connection now; each pair fails when either direction of it
/// is cut.
pub(crate) async fn unreachable(cluster: &Cluster) -> anyhow::Result<Vec<(usize, usize)>> {
    let probes = cluster.nodes.iter().map(|node| async move {
        let others: Vec<usize> = (0..cluster.nodes.len()).filter(|other| *other != node.index).collect();
        let addresses = others.iter().map(|&o| SocketAddr::new(cluster.nodes[o].address, PROBE_PORT)).collect();
        let request = Request::Probe { addresses, timeout_ms: PROBE_TIME_MAX.as_millis() as u64 };
        match node.control.call(request).await? {
            Reply::Probe(answers) => {
                let silent = others.iter().zip(answers).filter(|(_, answer)| answer.is_some());
                Ok(silent.map(|(&other, _)| (node.index, other)).collect::<Vec<_>>())
            }
            other => bail!("{}: the agent answered a probe with {other:?}", node.name),
        }
    });
    Ok(try_join_all(probes).await?.concat())
}

/// Kills the target on `node`.
pub(crate) async fn kill(target: &dyn Target, node: &Node, id: &str, lease: Duration) -> anyhow::Result<Evidence> {
    let kill = Fault::Kill { process: target.process().to_owned() };
    fault(&node.control, Request::Inject { id: id.to_owned(), fault: kill, lease_ms: lease.as_millis() as u64 }).await
}

/// Stops the target on `node` in its tracks.
pub(crate) async fn pause(target: &dyn Target, node: &Node, id: &str, lease: Duration) -> anyhow::Result<Evidence> {
    let pause = Fault::Pause { process: target.process().to_owned() };
    fault(&node.control, Request::Inject { id: id.to_owned(), fault: pause, lease_ms: lease.as_millis() as u64 }).await
}

/// Whether the fault on `node` is still in force.
pub(crate) async fn measure(node: &Node, id: &str) -> anyhow::Result<Evidence> {
    fault(&node.control, Request::Measure { id: id.to_owned() }).await
}

/// Undoes a fault on `node`.
pub(crate) async fn heal(node: &Node, id: &str) -> anyhow::Result<Evidence> {
    fault(&node.control, Request::Heal { id: id.to_owned() }).await
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

//! All disks of whole machines are what they were a while ago, as after an old snapshot of a virtual machine was put back: what a node
//! has promised since it has forgotten. Hardly any system claims to survive that on a majority, and some not even on one node.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::atlas::Victims;
use crate::claims::Harm;
use crate::control_path;
use crate::hands::{Ask, At, Seen};
use crate::machine::{self, Machines};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use anyhow::{Context, bail};
use async_trait::async_trait;
use futures::future::{join_all, try_join_all};
use serde::{Deserialize, Serialize};
use squall_agent::protocol::{Reply, Request};
use squall_harness::Cluster;
use squall_harness::cluster::Power;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use std::collections::BTreeMap;
use std::sync::{Arc, PoisonError};
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "machine-rollback",
        what: "the disks of whole machines become what they were some time ago: a snapshot, …, no power, the snapshot is put back, \
               they boot, and the target is started",
        mechanism: "snapshots of libvirt",
        needs: "virtual machines of libvirt (vagrant)",
        verified: "the machine is silent, then answers with another boot id; a file that was synced after the snapshot is gone",
        colour: "#8c8c8c",
    },
    lasts: Lasts {
        key: "restart_after",
        default_ms: 1000,
        doc: "how long it stays without power; then it boots, and the target is started",
    },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ back: 3s, beyond: true, nodes: one }",
        target: None,
        program: TICKER,
        machines: true,
    },
};

/// Written and synced just before the power goes: the disks were put back when it is gone. The trial looks for it, too.
const WITNESS: &str = "late";

const COMMAND_TIME_MAX: Duration = Duration::from_secs(20);

/// Machines that are rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineRollback {
    /// Which.
    pub machines: Machines,
    /// How far (milliseconds).
    pub back_ms: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let other = "`rollback`, which puts the target's data back";
    machine::check(section, context, KIND.doc.name, "puts the disks of a machine back", other)?;
    let victims = Victims::read(section, context)?;
    let doc = "how far back; the step takes so much longer, and the time that a snapshot takes";
    let back = section.get("back", Duration::from_secs(5), doc)?;
    if !(Duration::from_millis(100)..=Duration::from_secs(3600)).contains(&back) {
        return Err(section.error("`back` must be from 100ms, or nothing has changed by then, to 1h"));
    }
    let back_ms = back.as_millis() as u64;
    Ok(Box::new(move |_, rng| {
        let machines = Machines { select: victims.name().to_owned(), who: victims.pick(rng) };
        Planned::MachineRollback(MachineRollback { machines, back_ms })
    }))
}

fn power(cluster: &Cluster) -> anyhow::Result<&Arc<dyn Power>> {
    cluster.power.as_ref().context(
        "`machine-rollback` takes snapshots of libvirt, and these nodes are not its machines: use provider `vagrant` with libvirt, \
         or `rollback`, which puts back the target's data on any node",
    )
}

impl MachineRollback {
    async fn shell(&self, at: &At<'_>, node: usize, script: &str) -> anyhow::Result<String> {
        let argv = ["sh", "-c", script].map(str::to_owned).to_vec();
        let exec = Request::Exec { argv, env: BTreeMap::new(), timeout_ms: COMMAND_TIME_MAX.as_millis() as u64 };
        match at.node(node).control.call(exec).await? {
            Reply::Output { code: Some(0), stdout, .. } => Ok(stdout),
            Reply::Output { stderr, .. } => bail!("`{script}` failed on {}: {}", at.node(node).name, stderr.trim()),
            other => bail!("the agent answered a command with {other:?}"),
        }
    }
}

#[async_trait]
impl PlannedFault for MachineRollback {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.machines.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.machines.who)
    }

    fn harm(&self) -> Harm {
        Harm::Crash
    }

    fn takes_machines_down(&self) -> bool {
        true
    }

    fn check_cluster(&self, cluster: &Cluster) -> anyhow::Result<()> {
        power(cluster).map(|_| ())
    }

    fn asks(&self, _: &At<'_>, _: &Hit) -> Vec<Ask> {
        Vec::new()
    }

    async fn inject(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        let (power, nodes) = (power(at.cluster)?, hit.nodes());
        control_path::spare_machines(at.cluster, nodes)?;
        try_join_all(nodes.iter().map(|&node| power.keep_disks(node))).await.context("no snapshot was made")?;
        tokio::time::sleep(Duration::from_millis(self.back_ms)).await;
        for &node in nodes {
            self.shell(at, node, &format!("echo x >{WITNESS} && sync {WITNESS} .")).await?;
            // The agent's own memory goes back with the rest.
            match at.node(node).control.call(Request::Ledger).await? {
                Reply::Ledger(ledger) => {
                    at.ledgers.lock().unwrap_or_else(PoisonError::into_inner).insert(node, ledger);
                }
                other => bail!("the agent answered with {other:?} when it was asked for its ledger"),
            }
        }
        let seen = machine::take_down(at, nodes, false).await?;
        try_join_all(nodes.iter().map(|&node| power.put_disks_back(node))).await.context("no snapshot was put back")?;
        Ok(seen)
    }

    async fn heal(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        let power = power(at.cluster)?;
        // Nothing where its injection came to its end.
        let _ = join_all(hit.nodes().iter().map(|&node| power.keep_nothing(node))).await;
        let seen = machine::boot(at, hit.nodes()).await?;
        for &node in hit.nodes() {
            let is_there = self.shell(at, node, &format!("[ ! -e {WITNESS} ] || echo there")).await?;
            anyhow::ensure!(is_there.is_empty(), "what {} wrote after the snapshot is still there", at.node(node).name);
        }
        let ledgers = std::mem::take(&mut *at.ledgers.lock().unwrap_or_else(PoisonError::into_inner));
        for (node, ledger) in ledgers {
            let node = at.node(node);
            let forward = node.control.call(Request::RollForward { ledger }).await;
            forward.with_context(|| format!("{} does not know what was in force there", node.name))?;
        }
        at.start(hit.nodes()).await?;
        Ok(seen)
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let mut reading = machine::gauge(lab, hit.nodes()).await?;
        let node = *hit.nodes().first().context("nobody is hit")?;
        if reading.numbers[0] == 1.0 {
            // One is made here at the first look, the other one by the injection, after the snapshot.
            let script = "[ -e early ] || { echo x >early; sync early .; }; ls early late 2>/dev/null | tr '\\n' ' '";
            let printed = lab.shell(node, script).await?.stdout;
            let there = |name: &str| f64::from(u8::from(printed.split_whitespace().any(|file| file == name)));
            reading.words += &format!(", files: {}", printed.trim());
            reading.numbers.extend([there("early"), there("late")]);
        }
        Ok(reading)
    }

    fn expected(&self) -> String {
        "silent, then up in another boot, with the file that is from before the snapshot, and not with one that is from after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        machine::judge(readings)?;
        match readings.after.numbers[2..] {
            [1.0, 0.0] => Ok(()),
            [1.0, _] => Err("what was written after the snapshot is still there".to_owned()),
            _ => Err("what was written before the snapshot is gone".to_owned()),
        }
    }
}

//! The power of the block device under the target's data is cut under the kernel's own file system: what the target had not synced
//! is gone, and of what the disk had not flushed any part, in any order. A machine need not boot for it.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::claims::Harm;
use crate::devices::{self, Devices};
use crate::disk;
use crate::hands::{Ask, At, Seen};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use squall_agent::disk::Lose;
use squall_agent::faults::Fault;
use squall_agent::faults::device_cut::DeviceCut;
use squall_agent::protocol::Evidence;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use squall_harness::{Node, Target};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "device-power-cut",
        what: "kill -9, and nothing more is written to the disk under the target's data; of what the disk had not flushed all, a \
               subset, or parts are lost; then the file system is checked and mounted, and the target is started",
        mechanism: "device mapper (dm-log-writes), which keeps every write and flush, below an ext4 file system over the target's data; \
                    a content that the disk may have is made from that",
        needs: devices::NEEDS,
        verified: "no process is left; writes that were not flushed, and those of them that are lost, are counted",
        colour: "#edc948",
    },
    lasts: Lasts { key: "restart_after", default_ms: 1000, doc: "how long it stays without power" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one, lose: all }", target: None, program: TICKER, machines: true },
};

/// Devices whose power is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DevicePowerCut {
    /// Which.
    pub devices: Devices,
    /// How much is lost of what was not flushed.
    pub lose: Lose,
    /// For tosses; every node has its own from it.
    pub seed: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let mut devices = Devices::read(section, context, KIND.doc.name, "power-cut")?;
    let ways = disk::read_ways_to_lose(section)?;
    Ok(Box::new(move |turn, rng| {
        let (devices, seed) = (devices(rng), rng.random());
        Planned::DevicePowerCut(DevicePowerCut { devices, lose: ways[turn % ways.len()], seed })
    }))
}

#[async_trait]
impl PlannedFault for DevicePowerCut {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        disk::name_of_way(self.lose)
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.devices.who)
    }

    fn harm(&self) -> Harm {
        Harm::Crash
    }

    fn unmounts(&self) -> bool {
        true
    }

    fn preparations(&self, target: &dyn Target, _: &Node) -> Vec<Fault> {
        self.devices.preparations(target, true)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        at.per_node(hit.nodes(), |node| {
            let seed = self.seed.wrapping_add(1000 * node.index as u64);
            let cut = |dir| Fault::DeviceCut(DeviceCut { process: at.process(), dir, lose: self.lose, seed });
            at.target.data().into_iter().take(1).map(cut).collect()
        })
    }

    async fn verify(&self, at: &At<'_>, hit: &Hit, evidence: &[Evidence]) -> anyhow::Result<Seen> {
        let mut seen = Seen::verified(evidence)?;
        anyhow::ensure!(!at.target.data().is_empty(), "this target keeps nothing on disks");
        let words =
            hit.nodes().iter().zip(evidence).map(|(&node, one)| format!("{}: {}", at.node(node).name, one.seen));
        seen.words = words.collect::<Vec<_>>().join("; ");
        Ok(seen)
    }

    fn holds_to_the_end(&self) -> bool {
        true
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start(hit.nodes()).await?;
        Ok(Some("mounted, and started again"))
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        // Made once.
        let script =
            "[ -e made ] || { echo x >$data/synced; sync $data/synced $data; echo x >$data/unsynced; touch made; }";
        devices::files(lab, hit.nodes(), script, ["synced", "unsynced"]).await
    }

    fn expected(&self) -> String {
        "a file that was synced and one that was not are there before, none meanwhile, and only the synced one after"
            .to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        if readings.before.numbers != [1.0, 1.0] {
            return Err("the files were not there before".to_owned());
        }
        if readings.during.numbers != [0.0, 0.0] {
            return Err("files can be read without power".to_owned());
        }
        match readings.after.numbers[..] {
            [0.0, _] => Err("what was synced is gone".to_owned()),
            // The kernel may have begun to write, and a toss may let that survive.
            [_, 1.0] if self.lose == Lose::All => Err("what was not synced is still there".to_owned()),
            _ => Ok(()),
        }
    }
}

//! The block device under the target's data says that it has written, and has not: when it is over, the data are what they were
//! when it began. Disks with caches that ignore flushes do that when their power fails, and no fsync helps.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::claims::Harm;
use crate::devices::{self, Devices};
use crate::hands::{Ask, At};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::Fault;
use squall_agent::faults::device_rule::DeviceEffect;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use squall_harness::{Node, Target};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "device-forget",
        what: "the disk under the target's data says that it has written and flushed, and does nothing; then the target is killed, \
               and starts with what was there at the beginning",
        mechanism: "device mapper (dm-flakey, drop_writes) between a disk of the machine and an ext4 file system over the target's data",
        needs: devices::NEEDS,
        verified: "a block that was written past all caches is not there",
        colour: "#b07aa1",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long it forgets" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one, beyond: true }", target: None, program: TICKER, machines: true },
};

/// Devices that forget.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceForget(pub Devices);

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let mut devices = Devices::read_victims(section, context, KIND.doc.name, "rollback")?;
    Ok(Box::new(move |_, rng| Planned::DeviceForget(DeviceForget(devices(rng)))))
}

#[async_trait]
impl PlannedFault for DeviceForget {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.0.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.0.who)
    }

    fn harm(&self) -> Harm {
        Harm::Crash
    }

    fn unmounts(&self) -> bool {
        true
    }

    fn preparations(&self, target: &dyn Target, _: &Node) -> Vec<Fault> {
        self.0.preparations(target, false)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        self.0.asks(at, hit.nodes(), DeviceEffect::Forget)
    }

    fn holds_to_the_end(&self) -> bool {
        true
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start(hit.nodes()).await?;
        Ok(Some("what was written meanwhile is gone; mounted anew, and started again"))
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        // One written at the first look, one during the fault, each once.
        let name = if lab.in_force { "during" } else { "before" };
        let script =
            format!("[ -e made-{name} ] || {{ echo x >$data/{name}; sync $data/{name} $data; touch made-{name}; }}");
        devices::files(lab, hit.nodes(), &script, ["before", "during"]).await
    }

    fn expected(&self) -> String {
        "a file that was written and synced before is there, and one that was written and synced meanwhile is gone after"
            .to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        if readings.before.numbers != [1.0, 0.0] || readings.during.numbers != [1.0, 1.0] {
            return Err("the files were not there that had just been written".to_owned());
        }
        match readings.after.numbers[..] {
            [1.0, 0.0] => Ok(()),
            [1.0, _] => Err("what was written meanwhile is still there".to_owned()),
            _ => Err("what was written before is gone".to_owned()),
        }
    }
}

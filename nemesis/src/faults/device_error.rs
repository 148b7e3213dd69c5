//! The block device under the target's data fails: the kernel's file system gives up, and so may the target.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::claims::Harm;
use crate::devices::{self, Devices, is_fine};
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
        name: "device-error",
        what: "every read, write and flush of the disk under the target's data fails; then the target is killed, the file system is \
               checked and mounted anew, and the target is started",
        mechanism: "device mapper (dm-error) between a disk of the machine and an ext4 file system over the target's data",
        needs: devices::NEEDS,
        verified: "a read of the device past all caches fails",
        colour: "#6e4b3a",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long it fails" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: true },
};

/// Devices that fail.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DeviceError(pub Devices);

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let mut devices = Devices::read(section, context, KIND.doc.name, "disk-error")?;
    Ok(Box::new(move |_, rng| Planned::DeviceError(DeviceError(devices(rng)))))
}

#[async_trait]
impl PlannedFault for DeviceError {
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
        self.0.asks(at, hit.nodes(), DeviceEffect::Error)
    }

    fn holds_to_the_end(&self) -> bool {
        true
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start(hit.nodes()).await?;
        Ok(Some("mounted anew, and started again"))
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        devices::gauge(lab, hit.nodes()).await
    }

    fn expected(&self) -> String {
        "read and synced write fail while it lasts, and are done before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        if !is_fine(&readings.before) {
            return Err("the device failed before".to_owned());
        }
        if readings.during.numbers[0] == 0.0 || readings.during.numbers[2] == 0.0 {
            return Err("something could be read or written".to_owned());
        }
        if is_fine(&readings.after) { Ok(()) } else { Err("the device still fails after healing".to_owned()) }
    }
}

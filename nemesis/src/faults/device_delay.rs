//! The block device under the target's data is slow: for the kernel's file system, and all that it does there.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
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
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "device-delay",
        what: "every read, write and flush of the disk under the target's data takes longer",
        mechanism: "device mapper (dm-delay) between a disk of the machine and an ext4 file system over the target's data",
        needs: devices::NEEDS,
        verified: "a read of the device past all caches takes as long",
        colour: "#8c6d55",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long it is slow" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one, delay: 300ms }", target: None, program: TICKER, machines: true },
};

/// Devices that are slow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceDelay {
    /// Which.
    pub devices: Devices,
    /// By so much (milliseconds).
    pub ms: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let mut devices = Devices::read(section, context, KIND.doc.name, "disk-slow")?;
    let delay = section.get("delay", Duration::from_millis(100), "how much longer each request takes")?;
    if !(Duration::from_millis(1)..=Duration::from_secs(10)).contains(&delay) {
        return Err(section.error("`delay` must be between 1ms and 10s"));
    }
    let ms = delay.as_millis() as u64;
    Ok(Box::new(move |_, rng| Planned::DeviceDelay(DeviceDelay { devices: devices(rng), ms })))
}

#[async_trait]
impl PlannedFault for DeviceDelay {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.devices.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Nodes(&self.devices.who)
    }

    fn preparations(&self, target: &dyn Target, _: &Node) -> Vec<Fault> {
        self.devices.preparations(target, false)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        self.devices.asks(at, hit.nodes(), DeviceEffect::Delay { ms: self.ms })
    }

    fn holds_to_the_end(&self) -> bool {
        true
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        devices::gauge(lab, hit.nodes()).await
    }

    fn expected(&self) -> String {
        format!(
            "a read takes {} ms longer, up to a third and 100 ms more; a synced write at least that; as before after",
            self.ms
        )
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let [before, during, after] = [&readings.before, &readings.during, &readings.after];
        if ![before, during, after].into_iter().all(is_fine) {
            return Err("something failed".to_owned());
        }
        let (ms, normal) = (self.ms as f64, before.numbers[1].max(after.numbers[1]));
        let is_slow = (ms..ms * 4.0 / 3.0 + normal + 100.0).contains(&during.numbers[1]) && during.numbers[3] >= ms;
        if !is_slow {
            return Err("it did not take as much longer as was asked for".to_owned());
        }
        if after.numbers[1] < ms { Ok(()) } else { Err("it is still slow after healing".to_owned()) }
    }
}

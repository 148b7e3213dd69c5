//! The block device under the target's data fails by turns: for some seconds it does what it should, then nothing.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::claims::Harm;
use crate::devices::{self, Devices};
use crate::hands::{Ask, At};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use anyhow::Context;
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
        name: "device-flaky",
        what: "for some seconds the disk under the target's data works, for some every request fails, and so on; then the target is \
               killed, the file system is checked and mounted anew, and the target is started",
        mechanism: "device mapper (dm-flakey) between a disk of the machine and an ext4 file system over the target's data",
        needs: devices::NEEDS,
        verified: "of reads of the device past all caches some fail and some do not",
        colour: "#9c755f",
    },
    lasts: Lasts { key: "for", default_ms: 6000, doc: "how long it is flaky" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, up: 2s, down: 1s }",
        target: None,
        program: TICKER,
        machines: true,
    },
};

/// Turns of the trial's looks (seconds).
const LOOKS_S: u32 = 8;

/// Devices that fail by turns.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct DeviceFlaky {
    /// Which.
    pub devices: Devices,
    /// Seconds without errors.
    pub up_s: u32,
    /// Seconds of errors.
    pub down_s: u32,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let mut devices = Devices::read(section, context, KIND.doc.name, "disk-error")?;
    let mut seconds = |key: &'static str, doc: &str| {
        let time = section.get(key, Duration::from_secs(1), doc)?;
        let is_whole = time.subsec_nanos() == 0 && (1..=3600).contains(&time.as_secs());
        let wrong =
            || section.error(format!("`{key}` must be whole seconds, from 1s to 1h: the kernel takes no others"));
        if is_whole { Ok(time.as_secs() as u32) } else { Err(wrong()) }
    };
    let up_s = seconds("up", "how long it works, at first and after every time without")?;
    let down_s = seconds("down", "how long every request fails then")?;
    Ok(Box::new(move |_, rng| Planned::DeviceFlaky(DeviceFlaky { devices: devices(rng), up_s, down_s })))
}

#[async_trait]
impl PlannedFault for DeviceFlaky {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.devices.select
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
        self.devices.preparations(target, false)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        self.devices.asks(at, hit.nodes(), DeviceEffect::Flaky { up_s: self.up_s, down_s: self.down_s })
    }

    fn holds_to_the_end(&self) -> bool {
        true
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start(hit.nodes()).await?;
        Ok(Some("mounted anew, and started again"))
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let node = *hit.nodes().first().context("no node is hit")?;
        let script = format!(
            "end=$(($(date +%s) + {LOOKS_S})); while [ $(date +%s) -lt $end ]; do {} && echo done || echo failed; sleep 0.2; done",
            devices::READ
        );
        let printed = lab.shell(node, &script).await?.stdout;
        let count = |word: &str| printed.lines().filter(|line| *line == word).count();
        let (done, failed) = (count("done"), count("failed"));
        anyhow::ensure!(done + failed > 0, "dd was not started");
        let words = format!("{failed} of {} reads failed in {LOOKS_S} s", done + failed);
        Ok(Reading { words, numbers: vec![done as f64, failed as f64] })
    }

    fn expected(&self) -> String {
        "some reads fail while it lasts and some do not; none fail before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let failed = [&readings.before, &readings.during, &readings.after].map(|reading| reading.numbers[1] > 0.0);
        match failed {
            [true, ..] => Err("the device failed before".to_owned()),
            [_, false, _] => Err("no read failed".to_owned()),
            _ if readings.during.numbers[0] == 0.0 => Err("every read failed".to_owned()),
            [.., true] => Err("the device still fails after healing".to_owned()),
            _ => Ok(()),
        }
    }
}

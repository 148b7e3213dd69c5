//! Operations on the target's files take longer.

use super::{FaultKind, Lasts, Make, Planned};
use crate::disk::{Aim, Impaired, OnDisk, fine_before_and_after, write_and_sync};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::disk::{DiskOp, Impairment};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "disk-slow",
        what: "operations on the target's files take longer",
        mechanism: "a FUSE file system of our own over the target's data",
        needs: "/dev/fuse",
        verified: "operations hit are counted",
        colour: "#9d755d",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long they are slow" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, delay: 300ms }",
        target: None,
        program: TICKER,
        machines: false,
    },
};

/// Operations that take longer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskSlow(Impaired);

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let delay = section.get("delay", Duration::from_millis(100), "how much longer each operation takes")?;
    if delay.is_zero() || delay > Duration::from_secs(60) {
        return Err(section.error("`delay` must be between 1ms and 60s: for longer there is `disk-hang`"));
    }
    let effect = Impairment::Slow { delay_ms: (delay.as_millis() as u64).max(1) };
    let aim = Aim::read(section, context, &[DiskOp::Fsync, DiskOp::FsyncDir], effect)?;
    Ok(aim.make(|impaired| Planned::DiskSlow(DiskSlow(impaired))))
}

#[async_trait]
impl OnDisk for DiskSlow {
    const KIND: &'static FaultKind = &KIND;

    fn impaired(&self) -> &Impaired {
        &self.0
    }

    async fn gauge(&self, lab: &Lab<'_>, node: usize) -> anyhow::Result<Reading> {
        write_and_sync(lab, node).await
    }

    fn expected(&self) -> String {
        "writing and syncing takes at least as much longer as was asked for, up to a third more".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        fine_before_and_after(readings)?;
        let Impairment::Slow { delay_ms } = self.0.rule.effect else { return Err("no delay was planned".to_owned()) };
        let ms = |reading: &Reading| reading.numbers.get(1).copied().unwrap_or(0.0);
        let normal = ms(&readings.before).max(ms(&readings.after));
        let (took, delay) = (ms(&readings.during), delay_ms as f64);
        if (delay..normal + delay * 4.0 / 3.0 + 50.0).contains(&took) {
            Ok(())
        } else {
            Err(format!("it took {took} ms with a delay of {delay} ms, {normal} ms without"))
        }
    }
}

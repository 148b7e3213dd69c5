//! Operations on the target's files hang until it is healed; a process that hangs can be killed.

use super::{FaultKind, Lasts, Make, Planned};
use crate::disk::{Aim, Impaired, OnDisk, fine_before_and_after, write_and_sync};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::disk::{DiskOp, Impairment};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "disk-hang",
        what: "operations on the target's files hang until it is healed",
        mechanism: "a FUSE file system of our own over the target's data",
        needs: "/dev/fuse",
        verified: "operations hit are counted",
        colour: "#79706e",
    },
    lasts: Lasts { key: "for", default_ms: 2000, doc: "how long they hang" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: false },
};

/// Operations that hang.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskHang(Impaired);

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let aim = Aim::read(section, context, &[DiskOp::Fsync, DiskOp::FsyncDir], Impairment::Hang)?;
    Ok(aim.make(|impaired| Planned::DiskHang(DiskHang(impaired))))
}

#[async_trait]
impl OnDisk for DiskHang {
    const KIND: &'static FaultKind = &KIND;

    fn impaired(&self) -> &Impaired {
        &self.0
    }

    async fn gauge(&self, lab: &Lab<'_>, node: usize) -> anyhow::Result<Reading> {
        write_and_sync(lab, node).await
    }

    fn expected(&self) -> String {
        "dd does not end within a second while it lasts, and does before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        fine_before_and_after(readings)?;
        // What timeout(1) says when it had to end its command.
        if readings.during.numbers.first() == Some(&124.0) { Ok(()) } else { Err("dd ended".to_owned()) }
    }
}

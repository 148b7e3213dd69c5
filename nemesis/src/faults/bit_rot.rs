//! Bits of what is read from the disk are wrong, always the same ones; on the disk they are right.

use super::{FaultKind, Lasts, Make, Planned};
use crate::disk::{Aim, Impaired, OnDisk};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::disk::{DiskOp, Impairment};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "bit-rot",
        what: "a bit of each page that is read from the disk is wrong, always the same one, until it is healed",
        mechanism: "a FUSE file system of our own over the target's data; cached pages are forgotten at both ends",
        needs: "/dev/fuse",
        verified: "bits flipped are counted",
        colour: "#54a24b",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long bits are wrong" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: false },
};

/// Files whose bits rot.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct BitRot(Impaired);

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let aim = Aim::read_with_ops(section, context, vec![DiskOp::Read], Impairment::Rot)?;
    Ok(aim.make(|impaired| Planned::BitRot(BitRot(impaired))))
}

#[async_trait]
impl OnDisk for BitRot {
    const KIND: &'static FaultKind = &KIND;

    fn impaired(&self) -> &Impaired {
        &self.0
    }

    async fn gauge(&self, lab: &Lab<'_>, node: usize) -> anyhow::Result<Reading> {
        // 64 pages of zeros; how many bits are ones.
        let script = "[ -e data/probe ] || head -c 262144 /dev/zero >data/probe; \
                      tr -d '\\0' <data/probe | od -An -v -tx1 -w1 | wc -l";
        let printed = lab.shell(node, script).await?;
        let wrong: f64 = printed.stdout.trim().parse()?;
        Ok(Reading { words: format!("{wrong} bytes wrong in 64 pages"), numbers: vec![wrong] })
    }

    fn expected(&self) -> String {
        "one byte wrong in each of 64 pages while it lasts, none before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let wrong = |reading: &Reading| reading.numbers.first().copied().unwrap_or(-1.0);
        match (wrong(&readings.before), wrong(&readings.during), wrong(&readings.after)) {
            (0.0, 64.0, 0.0) => Ok(()),
            _ => Err("other numbers of bytes were wrong".to_owned()),
        }
    }
}

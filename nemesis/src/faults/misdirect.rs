//! Writes land elsewhere in their file, and nobody is told.

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
        name: "misdirect",
        what: "writes land elsewhere in their file, and nobody is told",
        mechanism: "a FUSE file system of our own over the target's data",
        needs: "/dev/fuse",
        verified: "misdirected writes are counted",
        colour: "#d67195",
    },
    lasts: Lasts { key: "for", default_ms: 2000, doc: "how long writes go astray; what was damaged stays so" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one, path: probe }", target: None, program: TICKER, machines: false },
};

/// Writes that land elsewhere.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Misdirect(Impaired);

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let aim = Aim::read_with_ops(section, context, vec![DiskOp::Write], Impairment::Misdirect)?;
    Ok(aim.make(|impaired| Planned::Misdirect(Misdirect(impaired))))
}

#[async_trait]
impl OnDisk for Misdirect {
    const KIND: &'static FaultKind = &KIND;

    fn impaired(&self) -> &Impaired {
        &self.0
    }

    async fn gauge(&self, lab: &Lab<'_>, node: usize) -> anyhow::Result<Reading> {
        // A page of ones in the second place of four pages of zeros; O_DIRECT reads past the page cache.
        let script = "rm -f data/probe; truncate -s 16384 data/probe; head -c 4096 /dev/zero | tr '\\0' '\\1' | \
                      dd of=data/probe bs=4096 seek=1 conv=notrunc,fsync 2>/dev/null; for n in 0 1 2 3; do \
                      dd if=data/probe bs=4096 skip=$n count=1 iflag=direct 2>/dev/null | tr -d '\\0' | wc -c; done";
        let printed = lab.shell(node, script).await?;
        let numbers: Vec<f64> = printed.stdout.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let places: Vec<String> =
            numbers.iter().enumerate().filter(|(_, bytes)| **bytes > 0.0).map(|(page, _)| page.to_string()).collect();
        Ok(Reading { words: format!("written to page 1, found in page {}", places.join(" and ")), numbers })
    }

    fn expected(&self) -> String {
        "a page is found where it was written before and after, and elsewhere while it lasts".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let right = |reading: &Reading| reading.numbers == [0.0, 4096.0, 0.0, 0.0];
        let astray = readings.during.numbers.get(1) == Some(&0.0) && readings.during.numbers.contains(&4096.0);
        match (right(&readings.before), astray, right(&readings.after)) {
            (true, true, true) => Ok(()),
            (_, false, _) => Err("the write did not go astray".to_owned()),
            _ => Err("a write went astray without the fault".to_owned()),
        }
    }
}

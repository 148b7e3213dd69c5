//! The target's disk is full, but for what is left of it.
//!
//! A ballast that fills a real disk would fill it for everybody on the machine, and a small file system cannot be slipped under
//! files that are open. So it is the disk of ours that says how much room there is: what takes more fails with ENOSPC, in part
//! where a part has room; what is overwritten needs none; what is removed or cut off makes room again, as soon as nobody has it
//! open; df(1) shows it. A file takes its length, with its holes, in blocks of 4 KiB, a directory one of them.

use super::{FaultKind, Lasts, Make, Planned};
use crate::disk::{Aim, Impaired, OnDisk};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use anyhow::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::disk::{DiskOp, Impairment};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "disk-full",
        what: "the target's disk is full (ENOSPC), but for what is left; what is removed makes room again",
        mechanism: "a FUSE file system of our own over the target's data, which says how much room there is",
        needs: "/dev/fuse",
        verified: "operations that found no room are counted",
        colour: "#a55194",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long it is full" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, left_kb: 100 }",
        target: None,
        program: TICKER,
        machines: false,
    },
};

/// Disks without room.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskFull(Impaired);

/// What takes room.
const OPS: &[DiskOp] = &[DiskOp::Write, DiskOp::Mkdir, DiskOp::Truncate];

/// How much the trial's `dd` writes where there is room (bytes).
const WHOLE: f64 = 1_048_576.0;

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let left_kb = section.get("left_kb", 0u64, "how much room is left when it begins (KiB)")?;
    let aim = Aim::whole(section, context, OPS, Impairment::Full { left: left_kb.saturating_mul(1024) })?;
    Ok(aim.make(|impaired| Planned::DiskFull(DiskFull(impaired))))
}

#[async_trait]
impl OnDisk for DiskFull {
    const KIND: &'static FaultKind = &KIND;

    fn impaired(&self) -> &Impaired {
        &self.0
    }

    async fn gauge(&self, lab: &Lab<'_>, node: usize) -> anyhow::Result<Reading> {
        // Twice, with the file removed in between: its room comes back.
        let script = "for i in 1 2; do df --output=avail -B 1024 data | tail -n 1; \
                      dd if=/dev/zero of=data/ballast bs=4096 count=256 2>&1 | grep -o 'No space left on device'; \
                      stat -c %s data/ballast; rm data/ballast; done";
        let printed = lab.shell(node, script).await?;
        let numbers: Vec<f64> = printed.stdout.lines().filter_map(|line| line.trim().parse().ok()).collect();
        let [free_kb, first, _, second] = numbers[..] else {
            anyhow::bail!("dd said nothing: {} {}", printed.stdout, printed.stderr)
        };
        let full = printed.stdout.matches("No space left on device").count();
        let what = if full > 0 { "No space left on device" } else { "no error" };
        let words = format!("df: {free_kb} KiB; dd wrote {first} bytes, {what}; after rm again {second} bytes");
        Ok(Reading { words, numbers: vec![first, second, full as f64, free_kb] })
    }

    fn expected(&self) -> String {
        "ENOSPC after what is left (to a block), each time, and df says so while it lasts; 1 MiB each time before and after"
            .to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let Impairment::Full { left } = self.0.rule.effect else { return Err("no room was planned".to_owned()) };
        for (when, reading) in [("before", &readings.before), ("after", &readings.after)] {
            if !reading.numbers.starts_with(&[WHOLE, WHOLE, 0.0]) {
                return Err(format!("{when} the fault there was no room: {}", reading.words));
            }
        }
        let during: [f64; 4] =
            readings.during.numbers[..].try_into().context("four numbers").map_err(|e| e.to_string())?;
        let blocks = (left / 4096 * 4096) as f64;
        if during[..3] != [blocks, blocks, 2.0] || during[3] > left as f64 / 1024.0 {
            return Err(format!("there was room for something else than {left} bytes: {}", readings.during.words));
        }
        Ok(())
    }
}

//! An fsync fails once a file, and its pages are clean from then on: what they held is gone with the next power cut, though
//! every later fsync succeeds. (The behaviour of Linux file systems in Rebello et al., Can Applications Recover from fsync
//! Failures?, USENIX ATC 2020.)

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
        name: "fsync-error",
        what: "an fsync fails once a file, and the pages count as clean: a power cut takes what they held",
        mechanism: "a FUSE file system of our own over the target's data",
        needs: "/dev/fuse",
        verified: "failed fsyncs are counted",
        colour: "#ff9da6",
    },
    lasts: Lasts { key: "for", default_ms: 2000, doc: "how long a file's first fsync fails" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: false },
};

/// Files of which an fsync fails.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct FsyncError(Impaired);

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let aim = Aim::read_with_ops(section, context, vec![DiskOp::Fsync], Impairment::LoseOnFsync)?;
    Ok(aim.make(|impaired| Planned::FsyncError(FsyncError(impaired))))
}

#[async_trait]
impl OnDisk for FsyncError {
    const KIND: &'static FaultKind = &KIND;

    fn impaired(&self) -> &Impaired {
        &self.0
    }

    async fn gauge(&self, lab: &Lab<'_>, node: usize) -> anyhow::Result<Reading> {
        // The first and the second fsync of one file, with a write before each.
        let dd = "dd if=/dev/zero of=data/probe bs=4096 count=1 conv=fsync,notrunc 2>/dev/null; echo $?";
        let printed = lab.shell(node, &format!("{dd}; {dd}")).await?;
        let numbers: Vec<f64> = printed.stdout.lines().filter_map(|line| line.parse().ok()).collect();
        let word = |code: &f64| if *code == 0.0 { "fine" } else { "failed" };
        let words: Vec<&str> = numbers.iter().map(word).collect();
        Ok(Reading { words: format!("fsync {}", words.join(", then ")), numbers })
    }

    fn expected(&self) -> String {
        "of two fsyncs of one file the first fails while it lasts, and the second never".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let failed = |reading: &Reading| reading.numbers.iter().map(|code| *code != 0.0).collect::<Vec<_>>();
        match (failed(&readings.before), failed(&readings.during), failed(&readings.after)) {
            (before, during, after)
                if before == [false, false] && during == [true, false] && after == [false, false] =>
            {
                Ok(())
            }
            _ => Err("other fsyncs failed".to_owned()),
        }
    }
}

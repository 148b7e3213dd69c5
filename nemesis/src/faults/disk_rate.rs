//! What the target reads and writes passes at a rate.

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
        name: "disk-rate",
        what: "what the target reads and writes passes at a rate, all its files together",
        mechanism: "a FUSE file system of our own over the target's data (a control group would see only its daemon)",
        needs: "/dev/fuse",
        verified: "operations hit are counted",
        colour: "#bd9e39",
    },
    lasts: Lasts { key: "for", default_ms: 5000, doc: "how long the rate holds" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, kb_per_s: 500 }",
        target: None,
        program: TICKER,
        machines: false,
    },
};

/// Bytes that pass at a rate.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskRate(Impaired);

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let kb_per_s =
        section.get("kb_per_s", 1000u64, "how much passes, read and written together (1000 bytes a second)")?;
    let effect = Impairment::Rate { bytes_per_s: kb_per_s.saturating_mul(1000) };
    let aim = Aim::whole(section, context, &[DiskOp::Read, DiskOp::Write], effect)?;
    Ok(aim.make(|impaired| Planned::DiskRate(DiskRate(impaired))))
}

#[async_trait]
impl OnDisk for DiskRate {
    const KIND: &'static FaultKind = &KIND;

    fn impaired(&self) -> &Impaired {
        &self.0
    }

    async fn gauge(&self, lab: &Lab<'_>, node: usize) -> anyhow::Result<Reading> {
        let script = "b=$(date +%s%N); dd if=/dev/zero of=data/probe bs=50000 count=20 conv=fsync,notrunc 2>/dev/null || exit 1; \
                      e=$(date +%s%N); echo $(((e-b)/1000))";
        let printed = lab.shell(node, script).await?;
        let us: f64 = printed.stdout.trim().parse().map_err(|_| anyhow::anyhow!("dd failed: {}", printed.stderr))?;
        let kb_per_s = 1000.0 / (us / 1e6);
        Ok(Reading { words: format!("dd wrote 1 MB at {kb_per_s:.0} kB/s"), numbers: vec![kb_per_s] })
    }

    fn expected(&self) -> String {
        "not more than the rate and not less than half of it while it lasts, more than twice the rate before and after"
            .to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let Impairment::Rate { bytes_per_s } = self.0.rule.effect else { return Err("no rate was planned".to_owned()) };
        let rate = bytes_per_s as f64 / 1e3;
        let seen = |reading: &Reading| reading.numbers.first().copied().unwrap_or(f64::NAN);
        let [before, during, after] = [&readings.before, &readings.during, &readings.after].map(seen);
        // It is never faster; a thread that was late for its turn makes up for nothing.
        if !(rate / 2.0..rate * 1.02).contains(&during) {
            return Err(format!("{during:.0} kB/s passed, with a rate of {rate:.0} kB/s"));
        }
        if before < 2.0 * rate || after < 2.0 * rate {
            return Err("the disk was no faster before and after".to_owned());
        }
        Ok(())
    }
}

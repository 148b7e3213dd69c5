//! Operations on the target's files fail: EIO, ENOSPC, EROFS, EDQUOT.

use super::{FaultKind, Lasts, Make, Planned};
use crate::disk::{Aim, Impaired, OnDisk, fine_before_and_after, write_and_sync};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::disk::{DiskError as Error, Impairment};
use squall_harness::config::{ConfigError, Section, unknown};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "disk-error",
        what: "operations on the target's files fail: EIO, ENOSPC, EROFS or EDQUOT",
        mechanism: "a FUSE file system of our own over the target's data",
        needs: "/dev/fuse",
        verified: "operations hit are counted",
        colour: "#b279a2",
    },
    lasts: Lasts { key: "for", default_ms: 2000, doc: "how long they fail" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, error: ENOSPC }",
        target: None,
        program: TICKER,
        machines: false,
    },
};

/// Operations that fail.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct DiskError(Impaired);

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let known = Error::ALL.map(|(name, ..)| name);
    let name = section.get("error", "EIO".to_owned(), &format!("with what: {}", known.join(", ")))?;
    let Some((_, error, ops)) = Error::ALL.into_iter().find(|(known, ..)| *known == name) else {
        return Err(section.error(unknown("error", &name, known)));
    };
    let aim = Aim::read(section, context, ops, Impairment::Fail(error))?;
    Ok(aim.make(|impaired| Planned::DiskError(DiskError(impaired))))
}

impl DiskError {
    fn name(&self) -> &'static str {
        let named = |(name, error, _): &(&'static str, Error, _)| {
            (self.0.rule.effect == Impairment::Fail(*error)).then_some(*name)
        };
        Error::ALL.iter().find_map(named).unwrap_or("error")
    }
}

#[async_trait]
impl OnDisk for DiskError {
    const KIND: &'static FaultKind = &KIND;

    fn impaired(&self) -> &Impaired {
        &self.0
    }

    fn detail(&self) -> &str {
        self.name()
    }

    async fn gauge(&self, lab: &Lab<'_>, node: usize) -> anyhow::Result<Reading> {
        write_and_sync(lab, node).await
    }

    fn expected(&self) -> String {
        format!("dd gets {} while it lasts, and nothing before and after", self.name())
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        fine_before_and_after(readings)?;
        let said = match self.name() {
            "EIO" => "Input/output error",
            "ENOSPC" => "No space left on device",
            "EROFS" => "Read-only file system",
            _ => "Disk quota exceeded",
        };
        if readings.during.words.contains(said) { Ok(()) } else { Err(format!("dd did not say `{said}`")) }
    }
}

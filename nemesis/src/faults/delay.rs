//! Packets come late.

use super::impaired::{self, Impaired, MECHANISM, NEEDS, us};
use super::{FaultKind, Lasts, Make, Planned, impaired_trial};
use squall_agent::faults::link::Impairment;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "delay",
        what: "packets come late, by a time give or take some jitter",
        mechanism: MECHANISM,
        needs: NEEDS,
        verified: "round trips of a probe; packets counted by the shaper",
        colour: "#72b7b2",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long" },
    read,
    trial: impaired_trial::setup("{ by: 50ms, jitter: 0s, links: [[n1, n2]] }"),
};

/// Links whose packets come late.
pub type Delay = Impaired;

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let by = section.get("by", Duration::from_millis(50), "how late, in one direction")?;
    let jitter = section.get("jitter", Duration::from_millis(10), "give or take up to so much, uniformly")?;
    let keep_order = section.get("keep_order", true, "none overtakes another in spite of the jitter")?;
    let impairment = Impairment::Delay { delay_us: us(by), jitter_us: us(jitter), keep_order };
    impaired::read(section, context, impairment, Planned::Delay)
}

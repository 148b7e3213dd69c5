//! Bits of packets flip.

use super::impaired::{self, Impaired, MECHANISM, NEEDS};
use super::{FaultKind, Lasts, Make, Planned, impaired_trial};
use squall_agent::faults::link::Impairment;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "corrupt",
        what: "bits flip: the receiving kernel drops the packet, or the application gets it",
        mechanism: MECHANISM,
        needs: NEEDS,
        verified: "packets counted by the shaper",
        colour: "#8c564b",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long" },
    read,
    trial: impaired_trial::setup("{ probability: 0.3, links: [[n1, n2]] }"),
};

/// Links that flip bits.
pub type Corrupt = Impaired;

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let probability = section.get("probability", 0.1, "of each packet, from 0 to 1")?;
    let bits = section.get("bits", 1, "how many flip in one packet")?;
    let doc = "make the checksum fit, so that the application sees the damage; no TCP service claims to survive that";
    let deliver = section.get("deliver", false, doc)?;
    impaired::read(section, context, Impairment::Corrupt { probability, bits, deliver }, Planned::Corrupt)
}

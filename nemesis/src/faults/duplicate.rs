//! Packets arrive twice.

use super::impaired::{self, Impaired, MECHANISM, NEEDS};
use super::{FaultKind, Lasts, Make, Planned, impaired_trial};
use squall_agent::faults::link::Impairment;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "duplicate",
        what: "some packets arrive twice",
        mechanism: MECHANISM,
        needs: NEEDS,
        verified: "packets counted by the shaper",
        colour: "#bcbd22",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long" },
    read,
    trial: impaired_trial::setup("{ probability: 0.3, links: [[n1, n2]] }"),
};

/// Links on which packets arrive twice.
pub type Duplicate = Impaired;

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let probability = section.get("probability", 0.2, "of each packet, from 0 to 1")?;
    impaired::read(section, context, Impairment::Duplicate { probability }, Planned::Duplicate)
}

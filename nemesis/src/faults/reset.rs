//! TCP connections are reset.

use super::impaired::{self, Impaired, MECHANISM, NEEDS};
use super::{FaultKind, Lasts, Make, Planned, impaired_trial};
use squall_agent::faults::link::Impairment;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "reset",
        what: "established TCP connections are reset at both ends",
        mechanism: MECHANISM,
        needs: NEEDS,
        verified: "resets counted by the shaper",
        colour: "#d62728",
    },
    lasts: Lasts { key: "for", default_ms: 2000, doc: "how long" },
    read,
    trial: impaired_trial::setup("{ probability: 0.1, links: [[n1, n2]] }"),
};

/// Links on which TCP connections are reset.
pub type Reset = Impaired;

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let doc = "of each packet of a connection, from 0 to 1: it is replaced by a reset";
    let probability = section.get("probability", 0.05, doc)?;
    impaired::read(section, context, Impairment::Reset { probability }, Planned::Reset)
}

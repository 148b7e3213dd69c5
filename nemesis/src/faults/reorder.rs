//! Packets overtake one another.

use super::impaired::{self, Impaired, MECHANISM, NEEDS, us};
use super::{FaultKind, Lasts, Make, Planned, impaired_trial};
use squall_agent::faults::link::Impairment;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "reorder",
        what: "some packets are held back, and the others overtake them",
        mechanism: MECHANISM,
        needs: NEEDS,
        verified: "packets counted by the shaper",
        colour: "#17becf",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long" },
    read,
    trial: impaired_trial::setup("{ probability: 0.25, by: 20ms, links: [[n1, n2]] }"),
};

/// Links on which packets overtake one another.
pub type Reorder = Impaired;

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let probability = section.get("probability", 0.25, "of each packet, from 0 to 1")?;
    let by = section.get("by", Duration::from_millis(20), "for how long they are held back")?;
    impaired::read(section, context, Impairment::Reorder { probability, by_us: us(by) }, Planned::Reorder)
}

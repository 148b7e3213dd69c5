//! Packets are lost.

use super::impaired::{self, Impaired, MECHANISM, NEEDS};
use super::{FaultKind, Lasts, Make, Planned, impaired_trial};
use squall_agent::faults::link::Impairment;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "loss",
        what: "some packets are lost, one by one or in bursts",
        mechanism: MECHANISM,
        needs: NEEDS,
        verified: "packets counted by the shaper",
        colour: "#e377c2",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long" },
    read,
    trial: impaired_trial::setup("{ probability: 0.3, links: [[n1, n2]] }"),
};

/// Links that lose packets.
pub type Loss = Impaired;

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let probability = section.get("probability", 0.1, "share of the packets, from 0 to 1")?;
    let burst = section.get("burst", 1.0, "mean number of packets lost in a row; 1 is each for itself")?;
    impaired::read(section, context, Impairment::Loss { probability, burst }, Planned::Loss)
}

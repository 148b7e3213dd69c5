//! Links become narrow.

use super::impaired::{self, Impaired, MECHANISM, NEEDS};
use super::{FaultKind, Lasts, Make, Planned, impaired_trial};
use squall_agent::faults::link::Impairment;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "rate",
        what: "a narrow link: a token bucket and a bounded queue, what does not fit is lost",
        mechanism: MECHANISM,
        needs: NEEDS,
        verified: "packets counted by the shaper",
        colour: "#9467bd",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long" },
    read,
    trial: impaired_trial::setup("{ kbit_per_s: 1000, links: [[n1, n2]] }"),
};

/// Links that are narrow.
pub type Rate = Impaired;

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let kbit_per_s =
        section.get("kbit_per_s", 1000_u64, "throughput of each direction of each link, headers included")?;
    let burst_bytes = section.get("burst_bytes", 3000, "so much passes at once after a pause")?;
    let queue_bytes = section.get("queue_bytes", 100_000, "room for what waits")?;
    let bits_per_s = kbit_per_s.saturating_mul(1000);
    impaired::read(section, context, Impairment::Rate { bits_per_s, burst_bytes, queue_bytes }, Planned::Rate)
}

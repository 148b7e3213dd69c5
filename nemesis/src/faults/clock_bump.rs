//! The clock that the target sees jumps, and jumps back when the fault is over.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::clocks::{self, Jumps};
use crate::hands::{Ask, At, Seen};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::Fault;
use squall_agent::faults::clock::ClockShift;
use squall_agent::protocol::Evidence;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use squall_harness::{Node, Target};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "clock-bump",
        what: "the target's clock jumps ahead or back, and to the truth again",
        mechanism: clocks::MECHANISM,
        needs: clocks::NEEDS,
        verified: "measured in a program with the same clock, against the agent's; every process has the page",
        colour: "#eeca3b",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long it is off" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, by: 1h, direction: ahead }",
        target: None,
        program: clocks::TELLERS,
        machines: false,
    },
};

/// Clocks that are off by a constant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockBump {
    /// `small`, or the amount; for people.
    pub tier: String,
    /// Whose.
    pub who: Who,
    /// By how much, for every node of the cluster (milliseconds).
    pub offsets_ms: Vec<i64>,
    /// CLOCK_MONOTONIC, too.
    pub monotonic: bool,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "minority")?;
    let mut jumps = Jumps::read(section)?;
    let monotonic = clocks::read_monotonic(section)?;
    let count = context.nodes.len();
    Ok(Box::new(move |turn, rng| {
        let who = nodes.pick(rng);
        let (tier, offsets_ms) = jumps.draw(turn, count, rng);
        Planned::ClockBump(ClockBump { tier, who, offsets_ms, monotonic })
    }))
}

impl ClockBump {
    /// The offset of the first node that is hit (seconds).
    fn first_s(&self) -> f64 {
        clocks::of_first(&self.offsets_ms, &self.who) as f64 / 1e3
    }
}

#[async_trait]
impl PlannedFault for ClockBump {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.tier
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Nodes(&self.who)
    }

    fn needs_process(&self) -> bool {
        true
    }

    fn preparations(&self, target: &dyn Target, _: &Node) -> Vec<Fault> {
        clocks::preparations(target)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        clocks::asks(at, hit.nodes(), self.monotonic, |node| ClockShift::Bump {
            offset_ms: clocks::of_node(&self.offsets_ms, node),
        })
    }

    async fn verify(&self, at: &At<'_>, hit: &Hit, evidence: &[Evidence]) -> anyhow::Result<Seen> {
        clocks::verify(at, hit.nodes(), evidence)
    }

    fn holds_to_the_end(&self) -> bool {
        true
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        clocks::gauge(lab, hit.nodes()).await
    }

    fn expected(&self) -> String {
        format!("all programs {:+.1} s off (-1.5 s, +0.5 s), the truth before and after", self.first_s())
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let seconds = self.first_s();
        if seconds.abs() < clocks::OFF_MIN {
            return Err(format!("what is off by less than {} s cannot be told from the truth here", clocks::OFF_MIN));
        }
        clocks::judge(readings, |told| told.is_off_by(seconds) && told.goes_at(1.0))
    }
}

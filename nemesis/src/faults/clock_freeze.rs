//! The clock that the target sees stands still, and jumps to the truth when the fault is over.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::clocks;
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
        name: "clock-freeze",
        what: "the target's clock stands still, then jumps to the truth",
        mechanism: clocks::MECHANISM,
        needs: clocks::NEEDS,
        verified: "the slope, measured in a program with the same clock; every process has the page",
        colour: "#9d8b4e",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long it stands still" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: clocks::TELLERS, machines: false },
};

/// Clocks that stand still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockFreeze {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "minority")?;
    Ok(Box::new(move |_, rng| {
        Planned::ClockFreeze(ClockFreeze { select: nodes.name().to_owned(), who: nodes.pick(rng) })
    }))
}

#[async_trait]
impl PlannedFault for ClockFreeze {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
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
        clocks::asks(at, hit.nodes(), false, |_| ClockShift::Freeze)
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
        "0 s a second (+-0.25), one before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        clocks::judge(readings, |told| told.goes_at(0.0))
    }
}

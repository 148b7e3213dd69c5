//! The clock of a whole machine jumps, and is right again when the fault is over.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::clocks::{self, Jumps};
use crate::hands::{Ask, At, Seen};
use crate::machine_clocks::{self, all_ahead};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::machine_clock::MachineShift;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "machine-clock-bump",
        what: "the clock of a whole machine jumps ahead or back, for every program there, and to the truth again",
        mechanism: machine_clocks::MECHANISM,
        needs: machine_clocks::NEEDS,
        verified: "CLOCK_REALTIME against CLOCK_MONOTONIC_RAW, which nobody can set; `date` there against the controller's clock",
        colour: "#e3b505",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long it is off" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, by: 1h, direction: back }",
        target: None,
        program: TICKER,
        machines: true,
    },
};

/// Machines whose clocks are off by a constant.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineClockBump {
    /// `small`, or the amount; for people.
    pub tier: String,
    /// Whose.
    pub who: Who,
    /// By how much, for every node of the cluster (milliseconds).
    pub offsets_ms: Vec<i64>,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    machine_clocks::check(section, context, KIND.doc.name, "clock-bump")?;
    let nodes = Selector::read(section, context, "minority")?;
    let mut jumps = Jumps::read(section)?;
    let count = context.nodes.len();
    Ok(Box::new(move |turn, rng| {
        let who = nodes.pick(rng);
        let (tier, offsets_ms) = jumps.draw(turn, count, rng);
        Planned::MachineClockBump(MachineClockBump { tier, who, offsets_ms })
    }))
}

impl MachineClockBump {
    /// The offset of the first node that is hit (seconds).
    fn first_s(&self) -> f64 {
        clocks::of_first(&self.offsets_ms, &self.who) as f64 / 1e3
    }
}

#[async_trait]
impl PlannedFault for MachineClockBump {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.tier
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Nodes(&self.who)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        machine_clocks::asks(at, hit.nodes(), |node| MachineShift::Bump {
            offset_ms: clocks::of_node(&self.offsets_ms, node),
        })
    }

    async fn inject(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        let before = all_ahead(at, hit.nodes()).await?;
        let evidence = at.inject(self.asks(at, hit)).await?;
        let after = all_ahead(at, hit.nodes()).await?;
        machine_clocks::verify(at, hit.nodes(), &evidence, Some((&before, &after)), |node| {
            clocks::of_node(&self.offsets_ms, node) as f64 / 1e3
        })
    }

    fn holds_to_the_end(&self) -> bool {
        true
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        machine_clocks::gauge(lab, hit.nodes()).await
    }

    fn expected(&self) -> String {
        format!("`date` {:+.1} s (+-0.5) from where it was, where it was after", self.first_s())
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        machine_clocks::judge(readings, Some(self.first_s()), 1.0)
    }
}

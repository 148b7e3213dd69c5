//! The clock that the target sees jumps to and fro.

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
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "clock-strobe",
        what: "the target's clock jumps to and fro between too early and too late",
        mechanism: clocks::MECHANISM,
        needs: clocks::NEEDS,
        verified: "both sides measured in a program with the same clock; every process has the page",
        colour: "#f2cf5b",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long it goes on" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, by: 1m, period: 300ms }",
        target: None,
        program: clocks::TELLERS,
        machines: false,
    },
};

/// Clocks that jump to and fro.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockStrobe {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// Ahead for a period, back for the next (milliseconds).
    pub offset_ms: i64,
    /// Milliseconds.
    pub period_ms: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "minority")?;
    let by = section.get("by", Duration::from_millis(500), "ahead for one period, back for the next")?;
    let period = section.get("period", Duration::from_millis(200), "from one jump to the next, 10ms to 2s")?;
    if by < Duration::from_millis(5) || by > Duration::from_secs(365 * 86_400) {
        return Err(section.error("`by` must be from 5ms to a year"));
    }
    if period < Duration::from_millis(10) || period > Duration::from_secs(2) {
        return Err(section.error("`period` must be from 10ms to 2s"));
    }
    let (offset_ms, period_ms) = (by.as_millis() as i64, period.as_millis() as u64);
    Ok(Box::new(move |_, rng| {
        let (select, who) = (nodes.name().to_owned(), nodes.pick(rng));
        Planned::ClockStrobe(ClockStrobe { select, who, offset_ms, period_ms })
    }))
}

#[async_trait]
impl PlannedFault for ClockStrobe {
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
        let shift = ClockShift::Strobe { offset_ms: self.offset_ms, period_ms: self.period_ms };
        clocks::asks(at, hit.nodes(), false, |_| shift)
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
        format!(
            "{:.1} s too early and too late in turns (-1.5 s, +0.5 s), the truth before and after",
            self.offset_ms as f64 / 1e3
        )
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let seconds = self.offset_ms as f64 / 1e3;
        if seconds < clocks::OFF_MIN {
            return Err(format!("what is off by less than {} s cannot be told from the truth here", clocks::OFF_MIN));
        }
        clocks::judge(readings, |told| told.is_between(-seconds, seconds))
    }
}

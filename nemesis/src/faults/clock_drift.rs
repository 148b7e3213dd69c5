//! The clock that the target sees goes too fast or too slow.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::clocks::{self, Direction};
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
        name: "clock-drift",
        what: "the target's clock goes too fast or too slow",
        mechanism: clocks::MECHANISM,
        needs: clocks::NEEDS,
        verified: "the slope, measured in a program with the same clock; every process has the page",
        colour: "#b79a20",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long it goes wrong" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, rate: 0.5, direction: back }",
        target: None,
        program: clocks::TELLERS,
        machines: false,
    },
};

/// Clocks that go too fast or too slow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ClockDrift {
    /// `rate 0.1`; for people.
    pub rate: String,
    /// Whose.
    pub who: Who,
    /// How much is gained, for every node of the cluster (parts per million).
    pub ppm: Vec<i64>,
    /// CLOCK_MONOTONIC, too.
    pub monotonic: bool,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "minority")?;
    let doc = "seconds gained or lost in a second, one after the other: 0.001 is a bad clock, 0.5 a broken one";
    let rates = section.get("rate", vec![0.001, 0.1, 0.5], doc)?;
    let direction = Direction::read(section)?;
    let monotonic = clocks::read_monotonic(section)?;
    if rates.is_empty() || rates.iter().any(|rate| !(0.000_01..=10.0).contains(rate)) {
        return Err(section.error("`rate` must be from 0.00001 to 10; `direction` says which way"));
    }
    // Faster than that is not backwards: a clock stands still at most.
    if rates.iter().any(|rate| *rate >= 1.0) && direction != Direction::Ahead {
        let what =
            "a clock that loses a second a second stands still: use clock-freeze, `direction: ahead`, or less than 1";
        return Err(section.error(what));
    }
    let count = context.nodes.len();
    Ok(Box::new(move |turn, rng| {
        let rate = rates[turn % rates.len()];
        let who = nodes.pick(rng);
        let ppm = direction.ppm(rate, count, rng);
        Planned::ClockDrift(ClockDrift { rate: format!("rate {rate}"), who, ppm, monotonic })
    }))
}

impl ClockDrift {
    /// The rate of the first node that is hit (seconds gained in a second).
    fn first_rate(&self) -> f64 {
        clocks::of_first(&self.ppm, &self.who) as f64 / 1e6
    }
}

#[async_trait]
impl PlannedFault for ClockDrift {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.rate
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
        clocks::asks(at, hit.nodes(), self.monotonic, |node| ClockShift::Drift {
            ppm: clocks::of_node(&self.ppm, node),
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
        format!("{:.2} s a second (+-0.25), one before and after", 1.0 + self.first_rate())
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let rate = self.first_rate();
        if rate.abs() < clocks::RATE_MIN {
            return Err(format!("rates below {} cannot be told from the truth here", clocks::RATE_MIN));
        }
        clocks::judge(readings, |told| told.goes_at(1.0 + rate))
    }
}

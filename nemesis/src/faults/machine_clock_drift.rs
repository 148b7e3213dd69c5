//! The clock of a whole machine goes too fast or too slow, and is right again when the fault is over.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::clocks::{self, Direction};
use crate::hands::{Ask, At, Seen};
use crate::machine_clocks;
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::machine_clock::{MachineShift, PPM_MAX};
use squall_agent::protocol::Evidence;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "machine-clock-drift",
        what: "the clock of a whole machine goes too fast or too slow, CLOCK_MONOTONIC too, and is right again",
        mechanism: machine_clocks::MECHANISM,
        needs: machine_clocks::NEEDS,
        verified: "the slope of CLOCK_REALTIME against CLOCK_MONOTONIC_RAW, which nothing makes faster",
        colour: "#ad8a00",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long it goes wrong" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, rate: 0.1, direction: ahead }",
        target: None,
        program: TICKER,
        machines: true,
    },
};

/// Machines whose clocks go too fast or too slow.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MachineClockDrift {
    /// `rate 0.1`; for people.
    pub rate: String,
    /// Whose.
    pub who: Who,
    /// How much is gained, for every node of the cluster (parts per million).
    pub ppm: Vec<i64>,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    machine_clocks::check(section, context, KIND.doc.name, "clock-drift")?;
    let nodes = Selector::read(section, context, "minority")?;
    let doc =
        "seconds gained or lost in a second, one after the other: 0.001 is a bad clock, 0.1 is as far as kernels go";
    let rates = section.get("rate", vec![0.001, 0.01, 0.1], doc)?;
    let direction = Direction::read(section)?;
    let most = PPM_MAX as f64 / 1e6;
    if rates.is_empty() || rates.iter().any(|rate| !(0.000_01..=most).contains(rate)) {
        let what = format!(
            "`rate` must be from 0.00001 to {most}, which is as far as kernels go; for more there is `clock-drift`"
        );
        return Err(section.error(what));
    }
    let count = context.nodes.len();
    Ok(Box::new(move |turn, rng| {
        let rate = rates[turn % rates.len()];
        let who = nodes.pick(rng);
        let ppm = direction.ppm(rate, count, rng);
        Planned::MachineClockDrift(MachineClockDrift { rate: format!("rate {rate}"), who, ppm })
    }))
}

impl MachineClockDrift {
    /// Seconds that pass in a second on the first node that is hit.
    fn first_rate(&self) -> f64 {
        1.0 + clocks::of_first(&self.ppm, &self.who) as f64 / 1e6
    }
}

#[async_trait]
impl PlannedFault for MachineClockDrift {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.rate
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Nodes(&self.who)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        machine_clocks::asks(at, hit.nodes(), |node| MachineShift::Drift { ppm: clocks::of_node(&self.ppm, node) })
    }

    async fn verify(&self, at: &At<'_>, hit: &Hit, evidence: &[Evidence]) -> anyhow::Result<Seen> {
        machine_clocks::verify(at, hit.nodes(), evidence, None, |_| 0.0)
    }

    fn holds_to_the_end(&self) -> bool {
        true
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        machine_clocks::gauge(lab, hit.nodes()).await
    }

    fn expected(&self) -> String {
        format!("{:.3} s a second (+-0.02) by `date`, one before and after, and where it was", self.first_rate())
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let rate = self.first_rate();
        if (rate - 1.0).abs() < 0.04 {
            return Err("rates below 0.04 cannot be told from the truth here".to_owned());
        }
        machine_clocks::judge(readings, None, rate)
    }
}

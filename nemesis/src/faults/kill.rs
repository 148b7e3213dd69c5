//! kill -9 of the target's whole process tree, then a start.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::claims::Harm;
use crate::hands::{Ask, At};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::{self, Fault};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "kill",
        what: "kill -9 of the whole process tree, then a start",
        mechanism: "signal 9 to the session and all its descendants",
        needs: "nothing",
        verified: "no process of the tree is left in /proc",
        colour: "#e45756",
    },
    lasts: Lasts { key: "restart_after", default_ms: 2000, doc: "how long it stays down" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: false },
};

/// Processes that are killed, and started when the step ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Kill {
    /// As in the test file: `minority`; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "one")?;
    Ok(Box::new(move |_, rng| Planned::Kill(Kill { select: nodes.name().to_owned(), who: nodes.pick(rng) })))
}

#[async_trait]
impl PlannedFault for Kill {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.who)
    }

    fn harm(&self) -> Harm {
        Harm::Crash
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        at.per_node(hit.nodes(), |_| vec![Fault::Kill(faults::kill::Kill { process: at.process() })])
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start(hit.nodes()).await?;
        Ok(Some("started again"))
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        lab.pulse(hit.nodes()).await
    }

    fn expected(&self) -> String {
        "no line printed while it lasts, many before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        readings.stops_the_pulse()
    }
}

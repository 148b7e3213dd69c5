//! SIGTERM to the target's whole process tree, then a start.

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
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "term",
        what: "SIGTERM to the whole process tree (signal 9 after a grace period), then a start",
        mechanism: "signal 15 to the session and all its descendants",
        needs: "nothing",
        verified: "no process of the tree is left in /proc",
        colour: "#ff9da6",
    },
    lasts: Lasts { key: "restart_after", default_ms: 2000, doc: "from the signal to the start" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: false },
};

/// Processes that are asked to end, and started when the step ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Term {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// Killed after (milliseconds).
    pub grace_ms: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "one")?;
    let grace = section.get("grace", Duration::from_secs(1), "killed when it has not ended by itself after this")?;
    let grace_ms = grace.as_millis() as u64;
    Ok(Box::new(move |_, rng| Planned::Term(Term { select: nodes.name().to_owned(), who: nodes.pick(rng), grace_ms })))
}

#[async_trait]
impl PlannedFault for Term {
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
        let fault = |_: &_| vec![Fault::Term(faults::term::Term { process: at.process(), grace_ms: self.grace_ms })];
        at.per_node(hit.nodes(), fault)
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

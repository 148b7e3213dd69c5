//! SIGSTOP of the target's whole process tree, then SIGCONT.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
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
        name: "pause",
        what: "SIGSTOP of the whole process tree, then SIGCONT",
        mechanism: "signal 19, later signal 18",
        needs: "nothing",
        verified: "every thread is in state T, at the beginning and at the end",
        colour: "#f58518",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long it stands still" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: false },
};

/// Processes that stand still.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Pause {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "one")?;
    Ok(Box::new(move |_, rng| Planned::Pause(Pause { select: nodes.name().to_owned(), who: nodes.pick(rng) })))
}

#[async_trait]
impl PlannedFault for Pause {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.who)
    }

    fn needs_process(&self) -> bool {
        true
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        at.per_node(hit.nodes(), |_| vec![Fault::Pause(faults::pause::Pause { process: at.process() })])
    }

    fn holds_to_the_end(&self) -> bool {
        true
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

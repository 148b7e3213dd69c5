//! Whole machines are rebooted in order: services are stopped, file systems are unmounted; then a start.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::claims::Harm;
use crate::hands::{Ask, At, Seen};
use crate::machine;
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "reboot",
        what: "whole machines are rebooted in order; then the target is started",
        mechanism: "`systemctl reboot` on the machine",
        needs: "nodes with kernels of their own (vagrant, ssh), root",
        verified: "the machine is silent, then answers with another boot id",
        colour: "#b79a20",
    },
    lasts: Lasts {
        key: "restart_after",
        default_ms: 1000,
        doc: "the target is started when the machine is up, and not before this",
    },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: true },
};

/// Whether services are stopped and file systems are unmounted before it.
const ORDERLY: bool = true;

/// Machines that go down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reboot {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    machine::check(section, context, KIND.doc.name)?;
    let nodes = Selector::read(section, context, "one")?;
    Ok(Box::new(move |_, rng| Planned::Reboot(Reboot { select: nodes.name().to_owned(), who: nodes.pick(rng) })))
}

#[async_trait]
impl PlannedFault for Reboot {
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
        machine::asks(at, hit.nodes(), ORDERLY)
    }

    async fn inject(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        machine::take_down(at, hit.nodes(), ORDERLY).await
    }

    async fn heal(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        machine::bring_up(at, hit.nodes(), ORDERLY).await
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        machine::gauge(lab, hit.nodes()).await
    }

    fn expected(&self) -> String {
        "the machine is up, then silent, then up for a shorter time than before".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        machine::judge(readings)
    }
}

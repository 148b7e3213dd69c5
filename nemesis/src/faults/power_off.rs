//! The power of whole machines is cut, with everything that their kernels had not written; they boot, then a start.

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
        name: "power-off",
        what: "the power of whole machines is cut: what their kernels had not written is gone; they boot, and the target is started",
        mechanism: "vagrant: the virtual machine is destroyed and started; ssh: SysRq `b`, a reset by the kernel itself",
        needs: "nodes with kernels of their own (vagrant, ssh), root",
        verified: "the machine is silent, then answers with another boot id",
        colour: "#d4a72c",
    },
    lasts: Lasts {
        key: "restart_after",
        default_ms: 3000,
        doc: "how long it stays without power, where somebody else can switch it on; then it boots, and the target is started",
    },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: true },
};

/// Whether services are stopped and file systems are unmounted before it.
const ORDERLY: bool = false;

/// Machines that go down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerOff {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    machine::check(section, context, KIND.doc.name)?;
    let nodes = Selector::read(section, context, "one")?;
    Ok(Box::new(move |_, rng| Planned::PowerOff(PowerOff { select: nodes.name().to_owned(), who: nodes.pick(rng) })))
}

#[async_trait]
impl PlannedFault for PowerOff {
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

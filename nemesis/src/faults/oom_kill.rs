//! The kernel kills the target's whole process tree for want of memory, then a start.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::claims::Harm;
use crate::hands::{Ask, At};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use anyhow::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::{self, Fault};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "oom-kill",
        what: "the kernel's OOM killer takes the whole process tree, then a start",
        mechanism: "a control group with little memory (v1 or v2), which a helper of ours takes",
        needs: "root, a control group with `memory`",
        verified: "the kernel counts OOM kills in the group, and no process of the tree is left",
        colour: "#ad494a",
    },
    lasts: Lasts { key: "restart_after", default_ms: 2000, doc: "how long it stays down" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one }", target: None, program: TICKER, machines: false },
};

/// Processes that the kernel kills, and that are started when the step ends.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct OomKill {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "one")?;
    Ok(Box::new(move |_, rng| Planned::OomKill(OomKill { select: nodes.name().to_owned(), who: nodes.pick(rng) })))
}

#[async_trait]
impl PlannedFault for OomKill {
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

    fn harm(&self) -> Harm {
        Harm::Crash
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        at.per_node(hit.nodes(), |_| vec![Fault::OomKill(faults::oom_kill::OomKill { process: at.process() })])
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start(hit.nodes()).await?;
        Ok(Some("started again"))
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let node = *hit.nodes().first().context("nobody is hit")?;
        let mut reading = lab.pulse(&[node]).await?;
        let printed = lab.shell(node, "grep ^oom_kill /proc/vmstat").await?.stdout;
        let kills = printed.split_ascii_whitespace().nth(1).and_then(|n| n.parse::<f64>().ok());
        let kills = kills.context("this kernel does not count OOM kills")?;
        reading.words += &format!("; {kills} OOM kills by this kernel so far");
        reading.numbers.push(kills);
        Ok(reading)
    }

    fn expected(&self) -> String {
        "no line printed while it lasts, and an OOM kill in /proc/vmstat; many lines before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let (lines, kills) = (|reading: &Reading| reading.numbers[0], |reading: &Reading| reading.numbers[1]);
        if lines(&readings.before) < 5.0 || lines(&readings.after) < 5.0 {
            return Err("the process did not tick before and after".to_owned());
        }
        if lines(&readings.during) != 0.0 {
            return Err("the process went on during the fault".to_owned());
        }
        if kills(&readings.during) > kills(&readings.before) {
            Ok(())
        } else {
            Err("the kernel counts no OOM kill".to_owned())
        }
    }
}

//! The target can start no more processes and threads: EAGAIN.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::hands::{Ask, At};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TrialSetup};
use anyhow::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::{self, Fault};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "pid-limit",
        what: "the whole process tree can start no more processes and threads (EAGAIN), but in the place of those that end",
        mechanism: "a control group's pids.max (v1 or v2); where none can be made RLIMIT_NPROC",
        needs: "root for a control group; otherwise `left: 0`",
        verified: "every process is in the group or has the limit, at the beginning and at the end; forks that failed are counted by the group",
        colour: "#7b4173",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long there are no more" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one }",
        target: None,
        // bash tries a fork that failed again, 1, 2 and 4 seconds later, and says so each time.
        program: "echo started; mkfifo -m 600 data/never; \
                  bash -c 'exec 3<>data/never; while :; do (exit 7); test $? = 7 && echo forked; read -t 0.05 -u 3; done'; \
                  echo ended",
        machines: false,
    },
};

/// Processes that cannot fork.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PidLimit {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// How many more there may be on each node.
    pub left: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "one")?;
    let left = section.get("left", 0, "how many more processes and threads it may start")?;
    let select = nodes.name().to_owned();
    Ok(Box::new(move |_, rng| Planned::PidLimit(PidLimit { select: select.clone(), who: nodes.pick(rng), left })))
}

#[async_trait]
impl PlannedFault for PidLimit {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    // What is started meanwhile may find no room for its threads: no other fault ends it while this one lasts.
    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.who)
    }

    fn needs_process(&self) -> bool {
        true
    }

    fn harm(&self) -> crate::claims::Harm {
        crate::claims::Harm::Crash
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let left = self.left;
        let fault = |_: &_| vec![Fault::Processes(faults::processes::Processes { process: at.process(), left })];
        at.per_node(hit.nodes(), fault)
    }

    fn holds_to_the_end(&self) -> bool {
        true
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start_ended(hit.nodes()).await?;
        Ok(None)
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let node = *hit.nodes().first().context("nobody is hit")?;
        // The next attempt after a failed one may be 8 seconds away.
        let lines = lab.lines_within(node, 2.0, 12).await?;
        let forked = lines.iter().filter(|line| line.as_str() == "forked").count();
        let refused = lines.iter().filter(|line| line.contains("Resource temporarily unavailable")).count();
        let words = format!("bash forked {forked} times, and {refused} times got EAGAIN");
        Ok(Reading { words, numbers: vec![forked as f64, refused as f64] })
    }

    fn expected(&self) -> String {
        "EAGAIN and no fork while it lasts, forks before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        readings.refuses_meanwhile("it did not fork", "it could fork")
    }
}

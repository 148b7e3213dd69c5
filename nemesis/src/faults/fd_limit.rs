//! The target can open no more files and connections: EMFILE.

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
        name: "fd-limit",
        what: "each process can open no more files and connections (EMFILE), but in the place of what it closes",
        mechanism: "soft RLIMIT_NOFILE set to the lowest number that is free, by prlimit(2)",
        needs: "nothing",
        verified: "/proc/PID/limits",
        colour: "#6b6ecf",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long there are no more" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one }",
        target: None,
        // bash waits by itself, so that what it opens is all that needs a descriptor.
        program: "echo started; mkfifo -m 600 data/never; \
                  bash -c 'exec 3<>data/never; while :; do if true </dev/null; then echo opened; fi; read -t 0.05 -u 3; done'; \
                  echo ended",
        machines: false,
    },
};

/// Processes that are out of file descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FdLimit {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// How many each process may still open.
    pub left: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "one")?;
    let left = section.get("left", 0, "how many more each process may open")?;
    let select = nodes.name().to_owned();
    Ok(Box::new(move |_, rng| Planned::FdLimit(FdLimit { select: select.clone(), who: nodes.pick(rng), left })))
}

#[async_trait]
impl PlannedFault for FdLimit {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    // A process that is started meanwhile would have other numbers free: no other fault ends it while this one lasts.
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
        at.per_node(hit.nodes(), |_| vec![Fault::Files(faults::files::Files { process: at.process(), left })])
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start_ended(hit.nodes()).await?;
        Ok(None)
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let node = *hit.nodes().first().context("nobody is hit")?;
        let lines = lab.lines_within(node, 1.0, 15).await?;
        let opened = lines.iter().filter(|line| line.as_str() == "opened").count();
        let refused = lines.iter().filter(|line| line.contains("Too many open files")).count();
        let words = format!("bash opened /dev/null {opened} times, and {refused} times got EMFILE");
        Ok(Reading { words, numbers: vec![opened as f64, refused as f64] })
    }

    fn expected(&self) -> String {
        "EMFILE every time while it lasts, and never before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        readings.refuses_meanwhile("it could not open files", "it could open files")
    }
}

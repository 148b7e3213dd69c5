//! The target gets only so much more memory than it has.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::claims::Harm;
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
        name: "memory-limit",
        what: "the whole process tree gets only so much more memory than it has; what does not fit is killed by the kernel, then a start",
        mechanism: "a control group (v1 or v2), without swap; where none can be made a limit of the address space (RLIMIT_AS), and allocations fail",
        needs: "root for a control group; otherwise nothing",
        verified: "every process is in the group or has the limit, at the beginning and at the end; OOM kills in the group are counted",
        colour: "#843c39",
    },
    lasts: Lasts { key: "for", default_ms: 5000, doc: "how long there is no more" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, more_mb: 8 }",
        target: None,
        // tail(1) keeps all of it in memory, and is the one that the kernel kills for it.
        program: "echo started; while :; do head -c 50000000 /dev/zero | \
                  (echo 1000 >/proc/self/oom_score_adj; exec tail -c 50000000) | wc -c; sleep 0.05; done",
        machines: false,
    },
};

/// How much the trial's `tail` keeps, as `wc` counts it.
const WHOLE: &str = "50000000";

/// Processes that are short of memory.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct MemoryLimit {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// How much more they may take (MiB), on each node together.
    pub more_mb: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "one")?;
    let doc = "how much more it may take than it has (MiB), the page cache of its files included";
    let more_mb = section.get("more_mb", 32, doc)?;
    let planned = MemoryLimit { select: nodes.name().to_owned(), who: Who::Nodes(Vec::new()), more_mb };
    planned.validate().map_err(|why| section.error(why))?;
    Ok(Box::new(move |_, rng| Planned::MemoryLimit(MemoryLimit { who: nodes.pick(rng), ..planned.clone() })))
}

impl MemoryLimit {
    fn on(&self, process: String) -> faults::memory::Memory {
        faults::memory::Memory { process, more: self.more_mb.saturating_mul(1 << 20) }
    }
}

#[async_trait]
impl PlannedFault for MemoryLimit {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Nodes(&self.who)
    }

    fn needs_process(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), String> {
        self.on(String::new()).check()
    }

    fn harm(&self) -> Harm {
        Harm::Crash
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        at.per_node(hit.nodes(), |_| vec![Fault::Memory(self.on(at.process()))])
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
        // What began before is no matter of ours.
        tokio::time::sleep(std::time::Duration::from_millis(700)).await;
        let lines = lab.lines_within(node, 3.0, 5).await?;
        let whole = lines.iter().filter(|line| line.as_str() == WHOLE).count();
        let cut = lines.iter().filter(|line| line.parse::<u64>().is_ok() && line.as_str() != WHOLE).count();
        let words = format!("`tail` could keep 50 MB {whole} times, and {cut} times it could not");
        Ok(Reading { words, numbers: vec![whole as f64, cut as f64] })
    }

    fn expected(&self) -> String {
        "`tail` can never keep 50 MB while it lasts, and always before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        readings.refuses_meanwhile("memory was short", "memory was not short")
    }
}

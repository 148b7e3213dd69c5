//! Every node is stopped and started again, one after the other.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::claims::Harm;
use crate::hands::{self, Ask, At, Seen};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::{self, Fault};
use squall_agent::protocol::ProcessState;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use std::time::{Duration, Instant};

/// Pause between two questions whether the cluster is ready.
const ASK_AGAIN: Duration = Duration::from_millis(50);

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "rolling-restart",
        what: "SIGTERM and start of one node after the other, as an upgrade does it",
        mechanism: "signal 15 to the process tree, the next node when the target is ready again or after a while",
        needs: "nothing",
        verified: "each process tree gone from /proc before its start",
        colour: "#bab0ac",
    },
    lasts: Lasts {
        key: "for",
        default_ms: 6000,
        doc: "the next step waits for at least this; it goes on until all had a turn",
    },
    read,
    trial: TrialSetup {
        nodes: 3,
        keys: "{ nodes: all, settle: 200ms }",
        target: None,
        program: TICKER,
        machines: false,
    },
};

/// Processes that restart one after the other.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RollingRestart {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// How long the target may take to be ready before the next node (milliseconds).
    pub settle_ms: u64,
    /// Killed when it has not ended by itself after this (milliseconds).
    pub grace_ms: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "all")?;
    let doc = "the next node when the target is ready again, or after this";
    let settle_ms = section.get("settle", Duration::from_secs(1), doc)?.as_millis() as u64;
    let doc = "killed when it has not ended by itself after this";
    let grace_ms = section.get("grace", Duration::from_secs(1), doc)?.as_millis() as u64;
    Ok(Box::new(move |_, rng| {
        let (select, who) = (nodes.name().to_owned(), nodes.pick(rng));
        Planned::RollingRestart(RollingRestart { select, who, settle_ms, grace_ms })
    }))
}

#[async_trait]
impl PlannedFault for RollingRestart {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.who)
    }

    /// One at a time.
    fn harm(&self) -> Harm {
        Harm::None
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let fault = |_: &_| vec![Fault::Term(faults::term::Term { process: at.process(), grace_ms: self.grace_ms })];
        at.per_node(hit.nodes(), fault)
    }

    async fn inject(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        let mut evidence = Vec::new();
        for &node in hit.nodes() {
            let one = || self.asks(at, &Hit::Nodes(vec![node]));
            // What has ended by itself is only started.
            if hands::state(at.target, at.node(node)).await? != Some(ProcessState::Gone) {
                evidence.extend(at.inject(one()).await?);
                at.heal(one(), false).await?;
            }
            at.start(&[node]).await?;
            let begun = Instant::now();
            while begun.elapsed() < Duration::from_millis(self.settle_ms) {
                // A cluster that is not ready in time is not waited for: others may be down on purpose.
                if at.target.ready(at.cluster).await.is_ok() {
                    break;
                }
                tokio::time::sleep(ASK_AGAIN).await;
            }
        }
        let mut seen = Seen::verified(&evidence)?;
        seen.count(hit.nodes().len() as u64, "restarts");
        Ok(seen)
    }

    async fn heal(&self, _: &At<'_>, _: &Hit) -> anyhow::Result<Seen> {
        Ok(Seen { words: "all are up again".to_owned(), ..Seen::default() })
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let starts = lab.starts(hit.nodes()).await?;
        let pulse = lab.pulse_of_living(hit.nodes()).await?;
        let mut reading = Reading { words: format!("started {starts:?} times; {}", pulse.words), numbers: starts };
        reading.numbers.push(pulse.numbers.iter().copied().fold(f64::INFINITY, f64::min));
        Ok(reading)
    }

    fn expected(&self) -> String {
        "every process started once more than before, and all tick".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let count = readings.before.numbers.len() - 1;
        let once_more = (0..count).all(|node| readings.during.numbers[node] == readings.before.numbers[node] + 1.0);
        if !once_more || readings.after.numbers[..count] != readings.during.numbers[..count] {
            return Err("not every process was started exactly once".to_owned());
        }
        let ticks = |reading: &Reading| reading.numbers[count] >= 5.0;
        if [&readings.before, &readings.during, &readings.after].into_iter().all(ticks) {
            return Ok(());
        }
        Err("a process does not tick".to_owned())
    }
}

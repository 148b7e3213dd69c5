//! A node's data are what they were a while ago, as after an old snapshot of its disk was put back: what it has promised since
//! it has forgotten. Hardly any system claims to survive that on a majority, and some not even on one node.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::atlas::Victims;
use crate::hands::{Ask, At, Seen};
use crate::select::Who;
use crate::trial::{Lab, Reading, Readings, TrialSetup};
use anyhow::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::{self, Fault};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "rollback",
        what: "data become what they were some time ago: kill, copy, start, …, kill, put the copy back, start",
        mechanism: "ordinary copies of the target's directories",
        needs: "nothing",
        verified: "SHA-256 of names and contents before and after",
        colour: "#bab0ac",
    },
    lasts: Lasts {
        key: "for",
        default_ms: 1000,
        doc: "time until the next fault of this kind may begin at the earliest",
    },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ back: 1500ms, beyond: true, nodes: one }",
        target: None,
        program: "while :; do date +%s.%N | tee -a data/ticks; sleep 0.02; done",
        machines: false,
    },
};

/// Data that are rolled back.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rollback {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// How far (milliseconds).
    pub back_ms: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let back = section.get("back", Duration::from_secs(2), "how far back; the step takes so much longer")?;
    if back < Duration::from_millis(100) {
        return Err(section.error("`back` must be at least 100ms, or nothing has changed by then"));
    }
    let victims = Victims::read(section, context)?;
    Ok(Box::new(move |_, rng| {
        let who = victims.pick(rng);
        Planned::Rollback(Rollback { select: victims.name().to_owned(), who, back_ms: back.as_millis() as u64 })
    }))
}

impl Rollback {
    fn kill(at: &At<'_>) -> Fault {
        Fault::Kill(faults::kill::Kill { process: at.process() })
    }

    /// The id under which the copy is made.
    fn then(at: &At<'_>) -> String {
        format!("{}.then", at.id)
    }

    /// What makes the copy.
    fn snapshots(at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let snapshot = || Fault::Snapshot(faults::snapshot::Snapshot { dirs: at.target.data() });
        at.per_node(hit.nodes(), |_| vec![Self::kill(at), snapshot()])
    }
}

#[async_trait]
impl PlannedFault for Rollback {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.who)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let snapshot = format!("{}.1", Self::then(at));
        let restore =
            || Fault::Restore(faults::restore::Restore { dirs: at.target.data(), snapshot: snapshot.clone() });
        at.per_node(hit.nodes(), |_| vec![Self::kill(at), restore()])
    }

    async fn inject(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        let id = Self::then(at);
        let back = Duration::from_millis(self.back_ms);
        let then = At::new(&id, at.cluster, at.target, at.lease + back);
        Seen::verified(&then.inject(Self::snapshots(&then, hit)).await?)?;
        at.start(hit.nodes()).await?;
        tokio::time::sleep(back).await;
        let evidence = at.inject(self.asks(at, hit)).await?;
        then.heal(Self::snapshots(&then, hit), false).await?;
        let mut seen = Seen::verified(&evidence)?;
        let words: Vec<&str> = evidence.iter().map(|one| one.seen.as_str()).filter(|w| w.contains("sha256")).collect();
        seen.words = words.join("; ");
        at.start(hit.nodes()).await?;
        Ok(seen)
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start_ended(hit.nodes()).await?;
        Ok(None)
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let node = *hit.nodes().first().context("nobody is hit")?;
        // The longest time between two lines of the file that the target appends to all the time.
        let script = "sleep 0.3; awk 'NR>1 && $1-p>m {m=$1-p} {p=$1} END {printf \"%.2f %d\", m, NR}' data/ticks";
        let printed = lab.shell(node, script).await?;
        let numbers: Vec<f64> = printed.stdout.split(' ').filter_map(|word| word.trim().parse().ok()).collect();
        let gap = *numbers.first().with_context(|| printed.stderr.clone())?;
        Ok(Reading { words: format!("longest gap in a file of ticks: {gap} s"), numbers })
    }

    fn expected(&self) -> String {
        "the file of ticks has no gap before, and one at least as long as was asked for from then on".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let back = self.back_ms as f64 / 1000.0;
        let gap = |reading: &Reading| reading.numbers.first().copied().unwrap_or(0.0);
        match (gap(&readings.before), gap(&readings.during)) {
            (before, during) if before < back && during >= back => Ok(()),
            (before, during) => Err(format!("gaps of {before} s before and {during} s during")),
        }
    }
}

//! Leadership is handed to another node on request, as operators do it before maintenance.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::hands::{Ask, At, Seen};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TrialSetup};
use anyhow::bail;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use squall_harness::target::Change;
use std::time::{Duration, Instant};

/// How long a transfer may take until the other node leads.
const TAKE_OVER_TIME_MAX: Duration = Duration::from_secs(3);

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "transfer-leader",
        what: "leadership is handed to another node, by the target's own means",
        mechanism: "the target's admin interface (squall-node: TimeoutNow, Raft thesis 3.10; etcd: MoveLeader)",
        needs: "a target that can",
        verified: "the other node says that it leads",
        colour: "#72b7b2",
    },
    lasts: Lasts { key: "for", default_ms: 1000, doc: "the next step waits for at least this" },
    read,
    trial: TrialSetup {
        nodes: 3,
        keys: "{ nodes: follower }",
        target: Some("squall-node"),
        program: "",
        machines: false,
    },
};

/// A node that is made to lead.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct TransferLeader {
    /// As in the test file; for people.
    pub select: String,
    /// To whom; the first of them.
    pub who: Who,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    super::check_change(section, context, Change::Leader)?;
    let nodes = Selector::read(section, context, "follower")?;
    Ok(Box::new(move |_, rng| {
        Planned::TransferLeader(TransferLeader { select: nodes.name().to_owned(), who: nodes.pick(rng) })
    }))
}

#[async_trait]
impl PlannedFault for TransferLeader {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.who)
    }

    fn asks(&self, _: &At<'_>, _: &Hit) -> Vec<Ask> {
        Vec::new()
    }

    async fn inject(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        let Some(&to) = hit.nodes().first() else { bail!("there is nobody to hand leadership to") };
        let begun = Instant::now();
        at.target.transfer_leader(at.cluster, at.node(to)).await?;
        let name = at.node(to).name.as_str();
        while !at.target.primaries(at.cluster).await.iter().any(|leader| leader == name) {
            if begun.elapsed() > TAKE_OVER_TIME_MAX {
                bail!("{name} does not lead after {:.0} s", TAKE_OVER_TIME_MAX.as_secs_f64());
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
        let words = format!("{name} leads after {} ms", begun.elapsed().as_millis());
        let mut seen = Seen { words, ..Seen::default() };
        seen.count(1, "transfers");
        Ok(seen)
    }

    async fn heal(&self, _: &At<'_>, _: &Hit) -> anyhow::Result<Seen> {
        Ok(Seen { words: "nothing to undo".to_owned(), ..Seen::default() })
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let leaders = lab.target.primaries(lab.cluster).await;
        let leads =
            hit.nodes().iter().filter(|&&node| leaders.iter().any(|l| lab.cluster.nodes[node].name == **l)).count();
        Ok(Reading { words: format!("leader {}", leaders.join(" ")), numbers: vec![leads as f64] })
    }

    fn expected(&self) -> String {
        "the chosen follower leads, and stays leader".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        if [&readings.before, &readings.during, &readings.after].map(|r| r.numbers[0]) == [0.0, 1.0, 1.0] {
            return Ok(());
        }
        Err("another node leads than expected".to_owned())
    }
}

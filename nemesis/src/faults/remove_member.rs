//! A node leaves the cluster by the target's own means, and joins again with an empty disk when the step ends.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::claims::Harm;
use crate::hands::{Ask, At, Seen};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TrialSetup};
use anyhow::{Context, bail};
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use squall_harness::target::Change;
use std::time::{Duration, Instant};

/// How long a change of membership may take, and how long until the cluster shows it.
const CHANGE_TIME_MAX: Duration = Duration::from_secs(10);

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "remove-member",
        what: "a node is removed from the cluster and its data wiped; it joins again as a new member when the step ends",
        mechanism: "the target's admin interface (etcd: MemberRemove, MemberAdd)",
        needs: "a target that can",
        verified: "the target's own list of members",
        colour: "#54a24b",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long it is no member" },
    read,
    trial: TrialSetup { nodes: 3, keys: "{ nodes: follower }", target: Some("etcd"), program: "", machines: false },
};

/// Nodes that are no members for a while; `for: 10ms` replaces a member.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct RemoveMember {
    /// As in the test file; for people.
    pub select: String,
    /// Who.
    pub who: Who,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    super::check_change(section, context, Change::Members)?;
    let nodes = Selector::read(section, context, "one")?;
    Ok(Box::new(move |_, rng| {
        Planned::RemoveMember(RemoveMember { select: nodes.name().to_owned(), who: nodes.pick(rng) })
    }))
}

/// Removes or adds a member; tries until the cluster accepts: it refuses while it has no leader, or is not sure of its
/// members.
async fn insist(at: &At<'_>, node: usize, remove: bool) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let (cluster, node) = (at.cluster, at.node(node));
        let changed = if remove {
            at.target.remove_member(cluster, node).await
        } else {
            at.target.add_member(cluster, node).await
        };
        match changed {
            Ok(()) => return Ok(()),
            Err(error) if begun.elapsed() > CHANGE_TIME_MAX => {
                let what = if remove { "remove it from" } else { "add it to" };
                return Err(error.context(format!("{}: cannot {what} the cluster", node.name)));
            }
            Err(_) => tokio::time::sleep(Duration::from_millis(100)).await,
        }
    }
}

#[async_trait]
impl PlannedFault for RemoveMember {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.who)
    }

    /// Its data goes, but the cluster was told before.
    fn harm(&self) -> Harm {
        Harm::Crash
    }

    fn asks(&self, _: &At<'_>, _: &Hit) -> Vec<Ask> {
        Vec::new()
    }

    async fn inject(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        for &node in hit.nodes() {
            insist(at, node, true).await?;
        }
        let members = at.target.members(at.cluster).await.context("cannot list the members")?;
        let left: Vec<&str> = hit.nodes().iter().map(|&node| at.node(node).name.as_str()).collect();
        if let Some(still) = left.iter().find(|name| members.iter().any(|member| member == *name)) {
            bail!("{still} is still a member");
        }
        let mut seen = Seen { words: format!("members are {}", members.join(" ")), ..Seen::default() };
        seen.count(left.len() as u64, "members removed");
        Ok(seen)
    }

    async fn heal(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        for &node in hit.nodes() {
            insist(at, node, false).await?;
        }
        let begun = Instant::now();
        // A new member is listed by its name once it has caught up.
        let members = loop {
            let members = at.target.members(at.cluster).await.context("cannot list the members")?;
            let missing = hit.nodes().iter().map(|&node| at.node(node).name.to_string()).find(|n| !members.contains(n));
            match missing {
                None => break members,
                Some(name) if begun.elapsed() > CHANGE_TIME_MAX => bail!("{name} did not become a member"),
                Some(_) => tokio::time::sleep(Duration::from_millis(50)).await,
            }
        };
        Ok(Seen { words: format!("members are {}", members.join(" ")), ..Seen::default() })
    }

    async fn gauge(&self, lab: &Lab<'_>, _: &Hit) -> anyhow::Result<Reading> {
        let members = lab.target.members(lab.cluster).await?;
        Ok(Reading { words: format!("members {}", members.join(" ")), numbers: vec![members.len() as f64] })
    }

    fn expected(&self) -> String {
        "one member fewer while it lasts, all before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let [before, during, after] = [&readings.before, &readings.during, &readings.after].map(|r| r.numbers[0]);
        if during == before - 1.0 && after == before { Ok(()) } else { Err("the members are others".to_owned()) }
    }
}

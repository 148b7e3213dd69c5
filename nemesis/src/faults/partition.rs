//! Links are cut: packets between nodes are dropped, silently.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::hands::{self, Ask, At, End, Seen};
use crate::links::{LinkSelector, Links};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use anyhow::bail;
use async_trait::async_trait;
use futures::future::try_join_all;
use serde::{Deserialize, Serialize};
use squall_agent::faults::Fault;
use squall_agent::faults::drop::Drop;
use squall_agent::protocol::Evidence;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::time::Duration;

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "partition",
        what: "packets between nodes are dropped, silently and in one direction",
        mechanism: "local: blackhole policy rules in the router; ssh: an nftables table of our own on the receiver",
        needs: "ssh: root and nft",
        verified: "a TCP probe from every node to every other; packets counted by nft",
        colour: "#4c78a8",
    },
    lasts: Lasts { key: "for", default_ms: 4000, doc: "how long the links are cut" },
    read,
    trial: TrialSetup { nodes: 4, keys: "{ shape: halves }", target: None, program: TICKER, machines: false },
};

/// A dial without an answer for so long is cut.
const SILENCE: Duration = Duration::from_secs(2);

/// A dial of a slow machine, which may have just booted, is waited for.
const PATIENCE: Duration = Duration::from_secs(10);

/// What a shell says of a program that was killed: 128 and the signal.
const KILLED: &str = "137";

/// Links that are cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Partition {
    /// `majorities-ring`; for people.
    pub shape: String,
    /// Which.
    pub cut: Links,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let links = LinkSelector::read(section, context, &["majorities-ring", "halves", "one"])?;
    Ok(Box::new(move |turn, rng| {
        let (shape, cut) = links.pick(turn, rng);
        Planned::Partition(Partition { shape, cut })
    }))
}

#[async_trait]
impl PlannedFault for Partition {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.shape
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Links(&self.cut)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let by = at.cluster.network.drop_by();
        at.per_link_control(hit.links(), End::Receiver, |pairs| Fault::Drop(Drop { pairs, by }))
    }

    async fn verify(&self, at: &At<'_>, hit: &Hit, evidence: &[Evidence]) -> anyhow::Result<Seen> {
        let mut seen = Seen::verified(evidence)?;
        let silent: BTreeSet<_> = hands::unreachable(at.cluster).await?.into_iter().collect();
        // One direction cut is enough for a connection to fail from either end.
        let expected: BTreeSet<_> = hit.links().iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
        let bit = expected.intersection(&silent).count();
        seen.words = format!("{bit} of {} probes got no answer", expected.len());
        if bit < expected.len() {
            bail!("{}", seen.words);
        }
        seen.count(hit.links().len() as u64, "links cut");
        seen.count(bit as u64, "probes without answer");
        Ok(seen)
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let patience = if lab.in_force { SILENCE } else { PATIENCE };
        let mut by_node: BTreeMap<usize, Vec<IpAddr>> = BTreeMap::new();
        for &(from, to) in hit.links() {
            by_node.entry(from).or_default().push(lab.cluster.nodes[to].address);
        }
        let dials = by_node.into_iter().map(|(from, others)| async move {
            // Nothing listens there: the refusal of the other kernel is the answer. A shell that has just been started and gets
            // another signal than this one may not heed it while it dials.
            let dial = |to: IpAddr| {
                let seconds = patience.as_secs();
                format!("(timeout -s KILL {seconds} bash -c '</dev/tcp/{to}/1' 2>/dev/null; echo code $?) & ")
            };
            let script: String = others.into_iter().map(dial).collect();
            anyhow::Ok(lab.shell(from, &format!("{script} wait")).await?.stdout)
        });
        let printed = try_join_all(dials).await?.concat();
        let codes: Vec<&str> = printed.lines().filter_map(|line| line.strip_prefix("code ")).collect();
        let all = hit.links().len();
        anyhow::ensure!(codes.len() == all, "{} of {all} dials ended", codes.len());
        let silent = codes.iter().filter(|code| **code == KILLED).count();
        let words = format!("{silent} of {all} TCP dials (bash) without an answer in {} s", patience.as_secs());
        Ok(Reading { words, numbers: vec![silent as f64, all as f64] })
    }

    fn expected(&self) -> String {
        "all dials across the cut without an answer, and none before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        if readings.before.numbers[0] != 0.0 {
            return Err("links were silent before".to_owned());
        }
        if readings.during.numbers[0] != readings.during.numbers[1] {
            return Err("packets passed the cut".to_owned());
        }
        if readings.after.numbers[0] == 0.0 { Ok(()) } else { Err("links are silent after healing".to_owned()) }
    }
}

//! The power of nodes is cut: the target dies, and what it had not synced is gone, all of it or parts; then a start.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::disk;
use crate::hands::{Ask, At, Seen};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use anyhow::Context;
use async_trait::async_trait;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use squall_agent::disk::{Directories, Lose};
use squall_agent::faults::{self, Fault};
use squall_agent::protocol::Evidence;
use squall_harness::config::{ConfigError, Section, unknown};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use squall_harness::{Node, Target};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "power-cut",
        what: "kill -9, and what was written but not synced is gone: all, a subset, torn, out of order; then a start",
        mechanism: "a FUSE file system of our own over the target's data, which knows what was synced",
        needs: "/dev/fuse",
        verified: "no process is left; writes, bytes and names lost are counted",
        colour: "#f2cf5b",
    },
    lasts: Lasts { key: "restart_after", default_ms: 1000, doc: "how long it stays down" },
    read,
    trial: TrialSetup { nodes: 1, keys: "{ nodes: one, lose: all }", target: None, program: TICKER, machines: false },
};

/// Nodes whose power is cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct PowerCut {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// How much is lost.
    pub lose: Lose,
    /// When a change of a directory is durable.
    pub directories: Directories,
    /// For tosses; every node has its own from it.
    pub seed: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "one")?;
    let ways = disk::read_ways_to_lose(section)?;
    let journal = section.get(
        "directories",
        "strict".to_owned(),
        "when names are durable: strict, when their directory was synced, as POSIX has it; or journaled, when anything was \
         synced after them, as on ext4 and XFS (etcd relies on that)",
    )?;
    let directories = match journal.as_str() {
        "strict" => Directories::Strict,
        "journaled" => Directories::Journaled,
        other => return Err(section.error(unknown("word for directories", other, ["strict", "journaled"]))),
    };
    Ok(Box::new(move |turn, rng| {
        let (who, seed) = (nodes.pick(rng), rng.random());
        let (select, lose) = (nodes.name().to_owned(), ways[turn % ways.len()]);
        Planned::PowerCut(PowerCut { select, who, lose, directories, seed })
    }))
}

#[async_trait]
impl PlannedFault for PowerCut {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        disk::name_of_way(self.lose)
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.who)
    }

    fn preparations(&self, target: &dyn Target, _: &Node) -> Vec<Fault> {
        disk::preparations(target, Some(self.directories))
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        at.per_node(hit.nodes(), |node| {
            let seed = self.seed.wrapping_add(1000 * node.index as u64);
            let (process, dirs) = (at.process(), at.target.data());
            vec![Fault::PowerCut(faults::power_cut::PowerCut { process, dirs, lose: self.lose, seed })]
        })
    }

    async fn verify(&self, at: &At<'_>, hit: &Hit, evidence: &[Evidence]) -> anyhow::Result<Seen> {
        let mut seen = Seen::verified(evidence)?;
        anyhow::ensure!(!at.target.data().is_empty(), "this target keeps nothing on disks");
        let words =
            hit.nodes().iter().zip(evidence).map(|(&node, one)| format!("{}: {}", at.node(node).name, one.seen));
        seen.words = words.collect::<Vec<_>>().join("; ");
        Ok(seen)
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start(hit.nodes()).await?;
        Ok(Some("started again"))
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let node = *hit.nodes().first().context("nobody is hit")?;
        // Two files made once: one synced, with its directory; the other one not.
        let script = "[ -e made ] || { echo x >data/synced; sync data/synced data; echo x >data/unsynced; touch made; }; \
                      ls data";
        let printed = lab.shell(node, script).await?;
        let found = |name: &str| printed.stdout.lines().any(|line| line == name);
        let numbers = vec![f64::from(u8::from(found("synced"))), f64::from(u8::from(found("unsynced")))];
        let names: Vec<&str> = printed.stdout.lines().collect();
        Ok(Reading { words: format!("files: {}", names.join(" ")), numbers })
    }

    fn expected(&self) -> String {
        "of a synced and an unsynced file both are there before, and only the synced one from then on".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        if readings.before.numbers != [1.0, 1.0] {
            return Err("the files were not there before".to_owned());
        }
        if readings.during.numbers[0] != 1.0 || readings.after.numbers[0] != 1.0 {
            return Err("what was synced is gone".to_owned());
        }
        // A toss may let it survive.
        match (self.lose, readings.during.numbers[1]) {
            (Lose::All, 1.0) => Err("what was not synced is still there".to_owned()),
            _ => Ok(()),
        }
    }
}

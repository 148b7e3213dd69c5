//! A file at rest is damaged under a target that is killed for it and started again; what it was is put back at the end, unless
//! it was written since. The atlas sees to it that not more copies are damaged than the target claims to survive.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::atlas::Victims;
use crate::hands::{Ask, At, Seen};
use crate::select::Who;
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use anyhow::Context;
use async_trait::async_trait;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use squall_agent::faults::damage::How;
use squall_agent::faults::{self, Fault};
use squall_harness::config::{ConfigError, Section, unknown};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "damage",
        what: "kill -9, a file at rest is damaged (bit flip, cut off, zeroed, chunk from elsewhere, deleted), start",
        mechanism: "ordinary operations on the file; a copy is kept and put back at the end",
        needs: "nothing",
        verified: "SHA-256 before and after",
        colour: "#8c564b",
    },
    lasts: Lasts { key: "for", default_ms: 3000, doc: "how long it stays damaged" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ how: bit-flip, path: probe, beyond: true, nodes: one }",
        target: None,
        program: TICKER,
        machines: false,
    },
};

/// A file that is damaged.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Damage {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// What is done to it.
    pub how: How,
    /// Which files may be hit.
    pub path: String,
    /// Which of them it is, and where in it.
    pub seed: u64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let known = How::ALL.map(|(name, _)| name);
    let all: Vec<String> = known.iter().map(|&name| name.to_owned()).collect();
    let names = section.get("how", all, &format!("one of these, or a list to take turns: {}", known.join(", ")))?;
    let mut ways = Vec::new();
    for name in names {
        match How::ALL.into_iter().find(|(known, _)| *known == name) {
            Some((_, way)) => ways.push(way),
            None => return Err(section.error(unknown("kind of damage", &name, known))),
        }
    }
    if ways.is_empty() {
        return Err(section.error("`how` is empty: name at least one kind of damage"));
    }
    let path = section.get("path", "**".to_owned(), "which files of the target's data: *.log, wal/*, **")?;
    squall_agent::disk::pattern(&path).map_err(|why| section.error(why))?;
    let victims = Victims::read(section, context)?;
    Ok(Box::new(move |turn, rng| {
        let (who, seed) = (victims.pick(rng), rng.random());
        let (select, path) = (victims.name().to_owned(), path.clone());
        Planned::Damage(Damage { select, who, how: ways[turn % ways.len()], path, seed })
    }))
}

#[async_trait]
impl PlannedFault for Damage {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        How::ALL.iter().find(|(_, way)| *way == self.how).map_or(self.select.as_str(), |(name, _)| *name)
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Processes(&self.who)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        at.per_node(hit.nodes(), |node| {
            let seed = self.seed.wrapping_add(1000 * node.index as u64);
            let (dirs, path) = (at.target.data(), self.path.clone());
            let damage = faults::damage::Damage { dirs, path, how: self.how, seed };
            vec![Fault::Kill(faults::kill::Kill { process: at.process() }), Fault::Damage(damage)]
        })
    }

    async fn inject(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        let evidence = at.inject(self.asks(at, hit)).await?;
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
        let script = "[ -e made ] || { head -c 65536 /dev/zero >data/probe; touch made; }; \
                      tr -d '\\0' <data/probe | od -An -v -tx1 -w1 | wc -l; sha256sum data/probe";
        let printed = lab.shell(node, script).await?;
        let mut lines = printed.stdout.lines();
        let wrong: f64 = lines.next().unwrap_or_default().trim().parse()?;
        let sum: String = lines.next().unwrap_or_default().chars().take(12).collect();
        Ok(Reading { words: format!("{wrong} bytes wrong, sha256 {sum}"), numbers: vec![wrong] })
    }

    fn expected(&self) -> String {
        "one byte of a file of zeros is wrong while it lasts, none before and after".to_owned()
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let wrong = |reading: &Reading| reading.numbers.first().copied();
        match (wrong(&readings.before), wrong(&readings.during), wrong(&readings.after)) {
            (Some(0.0), Some(1.0), Some(0.0)) => Ok(()),
            _ => Err("other numbers of bytes were wrong".to_owned()),
        }
    }
}

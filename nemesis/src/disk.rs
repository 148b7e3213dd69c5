//! What all faults of disks share: a disk of ours under the target's data, rules for it, and how they are read and tried.

use crate::faults::{FaultKind, Hit, Make, Planned, PlannedFault, Scope};
use crate::hands::{Ask, At, Seen};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Output, Reading, Readings};
use anyhow::Context;
use async_trait::async_trait;
use rand::RngExt;
use serde::{Deserialize, Serialize};
use squall_agent::disk::{Directories, DiskOp, Impairment, Lose, Rule, When};
use squall_agent::faults::Fault;
use squall_agent::faults::disk::Disk;
use squall_agent::faults::disk_rule::DiskRule;
use squall_agent::protocol::Evidence;
use squall_harness::config::{ConfigError, Section, unknown};
use squall_harness::nemesis::PlanContext;
use squall_harness::{Node, Target};

/// The disks that must be mounted before the target starts.
pub(crate) fn preparations(target: &dyn Target, directories: Option<Directories>) -> Vec<Fault> {
    target.data().into_iter().map(|dir| Fault::Disk(Disk { dir, directories })).collect()
}

/// Reads the key `lose`: what power cuts take, one after the other.
pub(crate) fn read_ways_to_lose(section: &mut Section) -> Result<Vec<Lose>, ConfigError> {
    let known = Lose::ALL.map(|(name, ..)| name);
    let doc = Lose::ALL.map(|(name, _, what)| format!("{name}: {what}")).join("; ");
    let names = section.get(
        "lose",
        vec!["all".to_owned(), "subset".to_owned()],
        &format!("one, or a list to take turns: {doc}"),
    )?;
    let mut ways = Vec::new();
    for name in names {
        match Lose::ALL.into_iter().find(|(known, ..)| *known == name) {
            Some((_, way, _)) => ways.push(way),
            None => return Err(section.error(unknown("way to lose", &name, known))),
        }
    }
    if ways.is_empty() {
        return Err(section.error("`lose` is empty: name at least one way"));
    }
    Ok(ways)
}

/// What a way to lose is called.
pub(crate) fn name_of_way(lose: Lose) -> &'static str {
    Lose::ALL.iter().find(|(_, way, _)| *way == lose).map_or("", |(name, ..)| *name)
}

/// A rule on the disks of some nodes.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Impaired {
    /// As in the test file; for people.
    pub select: String,
    /// Whose disks.
    pub who: Who,
    /// What happens on them.
    pub rule: Rule,
}

/// Which operations a rule is about, as a test file says it.
pub(crate) struct Aim {
    nodes: Selector,
    rule: Rule,
}

impl Aim {
    /// Reads the keys `nodes`, `ops`, `path`, `nth` and `probability`.
    pub(crate) fn read(
        section: &mut Section,
        context: &PlanContext<'_>,
        ops: &[DiskOp],
        effect: Impairment,
    ) -> Result<Self, ConfigError> {
        let names: Vec<String> = ops.iter().map(|op| name_of(*op).to_owned()).collect();
        let known = DiskOp::ALL.map(|(name, _)| name);
        let names = section.get("ops", names, &format!("which operations: {}", known.join(", ")))?;
        let mut ops = Vec::new();
        for name in names {
            match DiskOp::ALL.iter().find(|(known, _)| *known == name) {
                Some((_, op)) => ops.push(*op),
                None => return Err(section.error(unknown("operation", &name, known))),
            }
        }
        Self::read_with_ops(section, context, ops, effect)
    }

    /// The same without the key `ops`.
    pub(crate) fn read_with_ops(
        section: &mut Section,
        context: &PlanContext<'_>,
        ops: Vec<DiskOp>,
        effect: Impairment,
    ) -> Result<Self, ConfigError> {
        let nodes = Selector::read(section, context, "one")?;
        let path = section.get(
            "path",
            "**".to_owned(),
            "which files of the target's data: *.log, wal/*, **; a name without a folder is looked for in all of them",
        )?;
        let nth = section.optional::<u64>("nth", "only the nth such operation, from 1")?;
        let probability = section.optional::<f64>("probability", "each such operation by a toss, 0 to 1")?;
        let when = match (nth, probability) {
            (Some(_), Some(_)) => return Err(section.error("`nth` and `probability` exclude each other")),
            (Some(n), None) => When::Nth(n),
            (None, Some(p)) => When::Probability(p),
            (None, None) => When::Always,
        };
        let rule = Rule { ops, path, when, effect, seed: 0 };
        rule.check().map_err(|why| section.error(why))?;
        Ok(Self { nodes, rule })
    }

    /// All files of some nodes: reads the key `nodes`.
    pub(crate) fn whole(
        section: &mut Section,
        context: &PlanContext<'_>,
        ops: &[DiskOp],
        effect: Impairment,
    ) -> Result<Self, ConfigError> {
        let nodes = Selector::read(section, context, "one")?;
        let rule = Rule { ops: ops.to_vec(), path: "**".to_owned(), when: When::Always, effect, seed: 0 };
        rule.check().map_err(|why| section.error(why))?;
        Ok(Self { nodes, rule })
    }

    /// A maker of steps.
    pub(crate) fn make(self, planned: fn(Impaired) -> Planned) -> Make {
        Box::new(move |_, rng| {
            let who = self.nodes.pick(rng);
            let rule = Rule { seed: rng.random(), ..self.rule.clone() };
            planned(Impaired { select: self.nodes.name().to_owned(), who, rule })
        })
    }
}

/// An operation as test files call it.
pub(crate) fn name_of(op: DiskOp) -> &'static str {
    DiskOp::ALL.iter().find(|(_, known)| *known == op).map_or("", |(name, _)| name)
}

/// A fault that is a rule on disks.
#[async_trait]
pub(crate) trait OnDisk: Send + Sync {
    const KIND: &'static FaultKind;

    fn impaired(&self) -> &Impaired;

    /// For people: `ENOSPC`, `200 ms`.
    fn detail(&self) -> &str {
        &self.impaired().select
    }

    async fn gauge(&self, lab: &Lab<'_>, node: usize) -> anyhow::Result<Reading>;

    fn expected(&self) -> String;

    fn judge(&self, readings: &Readings) -> Result<(), String>;
}

#[async_trait]
impl<F: OnDisk> PlannedFault for F {
    fn kind(&self) -> &'static FaultKind {
        F::KIND
    }

    fn detail(&self) -> &str {
        OnDisk::detail(self)
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Nodes(&self.impaired().who)
    }

    fn preparations(&self, target: &dyn Target, _: &Node) -> Vec<Fault> {
        preparations(target, None)
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let rule = |dir| Fault::DiskRule(DiskRule { dir, rule: self.impaired().rule.clone() });
        at.per_node(hit.nodes(), |_| at.target.data().into_iter().map(rule).collect())
    }

    async fn verify(&self, _: &At<'_>, _: &Hit, evidence: &[Evidence]) -> anyhow::Result<Seen> {
        let seen = Seen::verified(evidence)?;
        anyhow::ensure!(!evidence.is_empty(), "this target keeps nothing on disks");
        Ok(seen)
    }

    async fn heal(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        let seen = Seen::verified(&at.heal(self.asks(at, hit), false).await?)?;
        at.start_ended(hit.nodes()).await?;
        anyhow::ensure!(!seen.counts.is_empty(), "it was in force, but no operation was hit");
        Ok(seen)
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let node = *hit.nodes().first().context("nobody is hit")?;
        OnDisk::gauge(self, lab, node).await
    }

    fn expected(&self) -> String {
        OnDisk::expected(self)
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        OnDisk::judge(self, readings)
    }
}

/// Writes 4 KiB to a file of the target's data and syncs it, by `dd`: what it complained about, and the milliseconds.
pub(crate) async fn write_and_sync(lab: &Lab<'_>, node: usize) -> anyhow::Result<Reading> {
    let script = "b=$(date +%s%N); timeout 1 dd if=/dev/zero of=data/probe bs=4096 count=1 conv=fsync,notrunc 2>&1 >/dev/null; \
                  echo \"code $?\"; e=$(date +%s%N); echo $(((e-b)/1000000))";
    let printed = lab.shell(node, script).await?;
    reading(&printed)
}

fn reading(printed: &Output) -> anyhow::Result<Reading> {
    let lines: Vec<&str> = printed.stdout.lines().collect();
    let [complaints @ .., code, ms] = lines.as_slice() else { anyhow::bail!("dd said nothing: {}", printed.stderr) };
    let complaint = complaints.iter().find(|line| line.contains("error") || line.contains(": ")).copied();
    let code: f64 = code.trim_start_matches("code ").parse().context("no exit code")?;
    let ms: f64 = ms.parse().context("no time")?;
    let what = match complaint.and_then(|line| line.rsplit(": ").next()) {
        Some(why) if code != 0.0 => why.to_owned(),
        _ if code == 124.0 => "no answer within 1 s".to_owned(),
        _ if code == 0.0 => "written and synced".to_owned(),
        _ => format!("exit code {code}"),
    };
    Ok(Reading { words: format!("{what}, {ms} ms"), numbers: vec![code, ms] })
}

/// Judges [`write_and_sync`]: fine before and after.
///
/// # Errors
/// What is otherwise.
pub(crate) fn fine_before_and_after(readings: &Readings) -> Result<(), String> {
    for (when, reading) in [("before", &readings.before), ("after healing", &readings.after)] {
        if reading.numbers.first() != Some(&0.0) {
            return Err(format!("{when} it was not fine: {}", reading.words));
        }
    }
    Ok(())
}

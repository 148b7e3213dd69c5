//! The `nemesis` list of a test file, resolved into a [`FaultPlan`].

use crate::faults::{FaultKind, KINDS, Planned};
use crate::plan::{FaultPlan, Step};
use crate::schedule::Schedule;
use rand_chacha::ChaCha8Rng;
use squall_harness::config::{ConfigError, Doc, DocNode, KeyDoc, Section, describe, unknown};
use squall_harness::nemesis::PlanContext;
use std::time::Duration;

/// Resolves the list; `None` and an empty list are a plan without steps.
pub(crate) fn read(list: Option<&Doc>, context: &PlanContext<'_>) -> Result<FaultPlan, ConfigError> {
    let mut steps = Vec::new();
    let items = match list {
        None => &[][..],
        Some(Doc { node: DocNode::List(items), .. }) => items,
        Some(Doc { node: DocNode::Scalar(text), .. }) if text.is_empty() => &[],
        Some(doc) => {
            return Err(ConfigError::at(
                &doc.origin,
                format!("`nemesis` must be a list of faults, not {}", doc.describe()),
            ));
        }
    };
    for (number, item) in items.iter().enumerate() {
        let (kind, keys) = entry(item)?;
        let mut section = Section::new(&format!("nemesis.{number}.{}", kind.doc.name), keys)?;
        let mut rng = context.seed.stream(&format!("{number}/{}", kind.doc.name));
        let found = entry_steps(kind, &mut section, context, &mut rng)?;
        section.finish()?;
        steps.extend(found);
    }
    steps.sort_by_key(|(at, _, _)| *at);
    let steps = steps
        .into_iter()
        .enumerate()
        .map(|(n, (at, lasts, fault))| Step {
            id: format!("{}-{}", n + 1, fault.fault().kind().doc.name),
            at_ms: at.as_millis() as u64,
            for_ms: lasts.as_millis() as u64,
            fault,
        })
        .collect();
    Ok(FaultPlan { nodes: context.nodes.to_vec(), steps })
}

/// `partition`, or `partition: { … }`.
fn entry(item: &Doc) -> Result<(&'static FaultKind, Doc), ConfigError> {
    let (name, keys) = match &item.node {
        DocNode::Scalar(name) if !name.is_empty() => {
            (name.clone(), Doc { node: DocNode::Map(Vec::new()), origin: item.origin.clone() })
        }
        DocNode::Map(entries) if entries.len() == 1 => entries[0].clone(),
        _ => {
            let what = format!("a fault must be one name, or `{{ name: {{ keys }} }}`, not {}", item.describe());
            return Err(ConfigError::at(&item.origin, what));
        }
    };
    match kind(&name) {
        Some(kind) => Ok((kind, keys)),
        None => Err(ConfigError::at(&item.origin, unknown("nemesis", &name, KINDS.iter().map(|kind| kind.doc.name)))),
    }
}

/// The fault called `name`.
pub(crate) fn kind(name: &str) -> Option<&'static FaultKind> {
    KINDS.iter().copied().find(|kind| kind.doc.name == name)
}

/// The keys of one fault, for people.
pub(crate) fn keys(fault: &str) -> Option<Vec<KeyDoc>> {
    let kind = kind(fault)?;
    let nodes: Vec<String> = (1..=5).map(|i| format!("n{i}")).collect();
    let seed = squall_harness::Seed(0);
    let context = PlanContext { nodes: &nodes, duration: Duration::from_secs(1), seed };
    describe(&format!("nemesis.N.{fault}"), |section| {
        entry_steps(kind, section, &context, &mut seed.stream("describe"))
    })
    .ok()
}

/// The first fault that `keys` of `kind` make.
pub(crate) fn one(kind: &FaultKind, keys: Doc, context: &PlanContext<'_>) -> Result<Planned, ConfigError> {
    let mut section = Section::new(kind.doc.name, keys)?;
    let mut rng = context.seed.stream(kind.doc.name);
    let steps = entry_steps(kind, &mut section, context, &mut rng)?;
    let missing = section.error("these keys make no step at all");
    section.finish()?;
    steps.into_iter().next().map(|(_, _, fault)| fault).ok_or(missing)
}

fn entry_steps(
    kind: &FaultKind,
    section: &mut Section,
    context: &PlanContext<'_>,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<(Duration, Duration, Planned)>, ConfigError> {
    let schedule = Schedule::read(section, &kind.lasts)?;
    let mut next = (kind.read)(section, context)?;
    let mut steps = Vec::new();
    for (turn, at) in schedule.beginnings(context.duration, rng).into_iter().enumerate() {
        let fault = next(turn, rng);
        steps.extend(schedule.spans(at).into_iter().map(|(begin, lasts)| (begin, lasts, fault.clone())));
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::faults::clock_bump::ClockBump;
    use crate::faults::kill::Kill;
    use crate::select::Who;
    use squall_harness::Seed;

    fn plan(yaml: &str, seed: u64) -> Result<FaultPlan, ConfigError> {
        let doc = Doc::parse("t.yaml", yaml).unwrap();
        let DocNode::Map(entries) = doc.node else { panic!() };
        let nodes: Vec<String> = (1..=5).map(|i| format!("n{i}")).collect();
        let context = PlanContext { nodes: &nodes, duration: Duration::from_secs(30), seed: Seed(seed) };
        read(entries.iter().find(|(key, _)| key == "nemesis").map(|(_, doc)| doc), &context)
    }

    const MIXED: &str = "nemesis:\n\
        - partition: { shape: [majorities-ring, one-way, isolate-primary], every: 5s, for: 3s }\n\
        - kill: { nodes: minority, every: 10s, restart_after: 2s }\n\
        - pause: { nodes: primary, every: 7s, for: 2s, schedule: exponential }\n";

    #[test]
    fn one_seed_one_plan() {
        let bytes = |seed| serde_json::to_string(&plan(MIXED, seed).unwrap()).unwrap();
        assert_eq!(bytes(7), bytes(7));
        assert_ne!(bytes(7), bytes(8));
        let back: FaultPlan = serde_json::from_str(&bytes(7)).unwrap();
        assert_eq!(back, plan(MIXED, 7).unwrap());
        back.validate().unwrap();
    }

    #[test]
    fn steps_follow_the_schedule() {
        let plan =
            plan("nemesis: [ { kill: { nodes: [n2, n4], every: 10s, after: 1s, restart_after: 2s } } ]", 1).unwrap();
        let times: Vec<_> = plan.steps.iter().map(|s| (s.at_ms, s.for_ms)).collect();
        assert_eq!(times, [(1000, 2000), (11_000, 2000), (21_000, 2000)]);
        let who = Planned::Kill(Kill { select: "n2 n4".to_owned(), who: Who::Nodes(vec![1, 3]) });
        assert_eq!(plan.steps[0].fault, who);
    }

    #[test]
    fn bumps_are_as_large_as_their_tiers() {
        let bumps = |keys: &str| -> Vec<ClockBump> {
            let plan =
                plan(&format!("nemesis: [ {{ clock-bump: {{ every: 100ms, for: 50ms, after: 0s, {keys} }} }} ]"), 3);
            let bump = |step: Step| match step.fault {
                Planned::ClockBump(bump) => bump,
                other => panic!("{other:?}"),
            };
            plan.unwrap().steps.into_iter().map(bump).collect()
        };
        let limits = [("small", 1, 100), ("medium", 100, 2000), ("large", 2000, 60_000), ("huge", 60_000, 3_600_000)];
        let all = bumps("nodes: all");
        assert_eq!(all.len(), 300);
        for (n, bump) in all.iter().enumerate() {
            let (name, low, high) = limits[n % 4];
            assert_eq!(bump.tier, name);
            assert!(bump.offsets_ms.len() == 5 && bump.offsets_ms.iter().all(|ms| (low..=high).contains(&ms.abs())));
        }
        assert!(all.iter().any(|bump| bump.offsets_ms[0] < 0) && all.iter().any(|bump| bump.offsets_ms[0] > 0));
        let back = bumps("by: [1s, 2m], direction: back");
        assert!(back.iter().step_by(2).all(|bump| bump.offsets_ms == [-1000; 5] && bump.tier == "1s"));
        assert!(back.iter().skip(1).step_by(2).all(|bump| bump.offsets_ms == [-120_000; 5]));
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("nemesis:\n  - partitoin: {}", "t.yaml:2:14: unknown nemesis `partitoin`; did you mean `partition`?"),
            ("nemesis: [ { partition: { shape: haves } } ]", "did you mean `halves`?"),
            ("nemesis: [ { kill: { nodes: n9 } } ]", "unknown node or selector `n9`"),
            ("nemesis: [ { pause: { for: 8s, every: 7s } } ]", "`for` must be shorter than `every`"),
            ("nemesis: [ { pause: { fro: 8s } } ]", "fro"),
            ("nemesis: [ { clock-bump: { by: 0s } } ]", "`by` must be from 1ms to a year"),
            ("nemesis: [ { clock-bump: { tiers: hug } } ]", "did you mean `huge`?"),
            ("nemesis: [ { clock-bump: { tiers: [] } } ]", "`tiers` is empty"),
            ("nemesis: [ { clock-bump: { direction: up } } ]", "unknown direction `up`; known: ahead, back, either"),
            ("nemesis: [ { clock-strobe: { period: 1ms } } ]", "`period` must be from 10ms to 2s"),
            ("nemesis: [ { clock-drift: { rate: -0.1 } } ]", "`rate` must be from 0.00001 to 10"),
            ("nemesis: [ { clock-drift: { rate: 2 } } ]", "use clock-freeze, `direction: ahead`, or less than 1"),
            ("nemesis: { pause: 1 }", "`nemesis` must be a list of faults"),
        ];
        for (yaml, expected) in table {
            let error = plan(yaml, 1).unwrap_err().to_string();
            assert!(error.contains(expected), "{yaml}: {error}");
        }
        assert_eq!(plan("name: x", 1).unwrap().steps, []);
    }

    #[test]
    fn every_fault_documents_its_keys() {
        for fault in KINDS.iter().map(|kind| kind.doc.name) {
            assert!(keys(fault).unwrap().iter().any(|key| key.path.ends_with(".every")), "{fault}");
        }
    }
}

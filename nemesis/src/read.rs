//! The `nemesis` list of a test file, resolved into a [`FaultPlan`].

use crate::grudge::{self, Shape, minority};
use crate::plan::{Cut, Direction, FaultPlan, Planned, Step, Who};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use squall_harness::config::{ConfigError, Doc, DocNode, KeyDoc, Section, describe, unknown};
use squall_harness::nemesis::PlanContext;
use std::time::Duration;

/// Faults and a line about each.
pub(crate) const FAULTS: [(&str, &str); 3] = [
    ("partition", "packets between nodes are dropped, silently"),
    ("kill", "kill -9 of the whole process tree, then a start"),
    ("pause", "SIGSTOP of the whole process tree, then SIGCONT"),
];

/// Shapes that depend on who leads.
const PRIMARY_SHAPES: [(&str, Direction); 3] =
    [("isolate-primary", Direction::Both), ("deafen-primary", Direction::In), ("mute-primary", Direction::Out)];

const SELECTORS: [&str; 7] = ["one", "minority", "majority", "minority-third", "all", "random", "primary"];

/// When the steps of one entry begin, and how long they last.
struct Schedule {
    every: Duration,
    after: Duration,
    lasts: Duration,
    exponential: bool,
}

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
        let (name, keys) = entry(item)?;
        let path = format!("nemesis.{number}.{name}");
        let mut section = Section::new(&path, keys)?;
        let mut rng = context.seed.stream(&format!("{number}/{name}"));
        let found = entry_steps(&name, &mut section, context, &mut rng)?;
        section.finish()?;
        steps.extend(found);
    }
    steps.sort_by_key(|(at, _, _)| *at);
    let steps = steps
        .into_iter()
        .enumerate()
        .map(|(n, (at, lasts, fault))| Step {
            id: format!("{}-{}", n + 1, fault.name()),
            at_ms: at.as_millis() as u64,
            for_ms: lasts.as_millis() as u64,
            fault,
        })
        .collect();
    Ok(FaultPlan { nodes: context.nodes.to_vec(), steps })
}

/// `partition`, or `partition: { … }`.
fn entry(item: &Doc) -> Result<(String, Doc), ConfigError> {
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
    if !FAULTS.iter().any(|(known, _)| *known == name) {
        return Err(ConfigError::at(&item.origin, unknown("nemesis", &name, FAULTS.iter().map(|(name, _)| *name))));
    }
    Ok((name, keys))
}

/// The keys of one fault, for people.
pub(crate) fn keys(fault: &str) -> Option<Vec<KeyDoc>> {
    FAULTS.iter().find(|(name, _)| *name == fault)?;
    let nodes: Vec<String> = (1..=5).map(|i| format!("n{i}")).collect();
    let seed = squall_harness::Seed(0);
    let context = PlanContext { nodes: &nodes, duration: Duration::from_secs(1), seed };
    describe(&format!("nemesis.N.{fault}"), |section| {
        entry_steps(fault, section, &context, &mut seed.stream("describe"))
    })
    .ok()
}

type Timed = (Duration, Duration, Planned);

fn entry_steps(
    name: &str,
    section: &mut Section,
    context: &PlanContext<'_>,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Timed>, ConfigError> {
    match name {
        "partition" => partitions(section, context, rng),
        "kill" => {
            let schedule = schedule(section, "restart_after", Duration::from_secs(2), "how long it stays down")?;
            let select = selector(section, context)?;
            Ok(times(&schedule, context.duration, rng)
                .into_iter()
                .map(|at| {
                    (at, schedule.lasts, Planned::Kill { select: select.name.clone(), who: select.pick(context, rng) })
                })
                .collect())
        }
        _ => {
            let schedule = schedule(section, "for", Duration::from_secs(3), "how long it stands still")?;
            let select = selector(section, context)?;
            Ok(times(&schedule, context.duration, rng)
                .into_iter()
                .map(|at| {
                    (at, schedule.lasts, Planned::Pause { select: select.name.clone(), who: select.pick(context, rng) })
                })
                .collect())
        }
    }
}

fn schedule(
    section: &mut Section,
    lasts_key: &'static str,
    lasts: Duration,
    lasts_doc: &str,
) -> Result<Schedule, ConfigError> {
    let every = section.get("every", Duration::from_secs(7), "from one beginning to the next")?;
    let after = section.get("after", Duration::from_secs(2), "calm before the first")?;
    let kind = section.get("schedule", "fixed".to_owned(), "fixed, or exponential: random pauses with mean `every`")?;
    let lasts = section.get(lasts_key, lasts, lasts_doc)?;
    let exponential = match kind.as_str() {
        "fixed" => false,
        "exponential" => true,
        other => return Err(section.error(unknown("schedule", other, ["fixed", "exponential"]))),
    };
    if every < Duration::from_millis(100) || lasts < Duration::from_millis(10) {
        return Err(section.error(format!("`every` must be at least 100ms and `{lasts_key}` at least 10ms")));
    }
    if lasts >= every {
        return Err(
            section.error(format!("`{lasts_key}` must be shorter than `every`: the same fault cannot overlap itself"))
        );
    }
    Ok(Schedule { every, after, lasts, exponential })
}

/// Beginnings; every step may last its time and end a moment before the next one begins.
fn times(schedule: &Schedule, duration: Duration, rng: &mut ChaCha8Rng) -> Vec<Duration> {
    let mut times = Vec::new();
    let mut at = schedule.after;
    while at < duration && times.len() < 100_000 {
        times.push(at);
        at += if schedule.exponential {
            let calm = schedule.every - schedule.lasts;
            // 1 - u is never 0, so the logarithm is finite.
            schedule.lasts + calm.mul_f64((-(1.0 - rng.random::<f64>()).ln()).min(10.0))
        } else {
            schedule.every
        };
    }
    times
}

fn partitions(
    section: &mut Section,
    context: &PlanContext<'_>,
    rng: &mut ChaCha8Rng,
) -> Result<Vec<Timed>, ConfigError> {
    let schedule = schedule(section, "for", Duration::from_secs(4), "how long the links are cut")?;
    let known = || Shape::ALL.iter().map(|(name, ..)| *name).chain(PRIMARY_SHAPES.iter().map(|(name, _)| *name));
    let doc = format!("one of these, or a list to take turns: {}", known().collect::<Vec<_>>().join(", "));
    let shapes =
        section.get("shape", vec!["majorities-ring".to_owned(), "halves".to_owned(), "one".to_owned()], &doc)?;
    let groups = section
        .optional::<Vec<Vec<String>>>("groups", "instead of a shape: [[n1, n2], [n3]] hear nothing of each other")?;
    let flap = section.optional::<Duration>("flap", "cut and join again in turns of this length")?;
    if let Some(shape) = shapes.iter().find(|shape| !known().any(|name| name == *shape)) {
        return Err(section.error(unknown("shape", shape, known().collect::<Vec<_>>())));
    }
    if shapes.is_empty() {
        return Err(section.error("`shape` is empty: name at least one"));
    }
    if flap.is_some_and(|flap| flap < Duration::from_millis(50)) {
        return Err(section.error("`flap` must be at least 50ms"));
    }
    let groups = groups.map(|groups| numbered(section, &groups, context.nodes)).transpose()?;
    let mut steps = Vec::new();
    for (turn, at) in times(&schedule, context.duration, rng).into_iter().enumerate() {
        let shape = &shapes[turn % shapes.len()];
        let (shape, cut) = match &groups {
            Some(groups) => ("groups".to_owned(), Cut::Pairs(grudge::isolate_groups(groups).into_iter().collect())),
            None => (shape.clone(), cut(section, shape, context.nodes.len(), rng)?),
        };
        let mut begin = at;
        let end = at + schedule.lasts;
        let on = flap.unwrap_or(schedule.lasts);
        while begin < end {
            let lasts = on.min(end - begin);
            steps.push((begin, lasts, Planned::Partition { shape: shape.clone(), cut: cut.clone() }));
            begin += on * 2;
        }
    }
    Ok(steps)
}

fn cut(section: &Section, shape: &str, count: usize, rng: &mut ChaCha8Rng) -> Result<Cut, ConfigError> {
    if count < 2 {
        return Err(section.error("a partition needs at least two nodes"));
    }
    if let Some((_, direction)) = PRIMARY_SHAPES.iter().find(|(name, _)| *name == shape) {
        return Ok(Cut::Primary { otherwise: rng.random_range(0..count), direction: *direction });
    }
    let shape_kind = Shape::ALL.iter().find(|(name, ..)| *name == shape).map_or(Shape::One, |(_, shape, _)| *shape);
    let grudge = shape_kind.grudge(count, rng);
    if grudge.is_empty() {
        return Err(section.error(format!("the shape `{shape}` cuts nothing among {count} nodes: it needs at least 3")));
    }
    Ok(Cut::Pairs(grudge.into_iter().collect()))
}

fn number_of(section: &Section, name: &str, nodes: &[String]) -> Result<usize, ConfigError> {
    let at = nodes.iter().position(|node| node == name);
    at.ok_or_else(|| section.error(unknown("node", name, nodes.iter().map(String::as_str).collect::<Vec<_>>())))
}

fn numbered(section: &Section, groups: &[Vec<String>], nodes: &[String]) -> Result<Vec<Vec<usize>>, ConfigError> {
    groups.iter().map(|group| group.iter().map(|name| number_of(section, name, nodes)).collect()).collect()
}

/// Whom a fault hits, as in the test file.
struct Selector {
    name: String,
    named: Vec<usize>,
}

fn selector(section: &mut Section, context: &PlanContext<'_>) -> Result<Selector, ConfigError> {
    let doc = format!("{}, or a list of node names", SELECTORS.join(", "));
    let words = section.get("nodes", vec!["one".to_owned()], &doc)?;
    match words.as_slice() {
        [] => Err(section.error("`nodes` is empty: name at least one")),
        [word] if SELECTORS.contains(&word.as_str()) => Ok(Selector { name: word.clone(), named: Vec::new() }),
        words => {
            let known = SELECTORS.iter().copied().chain(context.nodes.iter().map(String::as_str)).collect::<Vec<_>>();
            if let Some(word) = words.iter().find(|word| !context.nodes.contains(word)) {
                return Err(section.error(unknown("node or selector", word, known)));
            }
            let named = words.iter().map(|name| number_of(section, name, context.nodes)).collect::<Result<_, _>>()?;
            Ok(Selector { name: words.join(" "), named })
        }
    }
}

impl Selector {
    fn pick(&self, context: &PlanContext<'_>, rng: &mut ChaCha8Rng) -> Who {
        let count = context.nodes.len();
        if !self.named.is_empty() {
            return Who::Nodes(self.named.clone());
        }
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(rng);
        let take = match self.name.as_str() {
            "primary" => return Who::Primary { otherwise: order[0] },
            "one" => 1,
            "minority" => minority(count).max(1),
            "majority" => count / 2 + 1,
            "minority-third" => count.div_ceil(3).min(minority(count).max(1)),
            "all" => count,
            _ => rng.random_range(1..=count),
        };
        order.truncate(take);
        order.sort_unstable();
        Who::Nodes(order)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        let who = Planned::Kill { select: "n2 n4".to_owned(), who: Who::Nodes(vec![1, 3]) };
        assert_eq!(plan.steps[0].fault, who);
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("nemesis:\n  - partitoin: {}", "t.yaml:2:14: unknown nemesis `partitoin`; did you mean `partition`?"),
            ("nemesis: [ { partition: { shape: haves } } ]", "did you mean `halves`?"),
            ("nemesis: [ { kill: { nodes: n9 } } ]", "unknown node or selector `n9`"),
            ("nemesis: [ { pause: { for: 8s, every: 7s } } ]", "`for` must be shorter than `every`"),
            ("nemesis: [ { pause: { fro: 8s } } ]", "fro"),
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
        for (fault, _) in FAULTS {
            assert!(keys(fault).unwrap().iter().any(|key| key.path.ends_with(".every")), "{fault}");
        }
    }
}

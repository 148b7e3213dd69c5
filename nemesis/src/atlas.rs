//! How much of a cluster's data may be damaged: never more copies than the target claims to survive.
//!
//! A replicated system survives damage of as many copies as it promises, wherever they are, and no more. So all faults
//! of a plan that damage data hit the same few nodes, which the plan's seed has drawn: whatever they do, in whatever order,
//! and whether or not it could be undone, every other node's copy is whole. (TigerBeetle's simulator has an atlas of
//! sectors for the same reason.) A test may say that it means more.

use crate::grudge::minority;
use crate::select::{Selector, Who};
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::PlanContext;

/// The nodes whose data may be damaged.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Atlas {
    /// Sorted.
    nodes: Vec<usize>,
}

impl Atlas {
    /// `copies` of `count` nodes, the same ones for every fault of a plan.
    fn of(context: &PlanContext<'_>, copies: usize) -> Self {
        let mut nodes: Vec<usize> = (0..context.nodes.len()).collect();
        nodes.shuffle(&mut context.seed.stream("atlas"));
        nodes.truncate(copies);
        nodes.sort_unstable();
        Self { nodes }
    }

    /// One of them.
    fn pick(&self, rng: &mut ChaCha8Rng) -> usize {
        self.nodes[rng.random_range(0..self.nodes.len())]
    }
}

/// Draws two nodes.
pub(crate) type Pairs = Box<dyn Fn(&mut ChaCha8Rng) -> (usize, usize)>;

/// Whose data a fault damages, as a test file says it.
pub(crate) enum Victims {
    /// One of these, each time.
    Within(Atlas),
    /// Whoever was named: it was said that this may be more than the target claims to survive.
    Beyond(Selector),
}

impl Victims {
    /// Reads the keys `copies`, or `beyond` and `nodes`.
    pub(crate) fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Self, ConfigError> {
        let count = context.nodes.len();
        let claimed = context.target.map_or(minority(count), |target| target.claims().lost_data.nodes(count));
        let copies = section.get(
            "copies",
            claimed,
            "how many nodes' data may be damaged in the whole run, the same ones by all such faults: what the target claims \
             to survive, a minority unless told otherwise",
        )?;
        let beyond = section.get(
            "beyond",
            false,
            "true: hit the `nodes` that are named, even if the target does not claim to survive that",
        )?;
        if beyond || section.is_describing() {
            let nodes = Selector::read(section, context, "one")?;
            if beyond {
                return Ok(Self::Beyond(nodes));
            }
        }
        if claimed == 0 && !section.is_describing() {
            return Err(section.error(
                "the target does not claim to survive damage to any of its copies; to do it all the same, say \
                 `beyond: true` and which `nodes`",
            ));
        }
        if copies == 0 || copies > claimed {
            return Err(section.error(format!(
                "of {count} copies a target claims to survive damage to at most {claimed}, not {copies}; to do more, say \
                 `beyond: true` and which `nodes`"
            )));
        }
        Ok(Self::Within(Atlas::of(context, copies)))
    }

    /// For people.
    pub(crate) fn name(&self) -> &str {
        match self {
            Self::Within(_) => "atlas",
            Self::Beyond(nodes) => nodes.name(),
        }
    }

    /// Two nodes for each step, or why there are none.
    pub(crate) fn pairs(self) -> Result<Pairs, &'static str> {
        let nodes = match self {
            Self::Within(atlas) => atlas.nodes,
            Self::Beyond(selector) => selector.named().to_vec(),
        };
        if nodes.len() < 2 {
            return Err(
                "this takes two nodes: at least 5 nodes in the cluster, or `beyond: true` and two of them by name",
            );
        }
        Ok(Box::new(move |rng| {
            let first = rng.random_range(0..nodes.len());
            let second = (first + rng.random_range(1..nodes.len())) % nodes.len();
            (nodes[first].min(nodes[second]), nodes[first].max(nodes[second]))
        }))
    }

    /// Whom the next step hits.
    pub(crate) fn pick(&self, rng: &mut ChaCha8Rng) -> Who {
        match self {
            Self::Within(atlas) => Who::Nodes(vec![atlas.pick(rng)]),
            Self::Beyond(nodes) => nodes.pick(rng),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::FaultPlan;
    use squall_harness::Seed;
    use squall_harness::config::{Doc, DocNode};
    use std::collections::BTreeSet;
    use std::time::Duration;

    fn plan(yaml: &str, count: usize, seed: u64) -> Result<FaultPlan, ConfigError> {
        let DocNode::Map(entries) = Doc::parse("t.yaml", &format!("nemesis: {yaml}")).unwrap().node else { panic!() };
        let nodes: Vec<String> = (1..=count).map(|i| format!("n{i}")).collect();
        let context = PlanContext {
            nodes: &nodes,
            labels: squall_harness::labels::Labels::NONE,
            duration: Duration::from_secs(600),
            seed: Seed(seed),
            target: None,
            has_machines: true,
        };
        crate::read::read(Some(&entries[0].1), &context)
    }

    fn damaged(plan: &FaultPlan) -> BTreeSet<usize> {
        plan.steps.iter().flat_map(|step| step.fault.fault().scope().nodes()).collect()
    }

    #[test]
    fn a_plan_never_damages_more_copies_than_are_survived() {
        let two = "[ { damage: {} }, { damage: { how: delete, every: 3s, for: 1s } }, { rollback: {} }, { machine-rollback: {} }, \
                   { device-forget: {} } ]";
        for count in 3..=7 {
            let mut all = BTreeSet::new();
            for seed in 0..20 {
                let hit = damaged(&plan(two, count, seed).unwrap());
                assert!(!hit.is_empty() && hit.len() <= minority(count), "{count} nodes, seed {seed}: {hit:?}");
                all.extend(hit);
            }
            assert_eq!(all.len(), count, "every node has its turn, with another seed");
        }
        assert_eq!(damaged(&plan("[ { damage: { copies: 1 } } ]", 5, 1).unwrap()).len(), 1);
    }

    #[test]
    fn more_must_be_asked_for() {
        let error = |yaml: &str, count| plan(yaml, count, 1).unwrap_err().to_string();
        let refused = error("[ { damage: { copies: 3 } } ]", 5);
        assert!(refused.contains("claims to survive damage to at most 2, not 3"), "{refused}");
        assert!(error("[ { damage: {} } ]", 1).contains("say `beyond: true`"));
        for fault in ["damage", "rollback", "machine-rollback", "device-forget"] {
            assert!(error(&format!("[ {{ {fault}: {{ nodes: all }} }} ]"), 5).contains("nodes"), "{fault}");
        }
        assert_eq!(damaged(&plan("[ { damage: { beyond: true, nodes: all } } ]", 5, 1).unwrap()).len(), 5);
    }
}

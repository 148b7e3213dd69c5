//! Which nodes a fault hits: as written in test files, as planned, as resolved when it begins.

use crate::grudge::minority;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use squall_harness::config::{ConfigError, Section, unknown};
use squall_harness::nemesis::PlanContext;
use std::cell::RefCell;
use std::collections::BTreeSet;

/// Nodes, as far as they can be told before the run.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Who {
    /// These node numbers.
    Nodes(Vec<usize>),
    /// Whoever leads when the step begins. When nobody is known to lead: this node.
    Primary {
        /// Stands in for the primary.
        otherwise: usize,
    },
    /// Everybody who leads, or believes to, when the step begins. When nobody is known to lead: this node.
    Primaries {
        /// Stands in for them.
        otherwise: usize,
    },
    /// The first of these who do not lead when the step begins.
    Followers {
        /// All nodes, in the order in which they are asked.
        order: Vec<usize>,
        /// How many.
        take: usize,
    },
}

impl Who {
    /// Whether it depends on who leads.
    pub(crate) fn needs_primary(&self) -> bool {
        !matches!(self, Self::Nodes(_))
    }

    /// The nodes, once it is known who leads, and who is down already: of followers, others are taken instead.
    pub(crate) fn resolve(&self, primaries: &[usize], down: &[usize]) -> Vec<usize> {
        match self {
            Self::Nodes(nodes) => nodes.clone(),
            Self::Primary { otherwise } => vec![primaries.first().copied().unwrap_or(*otherwise)],
            Self::Primaries { otherwise } if primaries.is_empty() => vec![*otherwise],
            Self::Primaries { .. } => primaries.to_vec(),
            Self::Followers { order, take } => {
                let follows = |node: &&usize| !primaries.contains(node);
                let mut nodes: Vec<usize> = order.iter().filter(follows).copied().collect();
                nodes.sort_by_key(|node| down.contains(node));
                nodes.truncate(*take);
                nodes.sort_unstable();
                nodes
            }
        }
    }

    /// Every node that it names.
    pub(crate) fn nodes(&self) -> Vec<usize> {
        match self {
            Self::Followers { order, .. } => order.clone(),
            _ => self.resolve(&[], &[]),
        }
    }
}

/// Words for nodes, and what they mean.
const SELECTORS: [(&str, &str); 12] = [
    ("one", "at random"),
    ("minority", "as many as may fail"),
    ("majority", "half and one"),
    ("minority-third", "a third"),
    ("all", ""),
    ("random", "any number, at random"),
    ("primary", "whoever leads then"),
    ("primaries", "everybody who leads then"),
    ("follower", "one that does not lead"),
    ("followers", "all that do not lead"),
    ("rotating", "one after the other, in random order"),
    ("rotating-minority", "a minority after the other"),
];

/// Nodes as a test file names them.
pub(crate) struct Selector {
    name: String,
    named: Vec<usize>,
    count: usize,
    /// Who has not had a turn yet.
    waiting: RefCell<Vec<usize>>,
}

impl Selector {
    /// Reads the key `nodes`.
    pub(crate) fn read(section: &mut Section, context: &PlanContext<'_>, default: &str) -> Result<Self, ConfigError> {
        let known: Vec<&str> = SELECTORS.iter().map(|(name, _)| *name).collect();
        let meaning =
            |&(name, what): &(&str, &str)| if what.is_empty() { name.to_owned() } else { format!("{name} ({what})") };
        let doc = format!(
            "{}; or a list of node names and labels (dc=east: all nodes there)",
            SELECTORS.iter().map(meaning).collect::<Vec<_>>().join(", ")
        );
        let words = section.get("nodes", vec![default.to_owned()], &doc)?;
        let (count, waiting) = (context.nodes.len(), RefCell::default());
        match words.as_slice() {
            [] => Err(section.error("`nodes` is empty: name at least one")),
            [word] if known.contains(&word.as_str()) => {
                if word.starts_with("follower") && count < 2 {
                    return Err(section.error("a single node has no followers"));
                }
                Ok(Self { name: word.clone(), named: Vec::new(), count, waiting })
            }
            words => {
                if let Some(word) = words.iter().find(|word| !context.nodes.contains(word) && !word.contains('=')) {
                    let known = known.into_iter().chain(context.nodes.iter().map(String::as_str));
                    return Err(section.error(unknown("node or selector", word, known.collect::<Vec<_>>())));
                }
                let named = numbers_of(section, words, context)?;
                Ok(Self { name: words.join(" "), named, count, waiting })
            }
        }
    }

    /// As in the test file: `minority`, `n2 n4`.
    pub(crate) fn name(&self) -> &str {
        &self.name
    }

    /// Nodes that were named one by one.
    pub(crate) fn named(&self) -> &[usize] {
        &self.named
    }

    /// The nodes of one step.
    pub(crate) fn pick(&self, rng: &mut ChaCha8Rng) -> Who {
        let count = self.count;
        if !self.named.is_empty() {
            return Who::Nodes(self.named.clone());
        }
        let minority = minority(count).max(1);
        let take = match self.name.as_str() {
            "rotating" => return Who::Nodes(self.next(1, rng)),
            "rotating-minority" => return Who::Nodes(self.next(minority, rng)),
            "minority" => minority,
            "majority" => count / 2 + 1,
            "minority-third" => count.div_ceil(3).min(minority),
            "all" => count,
            "random" => 0,
            _ => 1,
        };
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(rng);
        match self.name.as_str() {
            "primary" => return Who::Primary { otherwise: order[0] },
            "primaries" => return Who::Primaries { otherwise: order[0] },
            "follower" => return Who::Followers { order, take: 1 },
            "followers" => return Who::Followers { order, take: count - 1 },
            _ => {}
        }
        order.truncate(if take == 0 { rng.random_range(1..=count) } else { take });
        order.sort_unstable();
        Who::Nodes(order)
    }

    /// The next `take` of a random order, in which everybody has a turn before anybody has another.
    fn next(&self, take: usize, rng: &mut ChaCha8Rng) -> Vec<usize> {
        let mut waiting = self.waiting.borrow_mut();
        if waiting.len() < take {
            let mut fresh: Vec<usize> = (0..self.count).filter(|node| !waiting.contains(node)).collect();
            fresh.shuffle(rng);
            waiting.extend(fresh);
        }
        let mut nodes: Vec<usize> = waiting.drain(..take).collect();
        nodes.sort_unstable();
        nodes
    }
}

/// The numbers of nodes that are named one by one (`n1`) or by where they are (`dc=east`), each once.
pub(crate) fn numbers_of(
    section: &Section,
    words: &[String],
    context: &PlanContext<'_>,
) -> Result<Vec<usize>, ConfigError> {
    let mut numbers = Vec::new();
    for word in words {
        let found = match word.split_once('=').filter(|_| !context.nodes.contains(word)) {
            Some((label, value)) => context.labels.nodes(label, value).map_err(|what| section.error(what))?,
            None => vec![number_of(section, word, context.nodes)?],
        };
        numbers.extend(found);
    }
    let mut seen = BTreeSet::new();
    numbers.retain(|node| seen.insert(*node));
    Ok(numbers)
}

/// The number of the node called `name`.
pub(crate) fn number_of(section: &Section, name: &str, nodes: &[String]) -> Result<usize, ConfigError> {
    let at = nodes.iter().position(|node| node == name);
    at.ok_or_else(|| section.error(unknown("node", name, nodes.iter().map(String::as_str).collect::<Vec<_>>())))
}

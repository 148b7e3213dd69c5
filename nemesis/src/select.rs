//! Which nodes a fault hits: as written in test files, as planned, as resolved when it begins.

use crate::grudge::minority;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use squall_harness::config::{ConfigError, Section, unknown};
use squall_harness::nemesis::PlanContext;

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
}

impl Who {
    /// The nodes, once it is known who leads.
    pub(crate) fn resolve(&self, primary: Option<usize>) -> Vec<usize> {
        match self {
            Self::Nodes(nodes) => nodes.clone(),
            Self::Primary { otherwise } => vec![primary.unwrap_or(*otherwise)],
        }
    }

    /// Every node that it names.
    pub(crate) fn nodes(&self) -> Vec<usize> {
        self.resolve(None)
    }
}

const SELECTORS: [&str; 7] = ["one", "minority", "majority", "minority-third", "all", "random", "primary"];

/// Nodes as a test file names them.
pub(crate) struct Selector {
    name: String,
    named: Vec<usize>,
    count: usize,
}

impl Selector {
    /// Reads the key `nodes`.
    pub(crate) fn read(section: &mut Section, context: &PlanContext<'_>, default: &str) -> Result<Self, ConfigError> {
        let doc = format!("{}, or a list of node names", SELECTORS.join(", "));
        let words = section.get("nodes", vec![default.to_owned()], &doc)?;
        let count = context.nodes.len();
        match words.as_slice() {
            [] => Err(section.error("`nodes` is empty: name at least one")),
            [word] if SELECTORS.contains(&word.as_str()) => Ok(Self { name: word.clone(), named: Vec::new(), count }),
            words => {
                if let Some(word) = words.iter().find(|word| !context.nodes.contains(word)) {
                    let known = SELECTORS.iter().copied().chain(context.nodes.iter().map(String::as_str));
                    return Err(section.error(unknown("node or selector", word, known.collect::<Vec<_>>())));
                }
                let named =
                    words.iter().map(|name| number_of(section, name, context.nodes)).collect::<Result<_, _>>()?;
                Ok(Self { name: words.join(" "), named, count })
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

/// The number of the node called `name`.
pub(crate) fn number_of(section: &Section, name: &str, nodes: &[String]) -> Result<usize, ConfigError> {
    let at = nodes.iter().position(|node| node == name);
    at.ok_or_else(|| section.error(unknown("node", name, nodes.iter().map(String::as_str).collect::<Vec<_>>())))
}

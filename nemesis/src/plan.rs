//! A fault plan: what happens when to whom, resolved before the run from test file and seed, as plain data.

use serde::{Deserialize, Serialize};

/// The whole plan; the same test and seed give the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// Names of all nodes, in order.
    pub nodes: Vec<String>,
    /// In the order of their times.
    pub steps: Vec<Step>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique in the run: `3-partition`.
    pub id: String,
    /// When it begins (milliseconds since the start of the main phase).
    pub at_ms: u64,
    /// How long it lasts (milliseconds).
    pub for_ms: u64,
    /// What.
    pub fault: Planned,
}

/// What happens in a step.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case", deny_unknown_fields)]
pub enum Planned {
    /// Links are cut.
    Partition {
        /// `majorities-ring`; for people.
        shape: String,
        /// Which.
        cut: Cut,
    },
    /// kill -9, and a start when the step ends.
    Kill {
        /// As in the test file: `minority`; for people.
        select: String,
        /// Whom.
        who: Who,
    },
    /// SIGSTOP, and SIGCONT when the step ends.
    Pause {
        /// As in the test file.
        select: String,
        /// Whom.
        who: Who,
    },
}

/// Which links are cut.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Cut {
    /// These ordered pairs (from, to) of node numbers.
    Pairs(Vec<(usize, usize)>),
    /// Whoever leads when the step begins, from everybody else. When nobody is known to lead: this node.
    Primary {
        /// Stands in for the primary.
        otherwise: usize,
        /// `both`, `in` (it hears nobody) or `out` (nobody hears it).
        direction: Direction,
    },
}

/// Directions in which a primary is cut off.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// Neither hears nor is heard.
    Both,
    /// Hears nobody.
    In,
    /// Nobody hears it.
    Out,
}

/// Whom a step hits.
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

impl Planned {
    /// The fault's name in test files and in the history.
    pub fn name(&self) -> &'static str {
        match self {
            Self::Partition { .. } => "partition",
            Self::Kill { .. } => "kill",
            Self::Pause { .. } => "pause",
        }
    }

    /// Its kind: `majorities-ring`, `minority`.
    pub fn detail(&self) -> &str {
        match self {
            Self::Partition { shape, .. } => shape,
            Self::Kill { select, .. } | Self::Pause { select, .. } => select,
        }
    }
}

impl FaultPlan {
    /// Checks a plan that came from a file.
    ///
    /// # Errors
    /// Names the step that does not fit.
    pub fn validate(&self) -> Result<(), String> {
        let count = self.nodes.len();
        let mut ids = std::collections::BTreeSet::new();
        for step in &self.steps {
            let nodes: Vec<usize> = match &step.fault {
                Planned::Partition { cut: Cut::Pairs(pairs), .. } => pairs.iter().flat_map(|&(a, b)| [a, b]).collect(),
                Planned::Partition { cut: Cut::Primary { otherwise, .. }, .. } => vec![*otherwise],
                Planned::Kill { who, .. } | Planned::Pause { who, .. } => match who {
                    Who::Nodes(nodes) => nodes.clone(),
                    Who::Primary { otherwise } => vec![*otherwise],
                },
            };
            if let Some(node) = nodes.into_iter().find(|node| *node >= count) {
                return Err(format!("step `{}` names node number {node}, but there are {count} nodes", step.id));
            }
            if !ids.insert(&step.id) {
                return Err(format!("two steps are called `{}`", step.id));
            }
        }
        Ok(())
    }
}

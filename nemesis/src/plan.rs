//! A fault plan: what happens when to whom, resolved before the run from test file and seed, as plain data.

use crate::faults::Planned;
use serde::{Deserialize, Serialize};

/// The whole plan; the same test and seed give the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// Names of all nodes, in order.
    pub nodes: Vec<String>,
    /// In the order of their times.
    pub steps: Vec<Step>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
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

impl FaultPlan {
    /// Checks a plan that came from a file.
    ///
    /// # Errors
    /// Names the step that does not fit.
    pub fn validate(&self) -> Result<(), String> {
        let count = self.nodes.len();
        let mut ids = std::collections::BTreeSet::new();
        for step in &self.steps {
            let named = step.fault.fault().scope().nodes();
            if let Some(node) = named.into_iter().find(|node| *node >= count) {
                return Err(format!("step `{}` names node number {node}, but there are {count} nodes", step.id));
            }
            step.fault.fault().validate().map_err(|why| format!("step `{}`: {why}", step.id))?;
            if !ids.insert(&step.id) {
                return Err(format!("two steps are called `{}`", step.id));
            }
        }
        Ok(())
    }
}

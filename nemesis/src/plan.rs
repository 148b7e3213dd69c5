//! A fault plan: what happens when to whom, resolved before the run from test file and seed, as plain data.

use crate::event::Trigger;
use crate::faults::Planned;
use serde::{Deserialize, Serialize};

/// The whole plan; the same test and seed give the same bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FaultPlan {
    /// Names of all nodes, in order.
    pub nodes: Vec<String>,
    /// Periods (from, to) in which events do not count (milliseconds since the start of the main phase).
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub stable: Vec<(u64, u64)>,
    /// In the order of their times.
    pub steps: Vec<Step>,
}

/// One fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Step {
    /// Unique in the run: `3-partition`.
    pub id: String,
    /// Name of the package that it is part of.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub package: Option<String>,
    /// What it waits for; without it, its time says when it begins.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on: Option<Trigger>,
    /// When it begins (milliseconds since the start of the main phase, or since its event).
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
            let mut named = step.fault.fault().scope().nodes();
            if let Some(Trigger { event, .. }) = &step.on {
                event.validate().map_err(|why| format!("step `{}`: {why}", step.id))?;
                named.extend(event.nodes());
            }
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

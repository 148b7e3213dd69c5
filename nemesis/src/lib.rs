//! Fault plans: pure, seeded data ([`FaultPlan`]) made from the `nemesis` list of a test file, and the thin hands that
//! carry them out through the agents.
//!
//! The plan is resolved before the run and saved with it, so that a run can be repeated with the same faults at the same
//! times. What depends on the live cluster (who leads) stays symbolic in the plan, is resolved when the step begins, and
//! is recorded in the history.

mod atlas;
pub mod claims;
mod clocks;
mod control_path;
mod coverage;
mod crashes;
mod devices;
pub mod disk;
mod echo;
pub mod event;
pub mod faults;
pub mod grudge;
mod hands;
mod in_force;
pub mod links;
mod machine;
mod machine_clocks;
mod package;
pub mod plan;
mod read;
mod run;
mod schedule;
pub mod select;
mod stable;
mod step;
mod tally;
#[cfg(test)]
mod tests;
mod trial;

pub use plan::FaultPlan;

use anyhow::Context;
use async_trait::async_trait;
use squall_checkers::History;
use squall_harness::config::{ConfigError, Doc, KeyDoc};
use squall_harness::nemesis::{Cell, FaultDoc, NemesisKind, PlanContext, Trial, TrialNeeds};
use squall_harness::{Cluster, Nemesis, Target};
use std::sync::Arc;

/// The nemesis of the `nemesis` list.
pub struct SquallNemesis;

#[async_trait]
impl NemesisKind for SquallNemesis {
    fn read(&self, doc: Option<&Doc>, context: &PlanContext<'_>) -> Result<Box<dyn Nemesis>, ConfigError> {
        Ok(Box::new(run::PlannedNemesis::new(read::read(doc, context)?)))
    }

    fn repeat(&self, plan: &serde_json::Value) -> anyhow::Result<Box<dyn Nemesis>> {
        let plan: FaultPlan = serde_json::from_value(plan.clone())?;
        plan.validate().map_err(anyhow::Error::msg)?;
        Ok(Box::new(run::PlannedNemesis::new(plan)))
    }

    fn faults(&self) -> Vec<FaultDoc> {
        faults::KINDS.iter().map(|kind| kind.doc).collect()
    }

    fn entries(&self) -> Vec<(&'static str, &'static str)> {
        vec![package::PACKAGE, stable::STABLE]
    }

    fn keys(&self, fault: &str) -> Option<Vec<KeyDoc>> {
        read::keys(fault)
    }

    fn coverage(&self, history: &History) -> Vec<Cell> {
        coverage::cells(history)
    }

    fn axes(&self) -> (Vec<&'static str>, Vec<&'static str>) {
        (coverage::ROLES.to_vec(), coverage::PHASES.to_vec())
    }

    fn trial_needs(&self, fault: &str) -> Option<TrialNeeds> {
        let trial = &read::kind(fault)?.trial;
        Some(TrialNeeds { nodes: trial.nodes, target: trial.target, machines: trial.machines })
    }

    async fn try_fault(
        &self,
        fault: &str,
        keys: Option<Doc>,
        cluster: Arc<Cluster>,
        target: Option<Arc<dyn Target>>,
    ) -> anyhow::Result<Trial> {
        let kind = read::kind(fault).with_context(|| format!("there is no fault `{fault}`"))?;
        trial::run(kind, keys, &cluster, target).await
    }

    fn in_force_between(&self, history: &History, from_ns: u64, to_ns: u64) -> Vec<String> {
        in_force::in_force_between(history, from_ns, to_ns)
    }
}

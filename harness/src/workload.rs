//! What is done to the system, and how its history is judged.

use crate::generator::Generator;
use crate::seed::Seed;
use squall_checkers::linear::online::Online;
use squall_checkers::{CheckResult, FailMeans, History, ModelKind};
use std::time::Duration;

/// What a workload may know about the run when it makes its generators.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    /// Client threads (worker i talks to node i mod nodes).
    pub threads: usize,
    /// Nodes of the cluster.
    pub nodes: usize,
    /// Root of the streams for generators.
    pub seed: Seed,
}

/// Operations, final reads and checkers. Its vocabulary (`f`, key, value) is what a [`Target`](crate::Target)'s clients
/// understand.
pub trait Workload: Send + Sync {
    /// Its name in test files: `register`.
    fn name(&self) -> &'static str;

    /// How many client threads drive a cluster of `nodes`.
    fn concurrency(&self, nodes: usize) -> usize {
        2 * nodes
    }

    /// The operations of the main phase. The harness ends it when the test's duration is over.
    fn generator(&self, shape: &Shape) -> Box<dyn Generator>;

    /// What to read back after healing; the run says `unknown` when it does not end within the final deadline.
    fn final_generator(&self, shape: &Shape) -> Option<Box<dyn Generator>>;

    /// How the history is judged.
    fn checkers(&self) -> Vec<Box<dyn Checker>>;

    /// A check to feed while the run goes, where the promise is linearizability; otherwise nothing is known before the
    /// end.
    fn online(&self) -> Option<Online> {
        None
    }
}

/// Budgets of a check.
#[derive(Clone, Copy, Debug)]
pub struct CheckBudget {
    /// Give up (`unknown`) after this.
    pub time_max: Duration,
    /// Give up (`unknown`) past this many bytes.
    pub memory_max: u64,
}

/// Judges a history.
pub trait Checker: Send + Sync {
    /// Its name in results: `linearizable`.
    fn name(&self) -> &'static str;

    /// The verdict. A panic inside is caught by the harness and counts as `unknown`.
    fn check(&self, history: &History, budget: &CheckBudget) -> CheckResult;

    /// The model that operations are held against, where there is one: violations are shown in its terms.
    fn judged_as(&self) -> Option<(ModelKind, FailMeans)> {
        None
    }
}

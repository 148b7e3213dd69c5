//! What the run loop needs of a nemesis; the nemesis itself is its own crate.

use crate::cluster::Cluster;
use crate::journal::Journal;
use crate::target::Target;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use tokio::sync::watch;

/// What a nemesis may touch while a run goes.
#[derive(Clone)]
pub struct NemesisContext {
    /// The nodes.
    pub cluster: Arc<Cluster>,
    /// To restart what was killed and to ask who leads.
    pub target: Arc<dyn Target>,
    /// Where every fault is recorded, and the run's clock.
    pub journal: Journal,
    /// Becomes true when the main phase is over: stop injecting, return soon.
    pub stop: watch::Receiver<bool>,
}

/// One line of the summary: a kind of fault, how often it was planned and bit, and what was measured.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct FaultRow {
    /// `partition`.
    pub fault: String,
    /// `majorities-ring`, `minority`.
    pub detail: String,
    /// How often it was injected.
    pub injected: u64,
    /// How often its effect was verified.
    pub bit: u64,
    /// How often it was not tried, because there was nothing to try it on: nodes that another fault had stopped.
    #[serde(default)]
    pub skipped: u64,
    /// Why it was skipped the first time.
    #[serde(default)]
    pub skipped_why: String,
    /// Why its outcome is unknown, where it is.
    pub troubles: Vec<String>,
    /// What was measured, added up: `4211 packets dropped`.
    pub seen: String,
}

/// A resolved fault plan and the hands to carry it out.
#[async_trait]
pub trait Nemesis: Send + Sync {
    /// The plan as data: saved with the run, enough to repeat it, byte-identical for the same seed and test.
    fn plan(&self) -> serde_json::Value;

    /// Puts in place what the plan's faults need before the target starts (a file system over its data, a launcher), on every
    /// node: called once, between the target's installation and its start. It stands until the session ends. A plan
    /// without such faults does nothing here.
    ///
    /// # Errors
    /// What a node lacks.
    async fn prepare(&self, cluster: &Cluster, target: &dyn Target) -> anyhow::Result<()> {
        let _ = (cluster, target);
        Ok(())
    }

    /// Carries the plan out; returns when it is done or `stop` became true (leaving faults in force to
    /// [`heal`](Nemesis::heal)). Never fails: what did not work is recorded in the journal and the report.
    async fn run(&self, context: NemesisContext);

    /// Undoes everything, restarts what was killed and verifies. Called once after the main phase, and on Ctrl-C.
    ///
    /// # Errors
    /// What could not be healed: then final reads mean nothing.
    async fn heal(&self, context: &NemesisContext) -> anyhow::Result<()>;

    /// What was done so far, a row per kind of fault.
    fn report(&self) -> Vec<FaultRow>;

    /// What is in force now, in a few words for the progress line.
    fn in_force(&self) -> Option<String>;
}

/// What people read about a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultDoc {
    /// The word in test files and histories.
    pub name: &'static str,
    /// What it does, in a line.
    pub what: &'static str,
    /// By what means.
    pub mechanism: &'static str,
    /// What a node must have for it.
    pub needs: &'static str,
    /// How it is known that it bit.
    pub verified: &'static str,
    /// For its bars in plots: `#rrggbb`.
    pub colour: &'static str,
}

/// What a plan may depend on besides the test file.
#[derive(Clone, Copy)]
pub struct PlanContext<'a> {
    /// Node names in order.
    pub nodes: &'a [String],
    /// Who is in which data centre, rack, ….
    pub labels: &'a crate::labels::Labels,
    /// Length of the main phase.
    pub duration: std::time::Duration,
    /// Root of the nemesis' streams.
    pub seed: crate::seed::Seed,
    /// The system under test, which says what it can do and survive; `None` where only keys are of interest.
    pub target: Option<&'a dyn Target>,
    /// Whether every node is a machine of its own, as far as the provider can tell.
    pub has_machines: bool,
}

/// How often a kind of fault hit nodes of some role while the cluster was in some state.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Cell {
    /// `kill`.
    pub fault: String,
    /// `leader`, `follower`; `any` where nobody was known to lead.
    pub role: String,
    /// `calm`; `overlap` with another fault; `recovery` from one; `leaderless`.
    pub phase: String,
    /// How often.
    pub times: u64,
}

/// What `squall nemesis try` must bring up for a fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct TrialNeeds {
    /// How many nodes.
    pub nodes: usize,
    /// A target by its name in test files; without one, a process that only ticks.
    pub target: Option<&'static str>,
    /// Nodes with kernels of their own, which a local cluster has not.
    pub machines: bool,
}

/// What came of trying a fault: the same measured before it, while it was in force, and after it was healed.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Trial {
    /// `partition`.
    pub fault: String,
    /// How it was asked for, as in a test file.
    pub keys: String,
    /// Who was hit: `n1->n2`.
    pub targets: String,
    /// Measured from outside before.
    pub before: String,
    /// While it was in force.
    pub during: String,
    /// After it was healed.
    pub after: String,
    /// What had to be seen, with its tolerance.
    pub expected: String,
    /// What the agents said of it.
    pub agents: String,
    /// Why it failed: the effect was not there, not within the tolerance, or not gone.
    pub problem: Option<String>,
}

/// Makes nemeses: from the `nemesis` list of a test file, or from a saved plan.
#[async_trait]
pub trait NemesisKind: Send + Sync {
    /// Resolves the `nemesis` value of a test file (`None` when absent) into a plan.
    ///
    /// # Errors
    /// With the place in the file.
    fn read(
        &self,
        doc: Option<&crate::config::Doc>,
        context: &PlanContext<'_>,
    ) -> Result<Box<dyn Nemesis>, crate::config::ConfigError>;

    /// The nemesis of a saved plan.
    ///
    /// # Errors
    /// When the plan is not one of ours.
    fn repeat(&self, plan: &serde_json::Value) -> anyhow::Result<Box<dyn Nemesis>>;

    /// What there is to know about every fault, for people.
    fn faults(&self) -> Vec<FaultDoc>;

    /// What else the `nemesis` list may hold, with a line about each.
    fn entries(&self) -> Vec<(&'static str, &'static str)>;

    /// The keys of one fault or entry, for `squall describe`.
    fn keys(&self, fault: &str) -> Option<Vec<crate::config::KeyDoc>>;

    /// What a history exercised.
    fn coverage(&self, history: &squall_checkers::History) -> Vec<Cell>;

    /// All roles and phases that a [`Cell`] can have.
    fn axes(&self) -> (Vec<&'static str>, Vec<&'static str>);

    /// What a trial of one fault needs.
    fn trial_needs(&self, fault: &str) -> Option<TrialNeeds>;

    /// Injects one fault on `cluster` (fresh, [`TrialNeeds`]), with keys as in a test file, and measures from outside what it
    /// changes.
    ///
    /// # Errors
    /// [`ConfigError`](crate::config::ConfigError) for bad keys; else the cluster could not be used. A fault that does not
    /// do what it should is no error: see [`Trial::problem`].
    async fn try_fault(
        &self,
        fault: &str,
        keys: Option<crate::config::Doc>,
        cluster: Arc<Cluster>,
        target: Option<Arc<dyn Target>>,
    ) -> anyhow::Result<Trial>;

    /// What was in force at some moment between two times, according to the nemesis events of a history, in a few words
    /// each.
    fn in_force_between(&self, history: &squall_checkers::History, from_ns: u64, to_ns: u64) -> Vec<String>;
}

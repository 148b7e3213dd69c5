//! Carries a [`FaultPlan`] out while the run goes.

use crate::faults::{Hit, Scope};
use crate::hands::{self, At};
use crate::plan::{FaultPlan, Step};
use crate::tally::Tally;
use anyhow::{Context, bail};
use async_trait::async_trait;
use squall_agent::protocol::ProcessState;
use squall_checkers::{Sym, Value};
use squall_harness::nemesis::{FaultRow, NemesisContext};
use squall_harness::{Cluster, Nemesis, Target};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// A fault outlives its planned end by at most this when nobody is left to heal it.
const LEASE_SPARE: Duration = Duration::from_secs(15);

/// Healing is tried for this long.
const HEAL_TIME_MAX: Duration = Duration::from_secs(30);

/// A plan and the state of its execution.
pub(crate) struct PlannedNemesis {
    plan: FaultPlan,
    state: Arc<Mutex<State>>,
}

#[derive(Default)]
struct State {
    tally: Tally,
    /// What is in force, by step: in words.
    in_force: BTreeMap<String, String>,
    /// Nodes whose process is dead or stands still, and by which step.
    down: BTreeMap<usize, String>,
}

impl PlannedNemesis {
    pub(crate) fn new(plan: FaultPlan) -> Self {
        Self { plan, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

#[async_trait]
impl Nemesis for PlannedNemesis {
    fn plan(&self) -> serde_json::Value {
        serde_json::to_value(&self.plan).expect("plain data")
    }

    async fn prepare(&self, cluster: &Cluster, target: &dyn Target) -> anyhow::Result<()> {
        hands::prepare(self.plan.steps.iter().map(|step| &step.fault), cluster, target).await
    }

    async fn run(&self, context: NemesisContext) {
        let begin_ns = context.journal.now_ns();
        let steps = self.plan.steps.iter().map(|step| {
            let worker = StepWorker { step, names: &self.plan.nodes, context: &context, state: &self.state };
            worker.run(begin_ns)
        });
        futures::future::join_all(steps).await;
    }

    async fn heal(&self, context: &NemesisContext) -> anyhow::Result<()> {
        let deadline = Instant::now() + HEAL_TIME_MAX;
        loop {
            match heal_once(context).await {
                Ok(()) => break,
                Err(error) if Instant::now() > deadline => return Err(error),
                Err(_) => tokio::time::sleep(Duration::from_millis(200)).await,
            }
        }
        let mut state = self.state();
        for (id, what) in std::mem::take(&mut state.in_force) {
            let fault = self
                .plan
                .steps
                .iter()
                .find(|step| step.id == id)
                .map_or("fault", |step| step.fault.fault().kind().doc.name);
            context.journal.nemesis(Sym::new(fault), entry(&id, "heal", &what, "healed", "at the end"));
        }
        state.down.clear();
        Ok(())
    }

    fn report(&self) -> Vec<FaultRow> {
        self.state().tally.rows()
    }

    fn in_force(&self) -> Option<String> {
        let state = self.state();
        (!state.in_force.is_empty()).then(|| state.in_force.values().cloned().collect::<Vec<_>>().join(", "))
    }
}

/// Undoes all ledgers, starts what is down, and looks whether everything runs and reaches everything.
async fn heal_once(context: &NemesisContext) -> anyhow::Result<()> {
    let (cluster, target) = (&context.cluster, &context.target);
    hands::heal_all(cluster).await?;
    for node in &cluster.nodes {
        if hands::state(&**target, node).await? == Some(ProcessState::Gone) {
            target.start(cluster, node).await.with_context(|| format!("cannot start again on {}", node.name))?;
        }
    }
    for node in &cluster.nodes {
        match hands::state(&**target, node).await? {
            Some(ProcessState::Running) | None => {}
            Some(other) => bail!("{} on {} is {other:?} after healing", target.name(), node.name),
        }
    }
    let cut = hands::unreachable(cluster).await?;
    if let Some(&(from, to)) = cut.first() {
        let (from, to) = (cluster.nodes[from].name, cluster.nodes[to].name);
        bail!("{from} still does not reach {to} after healing");
    }
    Ok(())
}

/// One line of the history about a step.
fn entry(id: &str, action: &str, targets: &str, outcome: &str, seen: &str) -> Value {
    let pairs = [("id", id), ("action", action), ("targets", targets), ("outcome", outcome), ("seen", seen)];
    Value::Map(pairs.into_iter().map(|(key, value)| (Value::str(key), Value::str(value))).collect())
}

struct StepWorker<'a> {
    step: &'a Step,
    names: &'a [String],
    context: &'a NemesisContext,
    state: &'a Mutex<State>,
}

impl StepWorker<'_> {
    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn record(&self, action: &str, targets: &str, outcome: &str, seen: &str) {
        self.context.journal.nemesis(
            Sym::new(self.step.fault.fault().kind().doc.name),
            entry(&self.step.id, action, targets, outcome, seen),
        );
    }

    /// Sleeps until so many milliseconds after the beginning; whether the phase still goes on then.
    async fn until(&self, begin_ns: u64, at_ms: u64) -> bool {
        let mut stop = self.context.stop.clone();
        let at = self.context.journal.instant(begin_ns + at_ms * 1_000_000);
        tokio::select! {
            () = tokio::time::sleep_until(at.into()) => !*self.context.stop.borrow(),
            _ = stop.wait_for(|stop| *stop) => false,
        }
    }

    fn at(&self) -> At<'_> {
        At {
            id: &self.step.id,
            cluster: &self.context.cluster,
            target: &*self.context.target,
            lease: Duration::from_millis(self.step.for_ms) + LEASE_SPARE,
        }
    }

    async fn run(self, begin_ns: u64) {
        let (step, fault) = (self.step, self.step.fault.fault());
        if !self.until(begin_ns, step.at_ms).await {
            return;
        }
        let at = self.at();
        let Some((hit, words)) = self.resolve().await else { return };
        self.state().tally.injected(&step.fault);
        self.state().in_force.insert(step.id.clone(), format!("{} {words}", fault.kind().doc.name));
        match fault.inject(&at, &hit).await {
            Ok(seen) => {
                self.record("inject", &words, "installed", &seen.words);
                let mut state = self.state();
                state.tally.bit(&step.fault);
                state.tally.seen(&step.fault, &seen);
            }
            Err(error) => self.doubt("inject", &words, &error),
        }
        let in_time = tokio::select! {
            in_time = self.until(begin_ns, step.at_ms + step.for_ms) => in_time,
            () = fault.meanwhile(&at, &hit) => self.until(begin_ns, step.at_ms + step.for_ms).await,
        };
        if !in_time {
            // Left to the healing after the phase.
            return;
        }
        match fault.heal(&at, &hit).await {
            Ok(seen) => {
                self.record("heal", &words, "healed", &seen.words);
                let mut state = self.state();
                state.tally.seen(&step.fault, &seen);
                state.in_force.remove(&step.id);
                state.down.retain(|_, id| *id != step.id);
            }
            Err(error) => self.doubt("heal", &words, &error),
        }
    }

    /// Nobody knows whether it worked.
    fn doubt(&self, action: &str, words: &str, error: &anyhow::Error) {
        self.record(action, words, "indeterminate", &format!("{error:#}"));
        self.state().tally.trouble(&self.step.fault, format!("{}: {error:#}", self.step.id));
    }

    /// Who is hit, and that in words; `None` (and recorded) when there is nobody left to hit.
    async fn resolve(&self) -> Option<(Hit, String)> {
        let scope = self.step.fault.fault().scope();
        let primary = if scope.needs_primary() { self.primary().await } else { None };
        let mut hit = scope.resolve(primary, self.names.len());
        if let (Scope::Processes(_), Hit::Nodes(nodes)) = (scope, &mut hit) {
            *nodes = self.take(std::mem::take(nodes))?;
        }
        let words = hit.words(self.names);
        Some((hit, words))
    }

    async fn primary(&self) -> Option<usize> {
        let primaries = self.context.target.primaries(&self.context.cluster).await;
        primaries.first().and_then(|name| self.names.iter().position(|n| n == name))
    }

    /// Those of `nodes` whose process no other step has, which this step has from now on.
    fn take(&self, nodes: Vec<usize>) -> Option<Vec<usize>> {
        let mut state = self.state();
        let (free, busy): (Vec<usize>, Vec<usize>) = nodes.into_iter().partition(|node| !state.down.contains_key(node));
        for node in &free {
            state.down.insert(*node, self.step.id.clone());
        }
        if !free.is_empty() {
            return Some(free);
        }
        let why: Vec<String> =
            busy.iter().map(|n| format!("{} is down by {}", self.names[*n], state.down[n])).collect();
        drop(state);
        self.record("inject", "", "skipped", &format!("skipped: {}", why.join(", ")));
        None
    }
}

//! Carries a [`FaultPlan`] out while the run goes.

use crate::control_path;
use crate::faults::Hit;
use crate::hands;
use crate::plan::{FaultPlan, Step};
use crate::step::{StepWorker, entry};
use crate::tally::Tally;
use anyhow::{Context, bail};
use async_trait::async_trait;
use squall_agent::protocol::ProcessState;
use squall_checkers::Sym;
use squall_harness::nemesis::{FaultRow, NemesisContext};
use squall_harness::{Cluster, Nemesis, Target};
use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// One step may take this long to heal: a machine may have to boot.
const STEP_TIME_MAX: Duration = Duration::from_secs(300);

/// Healing is tried for this long.
const HEAL_TIME_MAX: Duration = Duration::from_secs(30);

/// A plan and the state of its execution.
pub(crate) struct PlannedNemesis {
    plan: FaultPlan,
    state: Arc<Mutex<State>>,
}

/// What all steps share.
#[derive(Default)]
pub(crate) struct State {
    /// What came of it.
    pub(crate) tally: Tally,
    /// What is in force, by step: in words.
    pub(crate) in_force: BTreeMap<String, String>,
    /// Whom they hit, by step.
    pub(crate) hits: BTreeMap<String, Hit>,
    /// When something was healed last.
    pub(crate) healed: Option<Instant>,
    /// Whether anybody was ever seen to lead.
    pub(crate) has_leaders: bool,
    /// Nodes whose process is dead or stands still, and by which step.
    pub(crate) down: BTreeMap<usize, String>,
}

impl PlannedNemesis {
    pub(crate) fn new(plan: FaultPlan) -> Self {
        Self { plan, state: Arc::default() }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(|e| e.into_inner())
    }
}

/// Steps of one entry that wait for the same event.
struct Queue<'a> {
    /// One of them.
    first: &'a Step,
    /// When the occurrences were that counted (nanoseconds of the run).
    begun: watch::Sender<Vec<u64>>,
}

impl PlannedNemesis {
    /// Watches for the events of one queue until it has them all, or the phase ends.
    async fn watch_events(&self, queue: &Queue<'_>, context: &NemesisContext, begin_ns: u64) {
        let Some(trigger) = &queue.first.on else { return };
        let turns = self.plan.steps.iter().filter_map(|step| step.on.as_ref()).filter(|on| on.entry == trigger.entry);
        let count = turns.map(|on| on.turn + 1).max().unwrap_or(0);
        let mut stop = context.stop.clone();
        let watched = async {
            let mut armed_ns = begin_ns + trigger.armed_ms * 1_000_000;
            while queue.begun.borrow().len() < count {
                tokio::time::sleep_until(context.journal.instant(armed_ns).into()).await;
                trigger.event.wait(context).await?;
                let now_ns = context.journal.now_ns();
                let now_ms = (now_ns - begin_ns) / 1_000_000;
                if !self.plan.stable.iter().any(|&(from, to)| (from..to).contains(&now_ms)) {
                    queue.begun.send_modify(|begun| begun.push(now_ns));
                    armed_ns = now_ns + trigger.every_ms * 1_000_000;
                }
            }
            anyhow::Ok(())
        };
        let why = tokio::select! {
            result = watched => result.err().map(|error| format!("cannot watch for {}: {error:#}", trigger.event.words())),
            _ = stop.wait_for(|stop| *stop) => None,
        };
        let never = queue.begun.borrow().is_empty().then(|| format!("{} never came", trigger.event.words()));
        if let Some(why) = why.or(never) {
            self.state().tally.trouble(&queue.first.fault, why);
        }
    }
}

#[async_trait]
impl Nemesis for PlannedNemesis {
    fn plan(&self) -> serde_json::Value {
        serde_json::to_value(&self.plan).expect("plain data")
    }

    async fn prepare(&self, cluster: &Cluster, target: &dyn Target) -> anyhow::Result<()> {
        control_path::spare_all(cluster, self.plan.steps.iter().map(|step| &step.fault))?;
        hands::prepare(self.plan.steps.iter().map(|step| &step.fault), cluster, target).await
    }

    async fn run(&self, context: NemesisContext) {
        let begin_ns = context.journal.now_ns();
        let queues: BTreeMap<usize, Queue<'_>> = self
            .plan
            .steps
            .iter()
            .filter_map(|step| Some((step.on.as_ref()?.entry, step)))
            .map(|(entry, step)| (entry, Queue { first: step, begun: watch::Sender::default() }))
            .collect();
        let watchers = queues.values().map(|queue| self.watch_events(queue, &context, begin_ns));
        let steps = self.plan.steps.iter().map(|step| {
            let begun = step.on.as_ref().map(|on| (on.turn, queues[&on.entry].begun.subscribe()));
            let worker = StepWorker { step, names: &self.plan.nodes, context: &context, state: &self.state };
            worker.run(begin_ns, begun)
        });
        futures::future::join(futures::future::join_all(steps), futures::future::join_all(watchers)).await;
    }

    async fn heal(&self, context: &NemesisContext) -> anyhow::Result<()> {
        // Each in its own way first: what left the cluster must join again before anything is started.
        let hits = std::mem::take(&mut self.state().hits);
        let open = self.plan.steps.iter().filter_map(|step| Some((step, hits.get(&step.id)?)));
        let ends = open.map(|(step, hit)| async move {
            let worker = StepWorker { step, names: &self.plan.nodes, context, state: &self.state };
            // Whatever it leaves is found below.
            let healed = tokio::time::timeout(STEP_TIME_MAX, step.fault.fault().heal(&worker.at(), hit)).await;
            if let Ok(Ok(seen)) = healed {
                self.state().tally.seen(&step.fault, &seen);
            }
        });
        futures::future::join_all(ends).await;
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

//! Carries a [`FaultPlan`] out while the run goes.

use crate::coverage::{RECOVERY, Scene};
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
use tokio::sync::watch;

/// A fault outlives its planned end by at most this when nobody is left to heal it.
const LEASE_SPARE: Duration = Duration::from_secs(15);

/// So long before a step begins it is asked who leads, for the record.
const LOOK_AHEAD: Duration = Duration::from_millis(100);

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
    /// Whom they hit, by step.
    hits: BTreeMap<String, Hit>,
    /// When something was healed last.
    healed: Option<Instant>,
    /// Whether anybody was ever seen to lead.
    has_leaders: bool,
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
            let _ = tokio::time::timeout(HEAL_TIME_MAX, step.fault.fault().heal(&worker.at(), hit)).await;
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

/// One line of the history about a step.
fn entry(id: &str, action: &str, targets: &str, outcome: &str, seen: &str) -> Value {
    pairs(&[("id", id), ("action", action), ("targets", targets), ("outcome", outcome), ("seen", seen)])
}

fn pairs(pairs: &[(&str, &str)]) -> Value {
    Value::Map(pairs.iter().map(|(key, value)| (Value::str(key), Value::str(value))).collect())
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

    /// `begun`: of a step that waits for an event, which occurrence of it, and where they are announced.
    async fn run(self, begin_ns: u64, begun: Option<(usize, watch::Receiver<Vec<u64>>)>) {
        let (step, fault) = (self.step, self.step.fault.fault());
        let begin_ns = match begun {
            None => begin_ns,
            Some((turn, mut begun)) => {
                let mut stop = self.context.stop.clone();
                tokio::select! {
                    all = begun.wait_for(|all| all.len() > turn) => match all {
                        Ok(all) => all[turn],
                        Err(_) => return,
                    },
                    _ = stop.wait_for(|stop| *stop) => return,
                }
            }
        };
        let ahead_ms = LOOK_AHEAD.as_millis() as u64;
        if !self.until(begin_ns, step.at_ms.saturating_sub(ahead_ms)).await {
            return;
        }
        // Asked a little before, so that the fault is not late for it.
        let early = if step.at_ms >= ahead_ms && !fault.scope().needs_primary() {
            tokio::time::timeout(LOOK_AHEAD, self.primaries()).await.unwrap_or_default()
        } else {
            Vec::new()
        };
        if !self.until(begin_ns, step.at_ms).await {
            return;
        }
        let at = self.at();
        let Some((hit, words, primaries)) = self.resolve(early).await else { return };
        let (roles, phase) = self.scene(&hit, &primaries);
        {
            let mut state = self.state();
            state.tally.injected(&step.fault);
            state.in_force.insert(step.id.clone(), format!("{} {words}", fault.kind().doc.name));
            state.hits.insert(step.id.clone(), hit.clone());
        }
        match fault.inject(&at, &hit).await {
            Ok(seen) => {
                let line =
                    [("id", step.id.as_str()), ("action", "inject"), ("targets", &words), ("outcome", "installed")];
                let line = [&line[..], &[("seen", &seen.words), ("roles", &roles), ("phase", phase)]].concat();
                self.context.journal.nemesis(Sym::new(fault.kind().doc.name), pairs(&line));
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
                state.hits.remove(&step.id);
                state.healed = Some(Instant::now());
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

    /// Roles of those that are hit, and the state of the cluster, before the fault changes both.
    fn scene(&self, hit: &Hit, primaries: &[usize]) -> (String, &'static str) {
        let mut state = self.state();
        state.has_leaders |= !primaries.is_empty();
        let scene = Scene {
            primaries,
            has_leaders: state.has_leaders,
            overlaps: !state.in_force.is_empty(),
            recovers: state.healed.is_some_and(|at| at.elapsed() < RECOVERY),
        };
        (scene.roles(hit), scene.phase())
    }

    /// Who is hit, and that in words, and who leads; `None` (and recorded) when there is nobody left to hit. `early`: who led
    /// a moment ago.
    async fn resolve(&self, early: Vec<usize>) -> Option<(Hit, String, Vec<usize>)> {
        let scope = self.step.fault.fault().scope();
        let primaries = if scope.needs_primary() { self.primaries().await } else { early };
        let mut hit = scope.resolve(&primaries, self.names.len());
        if let (Scope::Processes(_), Hit::Nodes(nodes)) = (scope, &mut hit) {
            *nodes = self.take(std::mem::take(nodes))?;
        }
        let words = hit.words(self.names);
        Some((hit, words, primaries))
    }

    async fn primaries(&self) -> Vec<usize> {
        let primaries = self.context.target.primaries(&self.context.cluster).await;
        primaries.iter().filter_map(|name| self.names.iter().position(|n| n == name)).collect()
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

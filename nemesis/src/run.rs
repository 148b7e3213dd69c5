//! Carries a [`FaultPlan`] out while the run goes.

use crate::grudge;
use crate::hands;
use crate::plan::{Cut, Direction, FaultPlan, Planned, Step, Who};
use crate::tally::Tally;
use anyhow::{Context, bail};
use async_trait::async_trait;
use squall_agent::protocol::ProcessState;
use squall_checkers::{Sym, Value};
use squall_harness::Nemesis;
use squall_harness::nemesis::{FaultRow, NemesisContext};
use std::collections::{BTreeMap, BTreeSet};
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

/// What a step hits, resolved when it begins.
enum Hit {
    Links(Vec<(usize, usize)>),
    Nodes(Vec<usize>),
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
            let fault = self.plan.steps.iter().find(|step| step.id == id).map_or("fault", |step| step.fault.name());
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
        self.context
            .journal
            .nemesis(Sym::new(self.step.fault.name()), entry(&self.step.id, action, targets, outcome, seen));
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

    async fn run(self, begin_ns: u64) {
        let step = self.step;
        if !self.until(begin_ns, step.at_ms).await {
            return;
        }
        let hit = self.resolve().await;
        let Some((hit, words)) = hit else { return };
        self.state().tally.injected(&step.fault);
        self.state().in_force.insert(step.id.clone(), format!("{} {words}", step.fault.name()));
        match self.inject(&hit).await {
            Ok(seen) => self.record("inject", &words, "installed", &seen),
            Err(error) => {
                self.record("inject", &words, "indeterminate", &format!("{error:#}"));
                self.state().tally.trouble(&step.fault, format!("{}: {error:#}", step.id));
            }
        }
        let in_time = self.until(begin_ns, step.at_ms + step.for_ms).await;
        if !in_time {
            // Left to the healing after the phase.
            return;
        }
        match self.undo(&hit).await {
            Ok(seen) => {
                self.record("heal", &words, "healed", &seen);
                let mut state = self.state();
                state.in_force.remove(&step.id);
                state.down.retain(|_, id| *id != step.id);
            }
            Err(error) => {
                self.record("heal", &words, "indeterminate", &format!("{error:#}"));
                self.state().tally.trouble(&step.fault, format!("{}: {error:#}", step.id));
            }
        }
    }

    /// Who is hit, and that in words; `None` (and recorded) when there is nobody left to hit.
    async fn resolve(&self) -> Option<(Hit, String)> {
        let primary = |otherwise: usize| async move {
            let primaries = self.context.target.primaries(&self.context.cluster).await;
            primaries.first().and_then(|name| self.names.iter().position(|n| n == name)).unwrap_or(otherwise)
        };
        let nodes = match &self.step.fault {
            Planned::Partition { cut, .. } => {
                let pairs: BTreeSet<(usize, usize)> = match cut {
                    Cut::Pairs(pairs) => pairs.iter().copied().collect(),
                    Cut::Primary { otherwise, direction } => {
                        let node = primary(*otherwise).await;
                        let all = grudge::isolate(&[node], self.names.len());
                        all.into_iter()
                            .filter(|(from, to)| match direction {
                                Direction::Both => true,
                                Direction::In => *to == node,
                                Direction::Out => *from == node,
                            })
                            .collect()
                    }
                };
                let words = grudge::describe(&pairs, self.names);
                return Some((Hit::Links(pairs.into_iter().collect()), words));
            }
            Planned::Kill { who, .. } | Planned::Pause { who, .. } => match who {
                Who::Nodes(nodes) => nodes.clone(),
                Who::Primary { otherwise } => vec![primary(*otherwise).await],
            },
        };
        let mut state = self.state();
        let (free, busy): (Vec<usize>, Vec<usize>) = nodes.into_iter().partition(|node| !state.down.contains_key(node));
        for node in &free {
            state.down.insert(*node, self.step.id.clone());
        }
        if free.is_empty() {
            let why: Vec<String> =
                busy.iter().map(|n| format!("{} is down by {}", self.names[*n], state.down[n])).collect();
            let why = format!("skipped: {}", why.join(", "));
            drop(state);
            self.record("inject", "", "skipped", &why);
            return None;
        }
        drop(state);
        let words = free.iter().map(|&node| self.names[node].as_str()).collect::<Vec<_>>().join(" ");
        Some((Hit::Nodes(free), words))
    }

    fn lease(&self) -> Duration {
        Duration::from_millis(self.step.for_ms) + LEASE_SPARE
    }

    /// Injects and verifies; what was seen.
    async fn inject(&self, hit: &Hit) -> anyhow::Result<String> {
        let (step, context) = (self.step, self.context);
        match hit {
            Hit::Links(pairs) if pairs.is_empty() => bail!("this shape cuts nothing in a cluster of this size"),
            Hit::Links(pairs) => {
                hands::cut(&context.cluster, &step.id, pairs, self.lease()).await?;
                let silent: BTreeSet<_> = hands::unreachable(&context.cluster).await?.into_iter().collect();
                // One direction cut is enough for a connection to fail from either end.
                let expected: BTreeSet<_> = pairs.iter().flat_map(|&(a, b)| [(a, b), (b, a)]).collect();
                let bit = expected.intersection(&silent).count();
                let seen = format!("{bit} of {} probes got no answer", expected.len());
                if bit < expected.len() {
                    bail!("{seen}");
                }
                let mut state = self.state();
                state.tally.bit(&step.fault);
                state.tally.seen(&step.fault, "links cut", pairs.len() as u64);
                state.tally.seen(&step.fault, "probes without answer", bit as u64);
                Ok(seen)
            }
            Hit::Nodes(nodes) => {
                let hits = nodes.iter().map(|&node| async move {
                    let (target, node) = (&*context.target, &context.cluster.nodes[node]);
                    match step.fault {
                        Planned::Kill { .. } => hands::kill(target, node, &step.id, self.lease()).await,
                        _ => hands::pause(target, node, &step.id, self.lease()).await,
                    }
                });
                let evidence = futures::future::try_join_all(hits).await?;
                let seen = evidence.iter().map(|e| e.seen.as_str()).collect::<Vec<_>>().join(", ");
                let count: u64 = evidence.iter().map(|e| e.count).sum();
                let mut state = self.state();
                let unit =
                    if matches!(step.fault, Planned::Kill { .. }) { "processes gone" } else { "processes in state T" };
                state.tally.seen(&step.fault, unit, count);
                if evidence.iter().all(|e| e.verified) {
                    state.tally.bit(&step.fault);
                } else {
                    drop(state);
                    bail!("{seen}");
                }
                Ok(seen)
            }
        }
    }

    /// Undoes and says what was seen.
    async fn undo(&self, hit: &Hit) -> anyhow::Result<String> {
        let (step, context) = (self.step, self.context);
        match hit {
            Hit::Links(pairs) => {
                let dropped = hands::join(&context.cluster, &step.id, pairs).await?;
                self.state().tally.seen(&step.fault, "packets dropped", dropped);
                Ok(if dropped > 0 { format!("{dropped} packets dropped") } else { "links joined".to_owned() })
            }
            Hit::Nodes(nodes) => {
                let heals = nodes.iter().map(|&node| async move {
                    let node = &context.cluster.nodes[node];
                    if matches!(step.fault, Planned::Pause { .. }) {
                        // It must have stood still to the very end.
                        let last = hands::measure(node, &step.id).await?;
                        if !last.verified {
                            bail!("{}: {} before the end of the pause", node.name, last.seen);
                        }
                    }
                    hands::heal(node, &step.id).await?;
                    if matches!(step.fault, Planned::Kill { .. }) {
                        context.target.start(&context.cluster, node).await?;
                    }
                    anyhow::Ok(())
                });
                futures::future::try_join_all(heals).await?;
                Ok(match step.fault {
                    Planned::Kill { .. } => "started again".to_owned(),
                    _ => "goes on".to_owned(),
                })
            }
        }
    }
}

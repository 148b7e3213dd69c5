//! One step of a plan, from its beginning to its end.

use crate::coverage::{RECOVERY, Scene};
use crate::faults::{Hit, Scope};
use crate::hands::{self, At};
use crate::plan::Step;
use crate::run::State;
use squall_agent::protocol::ProcessState::Gone;
use squall_checkers::{Sym, Value};
use squall_harness::nemesis::NemesisContext;
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// A fault outlives its planned end by at most this when nobody is left to heal it.
const LEASE_SPARE: Duration = Duration::from_secs(15);

/// So long before a step begins it is asked who leads, for the record.
const LOOK_AHEAD: Duration = Duration::from_millis(100);

/// One line of the history about a step.
pub(crate) fn entry(id: &str, action: &str, targets: &str, outcome: &str, seen: &str) -> Value {
    pairs(&[("id", id), ("action", action), ("targets", targets), ("outcome", outcome), ("seen", seen)])
}

fn pairs(pairs: &[(&str, &str)]) -> Value {
    Value::Map(pairs.iter().map(|(key, value)| (Value::str(key), Value::str(value))).collect())
}

/// Carries a step out.
pub(crate) struct StepWorker<'a> {
    /// What.
    pub(crate) step: &'a Step,
    /// Of the nodes.
    pub(crate) names: &'a [String],
    /// Where.
    pub(crate) context: &'a NemesisContext,
    /// What all steps share.
    pub(crate) state: &'a Mutex<State>,
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

    /// Where its fault is carried out.
    pub(crate) fn at(&self) -> At<'_> {
        let lease = Duration::from_millis(self.step.for_ms) + LEASE_SPARE;
        At::new(&self.step.id, &self.context.cluster, &*self.context.target, lease)
    }

    /// The whole step. `begun`: of a step that waits for an event, which occurrence of it, and where they are announced.
    pub(crate) async fn run(self, begin_ns: u64, begun: Option<(usize, watch::Receiver<Vec<u64>>)>) {
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
                state.tally.injected(&step.fault);
                state.tally.bit(&step.fault);
                state.tally.seen(&step.fault, &seen);
            }
            Err(error) => match self.stopped_by_others(&hit) {
                // Another fault stopped a node in the same moment. What this one did elsewhere stays to its end.
                Some(why) => self.skip(&words, &format!("{why}: {error:#}")),
                None => {
                    self.state().tally.injected(&step.fault);
                    self.doubt("inject", &words, &error);
                }
            },
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
        let down: Vec<usize> = self.state().down.keys().copied().collect();
        let mut hit = scope.resolve(&primaries, &down, self.names.len());
        if let Hit::Nodes(nodes) = &mut hit {
            if matches!(scope, Scope::Processes(_)) {
                *nodes = self.take(std::mem::take(nodes))?;
            }
            if self.step.fault.fault().needs_process() {
                *nodes = self.running(std::mem::take(nodes)).await?;
            }
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
        drop(state);
        if free.is_empty() {
            self.skip("", &self.down_by(&busy));
            return None;
        }
        Some(free)
    }

    /// Those of `nodes` on which the target runs; of the others this step lets go.
    async fn running(&self, nodes: Vec<usize>) -> Option<Vec<usize>> {
        let runs = nodes.iter().map(|&node| async move {
            let node = &self.context.cluster.nodes[node];
            // Who does not answer is left to the fault itself, which says so.
            !node.control.is_down() && !matches!(hands::state(&*self.context.target, node).await, Ok(Some(Gone)))
        });
        let runs = futures::future::join_all(runs).await;
        let (running, idle): (Vec<_>, Vec<_>) = nodes.into_iter().zip(runs).partition(|(_, runs)| *runs);
        let idle: Vec<usize> = idle.into_iter().map(|(node, _)| node).collect();
        {
            let mut state = self.state();
            state.down.retain(|node, id| *id != self.step.id || !idle.contains(node));
        }
        if running.is_empty() {
            self.skip("", &self.down_by(&idle));
            return None;
        }
        Some(running.into_iter().map(|(node, _)| node).collect())
    }

    /// Which of these that are hit have been stopped by another step meanwhile, in words.
    fn stopped_by_others(&self, hit: &Hit) -> Option<String> {
        let is_other = |node: &usize| self.state().down.get(node).is_some_and(|id| *id != self.step.id);
        let stopped: Vec<usize> = hit.nodes().iter().copied().filter(is_other).collect();
        (!stopped.is_empty()).then(|| self.down_by(&stopped))
    }

    /// By what each of `nodes` is down, in words.
    fn down_by(&self, nodes: &[usize]) -> String {
        let state = self.state();
        let why = |node: &usize| match state.down.get(node) {
            Some(id) => format!("{} is down by {id}", self.names[*node]),
            None => format!("{} runs no {}", self.names[*node], self.context.target.process()),
        };
        nodes.iter().map(why).collect::<Vec<_>>().join(", ")
    }

    /// There is nothing to try it on.
    fn skip(&self, words: &str, why: &str) {
        self.record("inject", words, "skipped", &format!("skipped: {why}"));
        self.state().tally.skipped(&self.step.fault, why);
    }
}

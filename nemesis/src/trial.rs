//! Trying a fault: one step on a small cluster, measured from outside before, during and after.
//!
//! Each fault brings its own [`gauge`](crate::faults::PlannedFault::gauge) and says what it must show. Where it can, a gauge
//! uses the kernel (`/proc`) and programs that are not ours (`dd`, `date`, a shell's `/dev/tcp`), run on the nodes.

use crate::faults::FaultKind;
use crate::hands::{self, At};
use crate::read;
use anyhow::{Context, bail};
use async_trait::async_trait;
use squall_agent::protocol::{Reply, Request, StartProcess};
use squall_harness::cluster::Network;
use squall_harness::config::{Doc, Section};
use squall_harness::labels::Labels;
use squall_harness::nemesis::{PlanContext, Trial};
use squall_harness::{ClientFactory, Cluster, Node, Seed, Target};
use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::{Duration, Instant};

/// How long a trial's fault may stay when nobody heals it.
const LEASE: Duration = Duration::from_secs(60);

/// How long the target of a trial may take to get ready.
const READY_TIME_MAX: Duration = Duration::from_secs(60);

/// How long a command of a gauge may take.
const COMMAND_TIME_MAX: Duration = Duration::from_secs(20);

/// So many lines more are a pulse.
pub(crate) const BEATS: f64 = 5.0;

/// How often, half a second each, a pulse is looked for that should be there.
const PULSE_LOOKS_MAX: u32 = 30;

/// How a kind of fault is tried.
pub(crate) struct TrialSetup {
    /// How many nodes.
    pub(crate) nodes: usize,
    /// The keys when none are given, as in a test file: `{ nodes: one }`.
    pub(crate) keys: &'static str,
    /// A target by its name in test files; without one, [`program`](TrialSetup::program) runs on every node.
    pub(crate) target: Option<&'static str>,
    /// What that runs: a shell script, or [`TICKER`].
    pub(crate) program: &'static str,
    /// On nodes with kernels of their own only.
    pub(crate) machines: bool,
}

/// Says that it was started, then prints the time, by a `date` of its own, some fifty times a second.
pub(crate) const TICKER: &str = "echo started; while :; do date +%s.%N; sleep 0.02; done";

/// What a gauge showed.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Reading {
    /// For people, with units.
    pub(crate) words: String,
    /// What is judged.
    pub(crate) numbers: Vec<f64>,
}

/// What a gauge showed three times.
pub(crate) struct Readings {
    /// Before the injection.
    pub(crate) before: Reading,
    /// While it was in force.
    pub(crate) during: Reading,
    /// After it was healed.
    pub(crate) after: Reading,
}

impl Readings {
    /// Judges [`Lab::pulse`]: every process stands still during the fault, and only then.
    ///
    /// # Errors
    /// What is otherwise.
    pub(crate) fn stops_the_pulse(&self) -> Result<(), String> {
        let beats = |reading: &Reading| reading.numbers.iter().all(|lines| *lines >= BEATS);
        if !beats(&self.before) {
            return Err("the process did not tick before".to_owned());
        }
        if self.during.numbers.iter().any(|lines| *lines != 0.0) {
            return Err("the process went on during the fault".to_owned());
        }
        if beats(&self.after) { Ok(()) } else { Err("the process does not tick after healing".to_owned()) }
    }

    /// Whether something was done and never refused before and after, and always refused meanwhile. Numbers of a reading: how
    /// often it was done, how often refused.
    ///
    /// # Errors
    /// `failed` (what is wrong before and after) or `done` (what is wrong meanwhile), with the reading.
    pub(crate) fn refuses_meanwhile(&self, failed: &str, done: &str) -> Result<(), String> {
        let numbers = |reading: &Reading| (reading.numbers[0], reading.numbers[1]);
        for (when, reading) in [("before", &self.before), ("after", &self.after)] {
            if !matches!(numbers(reading), (1.0.., 0.0)) {
                return Err(format!("{when} the fault {failed}: {}", reading.words));
            }
        }
        match numbers(&self.during) {
            (0.0, 1.0..) => Ok(()),
            _ => Err(format!("{done}: {}", self.during.words)),
        }
    }
}

/// A command that ended.
pub(crate) struct Output {
    /// What it printed.
    pub(crate) stdout: String,
    /// What it complained about.
    pub(crate) stderr: String,
}

/// Where a gauge measures.
pub(crate) struct Lab<'a> {
    /// The nodes.
    pub(crate) cluster: &'a Cluster,
    /// What runs on them.
    pub(crate) target: &'a dyn Target,
    /// Whether the fault is in force now: before and after it, a machine that is busy with other things is waited for.
    pub(crate) in_force: bool,
}

impl Lab<'_> {
    /// Runs a shell script on a node.
    pub(crate) async fn shell(&self, node: usize, script: &str) -> anyhow::Result<Output> {
        let argv = ["bash", "-c", script].map(str::to_owned).to_vec();
        let timeout_ms = COMMAND_TIME_MAX.as_millis() as u64;
        let exec = Request::Exec { argv, env: BTreeMap::new(), timeout_ms };
        match self.cluster.nodes[node].control.call(exec).await? {
            Reply::Output { stdout, stderr, .. } => Ok(Output { stdout, stderr }),
            other => bail!("the agent answered a command with {other:?}"),
        }
    }

    /// Process id of the target on a node, as that node counts, dead or alive.
    pub(crate) async fn pid(&self, node: usize) -> anyhow::Result<u32> {
        match self.cluster.nodes[node].control.call(Request::Status { name: self.target.process().to_owned() }).await? {
            Reply::Process(status) => status.pid.context("the target was never started"),
            other => bail!("the agent answered a status with {other:?}"),
        }
    }

    /// How often the [`TICKER`] of each of these nodes was started so far.
    pub(crate) async fn starts(&self, nodes: &[usize]) -> anyhow::Result<Vec<f64>> {
        let mut starts = Vec::new();
        for &node in nodes {
            let printed = self.shell(node, &format!("grep -c started {}", self.target.logs().concat())).await?;
            starts.push(printed.stdout.trim().parse().context("no number of starts")?);
        }
        Ok(starts)
    }

    /// The lines that the target of a node prints within so many seconds; when there are none at all, those of the next
    /// period, up to `tries` of them.
    pub(crate) async fn lines_within(&self, node: usize, seconds: f64, tries: u32) -> anyhow::Result<Vec<String>> {
        let log = self.target.logs().concat();
        for _ in 0..tries.max(1) {
            let printed =
                self.shell(node, &format!("a=$(wc -l <{log}); sleep {seconds}; tail -n +$((a+1)) {log}")).await?;
            let lines: Vec<String> = printed.stdout.lines().map(str::to_owned).collect();
            if !lines.is_empty() {
                return Ok(lines);
            }
        }
        Ok(Vec::new())
    }

    /// Whether the targets of these nodes live and print lines: their states in `/proc`, and how many lines their logs grew
    /// by in half a second, or longer while no fault is in force and they have not grown enough. The numbers are the latter,
    /// a node each.
    pub(crate) async fn pulse(&self, nodes: &[usize]) -> anyhow::Result<Reading> {
        self.pulse_within(nodes, if self.in_force { 1 } else { PULSE_LOOKS_MAX }).await
    }

    /// The same of nodes whose targets should live whatever is in force.
    pub(crate) async fn pulse_of_living(&self, nodes: &[usize]) -> anyhow::Result<Reading> {
        self.pulse_within(nodes, PULSE_LOOKS_MAX).await
    }

    async fn pulse_within(&self, nodes: &[usize], looks: u32) -> anyhow::Result<Reading> {
        let mut reading = Reading::default();
        for &node in nodes {
            let (pid, log) = (self.pid(node).await?, self.target.logs().concat());
            let script = format!(
                "a=$(wc -l <{log}); for n in $(seq {looks}); do sleep 0.5; b=$(($(wc -l <{log})-a)); [ $b -ge {BEATS} ] && break; \
                 done; echo $b in $n; grep State /proc/{pid}/status || echo gone"
            );
            let printed = self.shell(node, &script).await?;
            let mut lines = printed.stdout.lines();
            let grown = lines.next().and_then(|line| {
                let (grown, halves) = line.split_once(" in ")?;
                Some((grown.parse::<f64>().ok()?, halves.parse::<f64>().ok()?))
            });
            let (grown, halves) =
                grown.with_context(|| format!("cannot count the lines of {log}: {}", printed.stderr.trim()))?;
            let state = lines.next().unwrap_or_default().replace("State:", "").trim().to_owned();
            let comma = if reading.words.is_empty() { "" } else { "; " };
            let name = &self.cluster.nodes[node].name;
            reading.words += &format!("{comma}{name} {state}, {grown} lines in {} s", halves / 2.0);
            reading.numbers.push(grown);
        }
        Ok(reading)
    }
}

/// Tries one fault; `keys` as in a test file.
///
/// # Errors
/// Bad keys, or a cluster that cannot be used.
pub(crate) async fn run(
    kind: &'static FaultKind,
    keys: Option<Doc>,
    cluster: &Cluster,
    target: Option<Arc<dyn Target>>,
) -> anyhow::Result<Trial> {
    let target = target.unwrap_or_else(|| Arc::new(Script(kind.trial.program)));
    let target = &*target;
    let keys = match keys {
        Some(keys) => keys,
        None => Doc::parse("the trial's own keys", &format!("keys: {}", kind.trial.keys))
            .and_then(|doc| Section::new("trial", doc)?.raw("keys", "map", "the trial's keys"))?
            .context("a trial has keys")?,
    };
    let keys_text = serde_json::to_string(&keys.to_yaml())?.replace('"', "").replace(':', ": ").replace(',', ", ");
    let names: Vec<String> = cluster.nodes.iter().map(|node| node.name.to_string()).collect();
    let has_machines = matches!(cluster.network, Network::PerNode);
    let context = PlanContext {
        nodes: &names,
        labels: Labels::NONE,
        duration: Duration::from_secs(600),
        seed: Seed(1),
        target: None,
        has_machines,
    };
    let planned = read::one(kind, keys, &context)?;
    start(&planned, cluster, target).await?;

    let fault = planned.fault();
    let leader = target.primaries(cluster).await;
    let primaries: Vec<usize> =
        leader.iter().filter_map(|leader| names.iter().position(|name| name == leader)).collect();
    let hit = fault.scope().resolve(&primaries, &[], names.len());
    let (mut lab, at) = (Lab { cluster, target, in_force: false }, At::new("1-trial", cluster, target, LEASE));
    let mut trial = Trial {
        fault: kind.doc.name.to_owned(),
        keys: keys_text,
        targets: hit.words(&names),
        before: String::new(),
        during: String::new(),
        after: String::new(),
        expected: fault.expected(),
        agents: String::new(),
        problem: None,
    };
    let before = fault.gauge(&lab, &hit).await.context("before the fault")?;
    trial.before.clone_from(&before.words);
    match fault.inject(&at, &hit).await {
        Ok(seen) => trial.agents = seen.words,
        Err(error) => {
            trial.problem = Some(format!("it was not injected: {error:#}"));
            hands::heal_all(cluster).await?;
            return Ok(trial);
        }
    }
    lab.in_force = true;
    let during = tokio::select! {
        during = fault.gauge(&lab, &hit) => during.context("during the fault"),
        () = fault.meanwhile(&at, &hit) => Err(anyhow::anyhow!("the fault ended by itself")),
    }?;
    trial.during.clone_from(&during.words);
    match fault.heal(&at, &hit).await {
        Ok(seen) if !seen.words.is_empty() => trial.agents += &format!("; healed: {}", seen.words),
        Ok(_) => {}
        Err(error) => trial.problem = Some(format!("it was not healed: {error:#}")),
    }
    lab.in_force = false;
    let after = fault.gauge(&lab, &hit).await.context("after the fault")?;
    trial.after.clone_from(&after.words);
    if trial.problem.is_none() {
        trial.problem = fault.judge(&Readings { before, during, after }).err();
    }
    Ok(trial)
}

/// Brings the target up, prepared for the fault.
async fn start(planned: &crate::faults::Planned, cluster: &Cluster, target: &dyn Target) -> anyhow::Result<()> {
    for node in &cluster.nodes {
        target.install(cluster, node).await.with_context(|| format!("cannot install on {}", node.name))?;
    }
    hands::prepare(std::iter::once(planned), cluster, target).await?;
    for node in &cluster.nodes {
        target.start(cluster, node).await.with_context(|| format!("cannot start on {}", node.name))?;
    }
    let begun = Instant::now();
    while let Err(why) = target.ready(cluster).await {
        if begun.elapsed() > READY_TIME_MAX {
            return Err(why.context("the target did not get ready"));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
    Ok(())
}

/// A target that runs a shell script, and whose first node leads.
struct Script(&'static str);

#[async_trait]
impl Target for Script {
    fn name(&self) -> &'static str {
        "script"
    }

    async fn install(&self, _: &Cluster, node: &Node) -> anyhow::Result<()> {
        node.control.call(Request::MakeDir { path: "data".to_owned() }).await?;
        Ok(())
    }

    async fn start(&self, _: &Cluster, node: &Node) -> anyhow::Result<()> {
        let start = StartProcess {
            name: self.name().to_owned(),
            argv: ["sh", "-c", self.0].map(str::to_owned).to_vec(),
            env: BTreeMap::new(),
            cwd: node.root.clone(),
            log: "script.log".to_owned(),
        };
        node.control.call(Request::Start(start)).await?;
        Ok(())
    }

    async fn ready(&self, cluster: &Cluster) -> anyhow::Result<()> {
        for node in &cluster.nodes {
            let first = Request::ReadFile { path: "script.log".to_owned(), offset: 0, len_max: 1 };
            match node.control.call(first).await? {
                Reply::File { len } if len > 0 => {}
                _ => bail!("{} prints nothing yet", node.name),
            }
        }
        Ok(())
    }

    fn clients(&self, _: &str) -> Option<Arc<dyn ClientFactory>> {
        None
    }

    async fn primaries(&self, cluster: &Cluster) -> Vec<String> {
        cluster.nodes.first().map(|node| node.name.to_string()).into_iter().collect()
    }

    fn data(&self) -> Vec<String> {
        vec!["data".to_owned()]
    }
}

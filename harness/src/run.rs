//! One run: cluster up, target up, main phase under the nemesis, heal, quiesce, final reads, logs, tear down, verdict.

use crate::cluster::Cluster;
use crate::interpreter::{PhaseContext, PhaseEnd, Worker, run_phase};
use crate::journal::{Journal, JournalWriter};
use crate::nemesis::{Nemesis, NemesisContext, NemesisKind};
use crate::online::Watch;
use crate::progress::Progress;
use crate::report::Report;
use crate::store::{PLAN, RESULTS, Run};
use crate::target::Target;
use crate::test::Test;
use crate::verdict;
use crate::workload::Shape;
use anyhow::{Context, bail};
use futures::future::BoxFuture;
use squall_checkers::linear::online::Violation;
use squall_checkers::{Sym, Verdict};
use std::sync::Arc;
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// How often a target that is not ready yet is asked again.
const READY_POLL: Duration = Duration::from_millis(50);

/// What a run needs besides the test.
pub struct RunContext {
    /// Where this run is kept.
    pub run: Run,
    /// What a person sees.
    pub progress: Progress,
    /// How often the user asked to stop: once is heal, save and check; twice is heal and leave.
    pub interrupts: watch::Receiver<u32>,
    /// For explanations of old faults in the history.
    pub nemesis_kind: Arc<dyn NemesisKind>,
    /// Whether to stop at the first violation that is found while the run goes.
    pub fail_fast: Option<FailFast>,
}

/// What to do when a violation was found while the run goes.
pub struct FailFast {
    /// Shows the report while the cluster is up as it was, faults included; it is taken down when this returns.
    pub inspect: Box<dyn Fn(Report) -> BoxFuture<'static, ()> + Send + Sync>,
}

/// How recording ended.
enum End {
    /// With the final reads.
    Complete,
    /// By the user.
    Interrupted,
    /// By a violation; nothing is healed.
    Violated(NemesisContext),
}

struct Recorded {
    end: End,
    /// The first violation that was found while the run went.
    violation: Option<Violation>,
}

/// A cluster that is up, and how to take it down again.
pub struct UpCluster {
    /// The nodes.
    pub cluster: Arc<Cluster>,
    /// In words: `5 nodes in namespaces`.
    pub what: String,
}

/// Runs `test` on `up` from installation to verdict. Whatever happens, faults are healed, the history is saved and the
/// target is stopped.
///
/// # Errors
/// Harness failures: the target did not start, a node was lost, the disk is full. They are not verdicts; what was
/// recorded until then is in the run's folder.
pub async fn run(test: Test, up: &UpCluster, context: &RunContext) -> anyhow::Result<Report> {
    let test = Arc::new(test);
    let recorded = drive(&test, up, context).await;
    let inspected = match &recorded {
        Ok(violated @ Recorded { end: End::Violated(nemesis), .. }) => {
            Some(inspect(&test, context, violated, nemesis).await)
        }
        _ => None,
    };
    let stopped = stop_target(&*test.target, up, context).await;
    if let Err(error) = &stopped {
        context.progress.done("warning", &format!("{error:#}"));
    }
    match inspected {
        Some(report) => report,
        None => conclude(&test, context, &recorded?).await,
    }
}

/// Everything that may be looked at before the cluster goes down: the verdict, then the nodes as they are.
async fn inspect(
    test: &Arc<Test>,
    context: &RunContext,
    recorded: &Recorded,
    nemesis: &NemesisContext,
) -> anyhow::Result<Report> {
    let report = conclude(test, context, recorded).await;
    if let (Ok(report), Some(fail_fast)) = (&report, &context.fail_fast) {
        (fail_fast.inspect)(report.clone()).await;
    }
    context.progress.now("healing".to_owned());
    if let Err(error) = test.nemesis.heal(nemesis).await {
        context.progress.done("warning", &format!("healing failed: {error:#}"));
    }
    report
}

/// The verdict about what was recorded, saved.
async fn conclude(test: &Arc<Test>, context: &RunContext, recorded: &Recorded) -> anyhow::Result<Report> {
    context.progress.now("checking".to_owned());
    let early = match recorded.end {
        End::Complete => None,
        End::Interrupted => Some("interrupted before the final reads; nothing wrong in what there is"),
        End::Violated(_) => Some("stopped at the first violation, before healing and final reads"),
    };
    let mut report = {
        let (test, run, kind) = (test.clone(), context.run.clone(), context.nemesis_kind.clone());
        tokio::task::spawn_blocking(move || verdict::judge(&test, &run, &*kind, early)).await??
    };
    if let Some(violation) = &recorded.violation {
        report.found_online = Some(violation.to_string());
        // Proven on a prefix: a checker that had no time for the rest takes nothing back.
        if report.verdict != Verdict::Invalid {
            report.verdict = Verdict::Invalid;
            report.reasons.insert(0, format!("found while the run went: {violation}"));
        }
    }
    for check in report.checks.iter().filter(|check| check.stats.ops > 0) {
        let stats = &check.stats;
        let what = format!("{} operations on {} keys in {:.2} s", stats.ops, stats.keys, stats.duration_s);
        context.progress.done("checked", &what);
    }
    context.run.write(RESULTS, &serde_json::to_vec_pretty(&report)?)?;
    Ok(report)
}

/// Everything that needs the cluster.
async fn drive(test: &Arc<Test>, up: &UpCluster, context: &RunContext) -> anyhow::Result<Recorded> {
    let cluster = &up.cluster;
    let begun = Instant::now();
    until_interrupt(context, start_target(test, cluster, context)).await?;
    let leader = test.target.primaries(cluster).await;
    let leader = if leader.is_empty() { String::new() } else { format!(", leader {}", leader.join(" ")) };
    let seconds = begun.elapsed().as_secs_f64();
    context.progress.done("ready", &format!("{} on {} in {seconds:.1} s{leader}", test.target.name(), up.what));
    let (journal, writer) = Journal::create(&context.run.history())?;
    let watch = match test.workload.online() {
        Some(online) => {
            Some(Watch::start(online, &journal, &context.progress).context("cannot start the online check")?)
        }
        None => None,
    };
    let end = phases(test, up, context, &journal, watch.as_ref()).await;
    close(writer, context)?;
    let violation = watch.and_then(Watch::end);
    Ok(Recorded { end: end?, violation })
}

fn close(writer: JournalWriter, context: &RunContext) -> anyhow::Result<()> {
    writer.close().with_context(|| format!("what was saved of the history is in {}", context.run.dir.display()))?;
    Ok(())
}

async fn phases(
    test: &Arc<Test>,
    up: &UpCluster,
    context: &RunContext,
    journal: &Journal,
    watch: Option<&Watch>,
) -> anyhow::Result<End> {
    let nodes = &up.cluster.nodes;
    let clients = test.target.clients(test.workload.name()).context("the target has no client for this workload")?;
    let threads = test.workload.concurrency(nodes.len()).max(1);
    let shape = Shape { threads, nodes: nodes.len(), seed: test.seed };
    let workers: Vec<Worker> = (0..threads).map(|thread| Worker::new(thread, nodes)).collect();
    let (stop_sender, stop) = watch::channel(false);
    let nemesis: Arc<dyn Nemesis> = test.nemesis.clone();
    let nemesis_context = NemesisContext {
        cluster: up.cluster.clone(),
        target: test.target.clone(),
        journal: journal.clone(),
        stop: stop.clone(),
    };

    let violation = watch.filter(|_| context.fail_fast.is_some()).map(Watch::violation);
    let is_violated = || violation.as_ref().is_some_and(|violation| violation.borrow().is_some());

    journal.phase(Sym::new("main"));
    let follow = context.progress.follow(journal.clone(), nemesis.clone());
    let timer = tokio::spawn(stop_at_end(
        test.duration,
        context.interrupts.clone(),
        journal.clone(),
        violation.clone(),
        stop_sender,
    ));
    let nemesis_task = {
        let (nemesis, nemesis_context) = (nemesis.clone(), nemesis_context.clone());
        tokio::spawn(async move { nemesis.run(nemesis_context).await })
    };
    let phase = PhaseContext { journal: journal.clone(), clients, stop, op_timeout: test.op_timeout };
    let main = run_phase(workers, test.workload.generator(&shape), phase.clone()).await;
    // A generator that is done early leaves the nemesis its time: its faults are part of the plan.
    timer.await?;
    let nemesis_end = nemesis_task.await;
    follow.abort();
    if is_violated() && *context.interrupts.borrow() == 0 && main.is_ok() {
        nemesis_end.map_err(|error| anyhow::anyhow!("the nemesis panicked: {error}"))?;
        context.run.write("faults.json", &serde_json::to_vec_pretty(&nemesis.report())?)?;
        return Ok(End::Violated(nemesis_context));
    }

    journal.phase(Sym::new("heal"));
    context.progress.now("healing".to_owned());
    let begun = Instant::now();
    nemesis.heal(&nemesis_context).await.context("healing failed, so final reads would mean nothing")?;
    nemesis_end.map_err(|error| anyhow::anyhow!("the nemesis panicked: {error}"))?;
    let (mut workers, _) = main?;
    if let Some(failure) = journal.failure() {
        return Err(failure.into());
    }
    let healed = begun.elapsed().as_secs_f64();
    context.run.write("faults.json", &serde_json::to_vec_pretty(&nemesis.report())?)?;
    if *context.interrupts.borrow() > 0 {
        context.progress.done("healed", &format!("in {healed:.1} s; interrupted, so no final reads"));
        return Ok(End::Interrupted);
    }

    journal.phase(Sym::new("quiesce"));
    context.progress.now("waiting for the cluster to recover".to_owned());
    wait_or_interrupt(test.quiesce, context).await;
    let ready = until_interrupt(context, wait_ready(&*test.target, &up.cluster)).await;
    if *context.interrupts.borrow() > 0 {
        return Ok(End::Interrupted);
    }
    ready.context("after healing the target did not recover")?;

    journal.phase(Sym::new("final"));
    workers.iter_mut().for_each(Worker::disconnect);
    if let Some(generator) = test.workload.final_generator(&shape) {
        context.progress.now("final reads".to_owned());
        let (stop_sender, stop) = watch::channel(false);
        let timer = tokio::spawn(stop_at_end(
            test.final_timeout,
            context.interrupts.clone(),
            journal.clone(),
            violation.clone(),
            stop_sender,
        ));
        let (_, end) = run_phase(workers, generator, PhaseContext { stop, ..phase }).await?;
        timer.abort();
        let what = match end {
            PhaseEnd::Finished => "final reads done".to_owned(),
            PhaseEnd::Stopped => format!("final reads NOT done after {:.0} s", test.final_timeout.as_secs_f64()),
        };
        context.progress.done("healed", &format!("in {healed:.1} s, {what}"));
    }
    Ok(match *context.interrupts.borrow() {
        0 if is_violated() => End::Violated(nemesis_context),
        0 => End::Complete,
        _ => End::Interrupted,
    })
}

/// Raises `stop` after `length`, at the first interrupt or violation, or when the journal can take no more.
async fn stop_at_end(
    length: Duration,
    mut interrupts: watch::Receiver<u32>,
    journal: Journal,
    violation: Option<watch::Receiver<Option<Violation>>>,
    stop: watch::Sender<bool>,
) {
    let violated = async {
        if let Some(mut violation) = violation
            && violation.wait_for(Option::is_some).await.is_ok()
        {
            return;
        }
        // Nothing was found, and perhaps nobody looks any more.
        std::future::pending().await
    };
    tokio::pin!(violated);
    let end = tokio::time::sleep(length);
    tokio::pin!(end);
    loop {
        tokio::select! {
            () = &mut end => break,
            _ = interrupts.wait_for(|count| *count > 0) => break,
            () = &mut violated => break,
            () = tokio::time::sleep(Duration::from_millis(100)) => if journal.failure().is_some() { break },
        }
    }
    let _ = stop.send(true);
}

/// Sleeps, but not through an interrupt.
async fn wait_or_interrupt(length: Duration, context: &RunContext) {
    let mut interrupts = context.interrupts.clone();
    tokio::select! {
        () = tokio::time::sleep(length) => {}
        _ = interrupts.wait_for(|count| *count > 0) => {}
    }
}

async fn until_interrupt<T>(context: &RunContext, work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    let mut interrupts = context.interrupts.clone();
    tokio::select! {
        result = work => result,
        _ = interrupts.wait_for(|count| *count > 0) => bail!("interrupted before there was anything to check"),
    }
}

async fn start_target(test: &Test, cluster: &Arc<Cluster>, context: &RunContext) -> anyhow::Result<()> {
    let target = &*test.target;
    context.progress.now(format!("installing {}", target.name()));
    let install = cluster.nodes.iter().map(|node| async move {
        target
            .install(cluster, node)
            .await
            .with_context(|| format!("cannot install {} on {}", target.name(), node.name))
    });
    futures::future::try_join_all(install).await?;
    test.nemesis.prepare(cluster, target).await?;
    context.progress.now(format!("starting {}", target.name()));
    let start = cluster.nodes.iter().map(|node| async move {
        target.start(cluster, node).await.with_context(|| format!("cannot start {} on {}", target.name(), node.name))
    });
    futures::future::try_join_all(start).await?;
    wait_ready(target, cluster).await
}

async fn wait_ready(target: &dyn Target, cluster: &Arc<Cluster>) -> anyhow::Result<()> {
    let limit = target.start_up_time_max();
    let deadline = Instant::now() + limit;
    loop {
        match tokio::time::timeout(limit, target.ready(cluster)).await {
            Ok(Ok(())) => return Ok(()),
            Ok(Err(why)) if Instant::now() >= deadline => {
                return Err(why.context(format!("{} was not ready after {:.0} s", target.name(), limit.as_secs_f64())));
            }
            Err(_) => bail!("{} was not ready after {:.0} s: no answer", target.name(), limit.as_secs_f64()),
            Ok(Err(_)) => tokio::time::sleep(READY_POLL).await,
        }
    }
}

/// Stops the target everywhere and fetches its logs.
async fn stop_target(target: &dyn Target, up: &UpCluster, context: &RunContext) -> anyhow::Result<()> {
    context.progress.now("stopping and fetching logs".to_owned());
    let stops = up.cluster.nodes.iter().map(|node| async move {
        target
            .stop(&up.cluster, node)
            .await
            .with_context(|| format!("cannot stop {} on {}", target.name(), node.name))?;
        let dir = context.run.dir.join("logs").join(node.name.as_str());
        std::fs::create_dir_all(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        for log in target.logs() {
            let name = log.rsplit('/').next().unwrap_or(&log).to_owned();
            crate::cluster::fetch_file(&node.control, &format!("{}/{log}", node.root), &dir.join(name))
                .await
                .with_context(|| format!("cannot fetch {log} from {}", node.name))?;
        }
        anyhow::Ok(())
    });
    let results = futures::future::join_all(stops).await;
    results.into_iter().collect::<anyhow::Result<Vec<()>>>().map(|_| ())
}

/// Saves the plan. Before the cluster is up, so that a run that dies can be repeated.
///
/// # Errors
/// When it cannot be written.
pub fn save_plan(test: &Test, run: &Run) -> anyhow::Result<()> {
    run.write(PLAN, test.plan_yaml().as_bytes())
}

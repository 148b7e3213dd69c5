//! `squall run`: a test from file to verdict.

use crate::inspect::Inspection;
use crate::{BadInput, EXIT_FAILURE};
use anyhow::{Context, bail};
use futures::future::BoxFuture;
use squall_harness::cluster::local::{self, Entered};
use squall_harness::cluster::ssh;
use squall_harness::cluster::vagrant::{self, Machines};
use squall_harness::config::{Doc, parse_duration};
use squall_harness::nemesis::NemesisKind;
use squall_harness::progress::Progress;
use squall_harness::report::Report;
use squall_harness::run::{FailFast, RunContext, UpCluster, run as run_test, save_plan};
use squall_harness::signals::Signals;
use squall_harness::store::{PLAN, Run};
use squall_harness::test::{Names, Overrides, Provider, read_plan};
use squall_harness::{Cluster, Registry, Test};
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Reads who the nodes are without bringing anything up.
const NAMES: Names = Names {
    hosts: ssh::host_names,
    machines: |folder, nodes| Ok(vagrant::names(nodes.unwrap_or(vagrant::Settings::read(folder)?.nodes))),
};

/// The test of a bare `squall run`.
const DEFAULT_TEST: &str = include_str!("../../../workloads/tests/register.yaml");

/// How long the second Ctrl-C may take to heal.
const LEAVE_TIME_MAX: Duration = Duration::from_secs(10);

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Test file; without one, registers on five squall-nodes under partitions, kills and pauses
    test: Option<PathBuf>,
    /// Override a key: `--set workload.register.rate=500/s`
    #[arg(long, value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Root of everything random
    #[arg(long)]
    seed: Option<u64>,
    /// Short for `--set cluster.nodes=N`
    #[arg(long)]
    nodes: Option<usize>,
    /// Short for `--set duration=TIME`
    #[arg(long, value_name = "TIME")]
    duration: Option<String>,
    /// Repeat the test and the faults of a saved run (its folder, or `latest`)
    #[arg(long, value_name = "RUN", conflicts_with = "test")]
    replay: Option<PathBuf>,
    /// Print the resolved plan and do nothing
    #[arg(long)]
    plan: bool,
    /// Where runs are kept
    #[arg(long, default_value = "store", env = "SQUALL_STORE")]
    store: PathBuf,
    /// Stop at the first violation found while the run goes, with the cluster still up; Ctrl-C takes it down. Where
    /// nobody can press that (stderr is no terminal) it goes down at once
    #[arg(long)]
    fail_fast: bool,
    /// With `--fail-fast`: keep the cluster up for this long at most, terminal or not
    #[arg(long, value_name = "TIME", requires = "fail_fast", value_parser = duration)]
    keep_up: Option<Duration>,
    /// Keep the virtual machines that were made for this run (provider `vagrant`); those that were up before always stay
    #[arg(long)]
    keep: bool,
    /// Keep the nodes' data folders
    #[arg(long)]
    keep_data: bool,
    /// Print nothing but the summary
    #[arg(long, short)]
    quiet: bool,
    /// Print the result as JSON instead of the summary
    #[arg(long)]
    json: bool,
}

/// Exit code of the verdict.
pub(crate) fn run(args: &Args, registry: Registry) -> anyhow::Result<ExitCode> {
    let test = read_test(args, &registry)?;
    if args.fail_fast && test.workload.online().is_none() {
        let what = format!(
            "--fail-fast needs a workload whose promise is linearizability; `{}` is only judged when the run is over",
            test.workload.name()
        );
        return Err(BadInput(what).into());
    }
    if args.plan {
        print!("{}", test.plan_yaml());
        return Ok(ExitCode::SUCCESS);
    }
    if let Provider::Local { .. } = test.provider {
        // Before any thread exists. The child reads the same arguments again and arrives here inside.
        if let Entered::Done(code) = local::enter()? {
            return Ok(code);
        }
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let code = runtime.block_on(controller(args, test, Arc::from(registry.nemesis)))?;
    // Blocking leftovers (a disk that hangs) must not keep us.
    runtime.shutdown_timeout(Duration::from_secs(1));
    Ok(code.into())
}

/// `5s`, `200ms`, `2m`, as in test files.
fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 5s, 200ms or 2m".to_owned())
}

fn read_test(args: &Args, registry: &Registry) -> anyhow::Result<Test> {
    let mut overrides = Overrides { set: args.set.clone(), seed: args.seed, faults: None };
    overrides.set.extend(args.nodes.map(|nodes| format!("cluster.nodes={nodes}")));
    overrides.set.extend(args.duration.as_ref().map(|duration| format!("duration={duration}")));
    let doc = if let Some(replay) = &args.replay {
        let run = Run::open(&args.store, replay).map_err(|error| BadInput(format!("{error:#}")))?;
        let text = run.read(PLAN)?;
        let (doc, faults) = read_plan(&run.dir.join(PLAN).display().to_string(), &text)?;
        overrides.faults = Some(faults);
        doc
    } else {
        match &args.test {
            None => Doc::parse("register.yaml (built in)", DEFAULT_TEST)?,
            Some(path) => {
                let text = std::fs::read_to_string(path)
                    .map_err(|error| BadInput(format!("cannot read the test {}: {error}", path.display())))?;
                Doc::parse(&path.display().to_string(), &text)?
            }
        }
    };
    Ok(Test::read(doc, &overrides, registry, NAMES)?)
}

/// Everything that happens with threads and, on the local provider, inside the namespaces.
async fn controller(args: &Args, test: Test, nemesis_kind: Arc<dyn NemesisKind>) -> anyhow::Result<u8> {
    let run = Run::create(&args.store, &test.name)?;
    save_plan(&test, &run)?;
    let progress = Progress::new(args.quiet);
    if !args.quiet {
        eprintln!(
            "squall  {} on {} x{}, seed {}, {:.0} s",
            test.workload.name(),
            test.target.name(),
            test.nodes.len(),
            test.seed.0,
            test.duration.as_secs_f64()
        );
        progress.done("plan", &shown(&run.dir.join(PLAN)));
    }
    let (interrupts_sender, interrupts) = watch::channel(0);
    let interrupt_task = tokio::spawn(count_interrupts(interrupts_sender));
    let begun = Instant::now();
    let machines = match &test.provider {
        Provider::Vagrant { folder, nodes } => Some(Machines::open(folder, Some(*nodes))?),
        _ => None,
    };
    let up = tokio::select! {
        up = bring_up(&test, &run, machines.as_ref(), &progress) => up,
        () = interrupted(interrupts.clone(), 1) => Err(anyhow::anyhow!("interrupted while the cluster came up")),
    };
    let (up, what) = match up {
        Ok(up) => up,
        Err(error) => {
            end_machines(args, machines, &progress).await;
            return Err(error);
        }
    };
    progress.done("up", &format!("{what} in {:.1} s", begun.elapsed().as_secs_f64()));
    let up = UpCluster { cluster: Arc::new(up), what };
    let inspection = Arc::new(Inspection {
        run: run.clone(),
        json: args.json,
        keep_up: args.keep_up,
        nodes: up.cluster.nodes.iter().map(|node| (node.name.to_string(), node.address.to_string())).collect(),
        is_local: matches!(test.provider, Provider::Local { .. }),
        progress: progress.clone(),
        interrupts: interrupts.clone(),
        shown: AtomicBool::new(false),
    });
    let fail_fast = args.fail_fast.then(|| {
        let inspection = inspection.clone();
        let inspect = move |report| -> BoxFuture<'static, ()> {
            let inspection = inspection.clone();
            Box::pin(async move { inspection.hold(report).await })
        };
        FailFast { inspect: Box::new(inspect) }
    });
    let context = RunContext {
        run: run.clone(),
        progress: progress.clone(),
        interrupts: interrupts.clone(),
        nemesis_kind,
        fail_fast,
    };
    let result = tokio::select! {
        result = run_test(test, &up, &context) => result,
        () = interrupted(interrupts, 2) => Err(anyhow::anyhow!("interrupted twice: left without a verdict")),
    };
    progress.now("taking the cluster down".to_owned());
    let down = tokio::time::timeout(LEAVE_TIME_MAX, take_down(&up.cluster)).await;
    end_machines(args, machines, &progress).await;
    interrupt_task.abort();
    progress.finish();
    if !args.keep_data {
        // Of the local provider only; logs were fetched before.
        let _ = std::fs::remove_dir_all(run.dir.join("nodes"));
    }
    let report = result.with_context(|| format!("no verdict; what was recorded is in {}", shown(&run.dir)))?;
    match down {
        Ok(Ok(())) => {}
        Ok(Err(error)) => eprintln!("warning: {error:#}"),
        Err(_) => eprintln!("warning: the nodes did not answer in time when they were asked to clean up"),
    }
    if !inspection.shown.load(Ordering::Relaxed) {
        print_report(&report, &run, args.json)?;
    }
    Ok(report.exit_code())
}

/// The result, for people or programs.
pub(crate) fn print_report(report: &Report, run: &Run, json: bool) -> anyhow::Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
    } else {
        println!("{}", report.summary());
        if let Some(page) = report.pages.first() {
            let more =
                if report.pages.len() > 1 { format!(" and {} more", report.pages.len() - 1) } else { String::new() };
            println!("  page     {}{more}", shown(&run.dir.join(page)));
        }
        println!("  history  {}", shown(&run.history()));
        println!("  again    squall run --replay {}", shown(&run.dir));
    }
    Ok(())
}

/// A path as short as a person would write it here.
pub(crate) fn shown(path: &Path) -> String {
    let here = std::env::current_dir().unwrap_or_default();
    path.strip_prefix(&here).unwrap_or(path).display().to_string()
}

async fn bring_up(
    test: &Test,
    run: &Run,
    machines: Option<&Machines>,
    progress: &Progress,
) -> anyhow::Result<(Cluster, String)> {
    if let Some(machines) = machines {
        let say = |what: &str| progress.now(what.to_owned());
        let cluster = machines.up(&ssh::program::find()?, test.lease, &say).await?;
        let what = format!("{} virtual machines", cluster.nodes.len());
        return Ok((cluster, what));
    }
    match &test.provider {
        Provider::Vagrant { .. } => bail!("nobody opened the folder of the machines"),
        Provider::Local { nodes } => {
            let cluster = local::up(*nodes, &run.dir.join("nodes"), test.lease).await?;
            Ok((cluster, format!("{nodes} nodes in namespaces")))
        }
        Provider::Ssh { hosts } => {
            let cluster = ssh::up(hosts, &ssh::program::find()?, test.lease).await?;
            let what = format!("{} hosts over ssh", cluster.nodes.len());
            Ok((cluster, what))
        }
    }
}

/// Destroys the machines that were made for this run, unless they are to be kept.
async fn end_machines(args: &Args, machines: Option<Machines>, progress: &Progress) {
    let Some(machines) = machines.filter(|_| !args.keep) else { return };
    progress.now("destroying the machines that were made for this run".to_owned());
    if let Err(error) = machines.end().await {
        eprintln!("warning: machines may be left, see `squall cluster status`: {error:#}");
    }
}

/// Ends everything that the agents started and undoes what is left.
async fn take_down(cluster: &Cluster) -> anyhow::Result<()> {
    let ends = cluster.controls().into_iter().map(|(name, control)| async move {
        let end = control.call(squall_agent::protocol::Request::Shutdown).await;
        end.map(|_| ()).with_context(|| format!("cannot clean up {name}"))
    });
    futures::future::join_all(ends).await.into_iter().collect()
}

/// Counts Ctrl-C, SIGTERM and SIGHUP; at the third it leaves at once.
async fn count_interrupts(count: watch::Sender<u32>) {
    let Ok(mut signals) = Signals::listen() else { return };
    loop {
        signals.next().await;
        count.send_modify(|count| *count += 1);
        match *count.borrow() {
            1 => eprintln!("\n  stop     healing and saving; once more to leave at once"),
            2 => {}
            _ => std::process::exit(EXIT_FAILURE.into()),
        }
    }
}

async fn interrupted(mut interrupts: watch::Receiver<u32>, times: u32) {
    if interrupts.wait_for(|count| *count >= times).await.is_err() {
        std::future::pending::<()>().await;
    }
}

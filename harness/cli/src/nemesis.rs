//! `squall nemesis`: what faults there are, and each of them tried on a small cluster of its own.

use crate::{BadInput, EXIT_FAILURE};
use anyhow::{Context, bail};
use clap::Subcommand;
use squall_agent::protocol::Request;
use squall_harness::cluster::local::{self, Entered};
use squall_harness::cluster::ssh;
use squall_harness::cluster::vagrant::Machines;
use squall_harness::config::{Doc, Section, unknown};
use squall_harness::nemesis::{FaultDoc, Trial, TrialNeeds};
use squall_harness::registry::find;
use squall_harness::{Cluster, Registry, Target};
use std::collections::BTreeMap;
use std::fmt::Write;
use std::num::NonZeroUsize;
use std::path::PathBuf;
use std::process::{Command, ExitCode, Stdio};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;
use tabled::builder::Builder;
use tabled::settings::{Padding, Style, Width, object::Columns, peaker::Priority};

/// Exit code of a trial whose fault did not do what it should.
const EXIT_NOT_AS_EXPECTED: u8 = 1;

/// Faults and processes of a trial outlive it by at most this.
const LEASE: Duration = Duration::from_secs(20);

/// The same on virtual machines, which may be slow.
const LEASE_OF_MACHINES: Duration = Duration::from_secs(60);

/// How long removing the files of an earlier trial may take.
const SWEEP_TIME_MAX: Duration = Duration::from_secs(20);

/// How often the folder of a trial is tried to be removed.
const REMOVALS_MAX: u32 = 100;

/// How wide a table may be (columns of a terminal).
const TABLE_WIDTH: usize = 160;

#[derive(clap::Args)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Do,
}

#[derive(Subcommand)]
enum Do {
    /// All faults: what they do, by what means, what they need, how it is known that they bit
    List,
    /// Bring up a small cluster, inject one fault, measure its effect from outside, heal, measure again; exit code 1 when it
    /// was not as expected
    Try(TryArgs),
}

#[derive(clap::Args)]
struct TryArgs {
    /// The fault
    #[arg(required_unless_present = "all")]
    fault: Option<String>,
    /// Its keys as in a test file: '{ nodes: all }'
    keys: Option<String>,
    /// Try every fault
    #[arg(long, conflicts_with = "fault")]
    all: bool,
    /// So many of them at a time
    #[arg(long, requires = "all", default_value = "1")]
    jobs: NonZeroUsize,
    /// On the virtual machines of provider `vagrant` instead of a local cluster; those that are not up are made, and destroyed
    /// at the end
    #[arg(long, conflicts_with = "jobs")]
    machines: bool,
    /// Their folder, with Vagrantfile and cluster.yaml
    #[arg(long, default_value = "vagrant", requires = "machines")]
    folder: PathBuf,
    /// Print the table of the documentation
    #[arg(long, requires = "all")]
    markdown: bool,
    /// Print the result as JSON
    #[arg(long)]
    json: bool,
}

pub(crate) fn run(args: &Args, registry: &Registry) -> anyhow::Result<ExitCode> {
    match &args.command {
        Do::List => {
            println!("{}", list(&registry.nemesis.faults()));
            Ok(ExitCode::SUCCESS)
        }
        Do::Try(args) if args.all => try_all(args, registry),
        Do::Try(args) => try_one(args, registry),
    }
}

fn list(faults: &[FaultDoc]) -> String {
    let mut table = Builder::default();
    table.push_record(["fault", "what it does", "mechanism", "needs", "verified by"]);
    for fault in faults {
        table.push_record([fault.name, fault.what, fault.mechanism, fault.needs, fault.verified]);
    }
    let mut table = table.build();
    table.with(Style::blank()).with(Padding::new(0, 1, 0, 0));
    table.modify(Columns::first(), Padding::new(0, 2, 0, 0));
    table.with(Width::wrap(TABLE_WIDTH).priority(Priority::max(true)).keep_words(true));
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

fn try_one(args: &TryArgs, registry: &Registry) -> anyhow::Result<ExitCode> {
    let name = args.fault.as_deref().unwrap_or_default();
    let known = registry.nemesis.faults().into_iter().map(|fault| fault.name).collect::<Vec<_>>();
    let needs = registry.nemesis.trial_needs(name).ok_or_else(|| BadInput(unknown("fault", name, known)))?;
    let keys = args.keys.as_deref().map(keys).transpose()?;
    let target = target(&needs, registry)?;
    let trial = if args.machines {
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        let machines = Machines::open(&args.folder, Some(needs.nodes))?;
        let trial = runtime.block_on(on_machines(&machines, name, keys, (needs.nodes, target), registry));
        runtime.block_on(machines.end())?;
        trial?
    } else {
        // Before any thread exists. The child reads the same arguments again and arrives here inside.
        if let Entered::Done(code) = local::enter()? {
            return Ok(code);
        }
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
        runtime.block_on(on_a_cluster(name, keys, needs, target, registry))?
    };
    if args.json {
        println!("{}", serde_json::to_string(&trial)?);
    } else {
        print!("{}", text(&trial));
    }
    Ok(if trial.problem.is_none() { ExitCode::SUCCESS } else { EXIT_NOT_AS_EXPECTED.into() })
}

/// The target that a trial wants; without one it brings a script of its own.
fn target(needs: &TrialNeeds, registry: &Registry) -> anyhow::Result<Option<Arc<dyn Target>>> {
    let Some(target) = needs.target else { return Ok(None) };
    let kind = find(&registry.targets, "target", target).map_err(BadInput)?;
    Ok(Some((kind.read)(&mut Section::new("target", Doc::empty())?)?.into()))
}

/// A trial on virtual machines, in a session of its own.
async fn on_machines(
    machines: &Machines,
    fault: &str,
    keys: Option<Doc>,
    (nodes, target): (usize, Option<Arc<dyn Target>>),
    registry: &Registry,
) -> anyhow::Result<Trial> {
    let say = |what: &str| eprintln!("  {what}");
    let cluster = Arc::new(machines.up_first(nodes, &ssh::program::find()?, LEASE_OF_MACHINES, &say).await?);
    // A local cluster is new for each trial; here an earlier one has left its files.
    let sweep = "find . -mindepth 1 -maxdepth 1 ! -name agent ! -name bin -exec rm -rf {} +";
    for node in &cluster.nodes {
        let argv = ["sh", "-c", sweep].map(str::to_owned).to_vec();
        let exec = Request::Exec { argv, env: BTreeMap::new(), timeout_ms: SWEEP_TIME_MAX.as_millis() as u64 };
        node.control.call(exec).await?;
    }
    let trial = registry.nemesis.try_fault(fault, keys, cluster.clone(), target).await;
    let ended = end_sessions(&cluster).await;
    let trial = trial?;
    ended.map(|()| trial)
}

/// Ends everything that the agents started and undoes what is left.
async fn end_sessions(cluster: &Cluster) -> anyhow::Result<()> {
    let ends = cluster.controls().into_iter().map(|(name, control)| async move {
        let end = control.call(Request::Shutdown).await;
        end.map(|_| ()).with_context(|| format!("cannot clean up {name}"))
    });
    futures::future::join_all(ends).await.into_iter().collect()
}

/// The map in an argument.
fn keys(argument: &str) -> anyhow::Result<Doc> {
    let text = format!("keys: {argument}");
    let doc = Section::new("keys", Doc::parse("KEYS", &text)?)?.raw("keys", "map", "keys of the fault")?;
    Ok(doc.unwrap_or_else(Doc::empty))
}

async fn on_a_cluster(
    fault: &str,
    keys: Option<Doc>,
    needs: TrialNeeds,
    target: Option<Arc<dyn Target>>,
    registry: &Registry,
) -> anyhow::Result<Trial> {
    // Not by process id: in its namespace it is always the same.
    let dir = tempfile::Builder::new().prefix(&format!("squall-try-{fault}-")).tempdir()?.keep();
    let cluster = Arc::new(local::up(needs.nodes, &dir, LEASE).await?);
    let trial = registry.nemesis.try_fault(fault, keys, cluster.clone(), target).await;
    let ended = end_sessions(&cluster).await;
    drop(cluster);
    let trial = trial?;
    ended?;
    // A watchdog that is just leaving may still write there.
    let mut removals = 1;
    while let Err(error) = std::fs::remove_dir_all(&dir) {
        if removals == REMOVALS_MAX {
            return Err(error).with_context(|| format!("cannot remove {}", dir.display()));
        }
        removals += 1;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }
    Ok(trial)
}

fn text(trial: &Trial) -> String {
    let mut out = format!("{} {} on {}\n", trial.fault, trial.keys, trial.targets);
    let lines = [
        ("before", &trial.before),
        ("during", &trial.during),
        ("after", &trial.after),
        ("expected", &trial.expected),
        ("agents", &trial.agents),
    ];
    for (name, what) in lines {
        let _ = writeln!(out, "  {name:<9} {what}");
    }
    match &trial.problem {
        None => out.push_str("  OK        as expected, and gone\n"),
        Some(problem) => {
            let _ = writeln!(out, "  FAILED    {problem}");
        }
    }
    out
}

fn try_all(args: &TryArgs, registry: &Registry) -> anyhow::Result<ExitCode> {
    let faults = registry.nemesis.faults();
    let trials =
        if args.machines { all_on_machines(args, &faults, registry)? } else { all_locally(args, &faults, registry) };
    let trials: Vec<(FaultDoc, Trial)> = faults.into_iter().zip(trials).collect();
    if args.markdown {
        print!("{}", markdown(&trials, args.machines));
    } else if args.json {
        println!("{}", serde_json::to_string_pretty(&trials.iter().map(|(_, trial)| trial).collect::<Vec<_>>())?);
    } else {
        trials.iter().for_each(|(_, trial)| print!("\n{}", text(trial)));
    }
    let failed = trials.iter().any(|(_, trial)| trial.problem.is_some());
    Ok(if failed { EXIT_NOT_AS_EXPECTED.into() } else { ExitCode::SUCCESS })
}

/// Every fault on the same machines, one after the other, each in a session of its own.
fn all_on_machines(args: &TryArgs, faults: &[FaultDoc], registry: &Registry) -> anyhow::Result<Vec<Trial>> {
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let all: Vec<TrialNeeds> = faults.iter().filter_map(|fault| registry.nemesis.trial_needs(fault.name)).collect();
    // Those of cluster.yaml, whatever a trial wishes: none of them makes or destroys its own.
    let machines = Machines::open(&args.folder, None)?;
    let mut trials = Vec::new();
    for (fault, needs) in faults.iter().zip(&all) {
        let trial = target(needs, registry)
            .and_then(|target| {
                runtime.block_on(on_machines(&machines, fault.name, None, (needs.nodes, target), registry))
            })
            .unwrap_or_else(|error| untried(fault, "", Some(format!("{error:#}"))));
        eprintln!("{:<20} {}", fault.name, trial.problem.as_deref().unwrap_or("as expected, and gone"));
        trials.push(trial);
    }
    runtime.block_on(machines.end())?;
    Ok(trials)
}

/// Every fault in a process and namespaces of its own.
fn all_locally(args: &TryArgs, faults: &[FaultDoc], registry: &Registry) -> Vec<Trial> {
    let needs_machines =
        |fault: &FaultDoc| registry.nemesis.trial_needs(fault.name).is_some_and(|needs| needs.machines);
    let needs_machines: Vec<bool> = faults.iter().map(needs_machines).collect();
    let (next, done) = (AtomicUsize::new(0), Mutex::new(Vec::new()));
    std::thread::scope(|scope| {
        for _ in 0..args.jobs.get() {
            scope.spawn(|| {
                loop {
                    let number = next.fetch_add(1, Ordering::Relaxed);
                    let Some(fault) = faults.get(number) else { return };
                    let needs_machines = needs_machines[number];
                    let trial = match needs_machines {
                        true => untried(fault, NEEDS_MACHINES, None),
                        false => in_a_process(fault.name)
                            .unwrap_or_else(|error| untried(fault, "", Some(format!("{error:#}")))),
                    };
                    let said = if needs_machines { NEEDS_MACHINES } else { "as expected, and gone" };
                    eprintln!("{:<20} {}", fault.name, trial.problem.as_deref().unwrap_or(said));
                    done.lock().unwrap_or_else(PoisonError::into_inner).push((number, trial));
                }
            });
        }
    });
    let mut done = done.into_inner().unwrap_or_else(PoisonError::into_inner);
    done.sort_by_key(|(number, _)| *number);
    done.into_iter().map(|(_, trial)| trial).collect()
}

/// Said of a fault that a local cluster cannot have.
const NEEDS_MACHINES: &str = "needs machines of their own: tried on virtual machines (vagrant/FAULTS.md)";

/// A row without readings.
fn untried(fault: &FaultDoc, expected: &str, problem: Option<String>) -> Trial {
    Trial {
        fault: fault.name.to_owned(),
        keys: String::new(),
        targets: String::new(),
        before: String::new(),
        during: String::new(),
        after: String::new(),
        expected: expected.to_owned(),
        agents: String::new(),
        problem,
    }
}

fn in_a_process(fault: &str) -> anyhow::Result<Trial> {
    let output = Command::new("/proc/self/exe")
        .args(["nemesis", "try", fault, "--json"])
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .output()
        .context("cannot start the trial")?;
    match output.status.code() {
        Some(0 | 1) => serde_json::from_slice(&output.stdout).context("the trial printed no result"),
        code => {
            let said = String::from_utf8_lossy(&output.stderr);
            let code = code.unwrap_or(EXIT_FAILURE.into());
            bail!("not tried (exit code {code}): {}", said.trim().trim_start_matches("error: "))
        }
    }
}

fn markdown(trials: &[(FaultDoc, Trial)], on_machines: bool) -> String {
    let (title, how, where_) = match on_machines {
        true => ("All faults, tried on virtual machines", " --machines", "virtual machines, a session each"),
        false => ("All faults, tried", "", "a small local cluster of its own"),
    };
    let mut out = format!(
        "# {title}\n\n\
         Written by `squall nemesis try --all{how} --markdown`: every fault on {where_}, measured by the \
         kernel and by programs that are not ours, before, during and after. `squall nemesis try FAULT{how}` does one of them.\n",
    );
    // What they are stands in the other table.
    if !on_machines {
        out.push_str("\n| fault | what it does | mechanism | needs | verified in a run by |\n|---|---|---|---|---|\n");
        for (doc, _) in trials {
            let cells = [doc.what, doc.mechanism, doc.needs, doc.verified].map(escaped);
            let _ = writeln!(out, "| `{}` | {} |", doc.name, cells.join(" | "));
        }
    }
    out.push_str(
        "\n## What was seen\n\n| fault | tried with | before | during | after | expected | |\n|---|---|---|---|---|---|---|\n",
    );
    for (doc, trial) in trials {
        let verdict = match &trial.problem {
            Some(why) => format!("**failed**: {why}"),
            None if trial.before.is_empty() => "not tried here".to_owned(),
            None => "as expected".to_owned(),
        };
        let cells = [&trial.before, &trial.during, &trial.after, &trial.expected, &verdict].map(|cell| escaped(cell));
        let _ = writeln!(out, "| `{}` | `{}` | {} |", doc.name, escaped(&trial.keys), cells.join(" | "));
    }
    out
}

fn escaped(text: &str) -> String {
    text.replace('|', "\\|").replace('\n', " ")
}

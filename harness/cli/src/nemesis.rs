//! `squall nemesis`: what faults there are, and each of them tried on a small cluster of its own.

use crate::{BadInput, EXIT_FAILURE};
use anyhow::{Context, bail};
use clap::Subcommand;
use squall_harness::cluster::local::{self, Entered};
use squall_harness::config::{Doc, Section, unknown};
use squall_harness::nemesis::{FaultDoc, Trial, TrialNeeds};
use squall_harness::registry::find;
use squall_harness::{Registry, Target};
use std::fmt::Write;
use std::num::NonZeroUsize;
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
    let target: Option<Arc<dyn Target>> = match needs.target {
        None => None,
        Some(target) => {
            let kind = find(&registry.targets, "target", target).map_err(BadInput)?;
            Some((kind.read)(&mut Section::new("target", Doc::empty())?)?.into())
        }
    };
    // Before any thread exists. The child reads the same arguments again and arrives here inside.
    if let Entered::Done(code) = local::enter()? {
        return Ok(code);
    }
    let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build()?;
    let trial = runtime.block_on(on_a_cluster(name, keys, needs, target, registry))?;
    if args.json {
        println!("{}", serde_json::to_string(&trial)?);
    } else {
        print!("{}", text(&trial));
    }
    Ok(if trial.problem.is_none() { ExitCode::SUCCESS } else { EXIT_NOT_AS_EXPECTED.into() })
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
    let ends = cluster.controls().into_iter().map(|(name, control)| async move {
        let end = control.call(squall_agent::protocol::Request::Shutdown).await;
        end.map(|_| ()).with_context(|| format!("cannot clean up {name}"))
    });
    let ended: anyhow::Result<()> = futures::future::join_all(ends).await.into_iter().collect();
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

/// Every fault in a process and namespaces of its own.
fn try_all(args: &TryArgs, registry: &Registry) -> anyhow::Result<ExitCode> {
    let faults = registry.nemesis.faults();
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
    let trials: Vec<(FaultDoc, Trial)> = faults.into_iter().zip(done.into_iter().map(|(_, trial)| trial)).collect();
    if args.markdown {
        print!("{}", markdown(&trials));
    } else if args.json {
        println!("{}", serde_json::to_string_pretty(&trials.iter().map(|(_, trial)| trial).collect::<Vec<_>>())?);
    } else {
        trials.iter().for_each(|(_, trial)| print!("\n{}", text(trial)));
    }
    let failed = trials.iter().any(|(_, trial)| trial.problem.is_some());
    Ok(if failed { EXIT_NOT_AS_EXPECTED.into() } else { ExitCode::SUCCESS })
}

/// Said of a fault that a local cluster cannot have.
const NEEDS_MACHINES: &str = "needs machines of their own: tried on virtual machines (`.ci/vm`)";

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

fn markdown(trials: &[(FaultDoc, Trial)]) -> String {
    let mut out = String::from(
        "# All faults, tried\n\n\
         Written by `squall nemesis try --all --markdown`: every fault on a small local cluster of its own, measured by the \
         kernel and by programs that are not ours, before, during and after. `squall nemesis try FAULT` does one of them.\n\n\
         | fault | what it does | mechanism | needs | verified in a run by |\n|---|---|---|---|---|\n",
    );
    for (doc, _) in trials {
        let cells = [doc.what, doc.mechanism, doc.needs, doc.verified].map(escaped);
        let _ = writeln!(out, "| `{}` | {} |", doc.name, cells.join(" | "));
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

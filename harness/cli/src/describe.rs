//! `squall list` and `squall describe`: what can be said in a test file.

use anyhow::bail;
use squall_harness::cluster::ssh;
use squall_harness::config::{KeyDoc, unknown};
use squall_harness::report::Report;
use squall_harness::store::{RESULTS, runs};
use squall_harness::{Registry, test};
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct ListArgs {
    /// targets, workloads, faults or runs; everything but runs when absent
    what: Option<String>,
    /// Where runs are kept
    #[arg(long, default_value = "store", env = "SQUALL_STORE")]
    store: PathBuf,
}

#[derive(clap::Args)]
pub(crate) struct DescribeArgs {
    /// A target, workload or fault; `test` for the test file itself, `hosts` for a hosts file
    name: String,
}

const LISTS: [&str; 4] = ["targets", "workloads", "faults", "runs"];

pub(crate) fn list(args: &ListArgs, registry: &Registry) -> anyhow::Result<()> {
    let wanted = args.what.as_deref();
    if let Some(what) = wanted.filter(|what| !LISTS.contains(what)) {
        bail!("{}", unknown("list", what, LISTS));
    }
    let section = |title: &str, lines: Vec<(&str, &str)>| {
        println!("{title}");
        for (name, doc) in lines {
            println!("  {name:<17} {doc}");
        }
    };
    if wanted.is_none_or(|what| what == "targets") {
        section("targets", registry.targets.iter().map(|kind| (kind.name, kind.doc)).collect());
    }
    if wanted.is_none_or(|what| what == "workloads") {
        section("workloads", registry.workloads.iter().map(|kind| (kind.name, kind.doc)).collect());
    }
    if wanted.is_none_or(|what| what == "faults") {
        section("faults", registry.nemesis.faults().iter().map(|fault| (fault.name, fault.what)).collect());
        section("in the nemesis list, beside faults", registry.nemesis.entries());
    }
    if wanted == Some("runs") {
        for run in runs(&args.store)? {
            let report = run.read(RESULTS).ok().and_then(|text| serde_json::from_str::<Report>(&text).ok());
            let (verdict, why) = match &report {
                Some(report) => (report.verdict.as_str(), report.reasons.first().map_or("", String::as_str)),
                None => ("-", "no result: the run failed or was killed"),
            };
            println!("{:<8} {} {why}", verdict, run.dir.display());
        }
    } else if wanted.is_none() {
        println!("\n`squall describe NAME` explains the keys; `squall list runs` shows what was run.");
    }
    Ok(())
}

pub(crate) fn describe(args: &DescribeArgs, registry: &Registry) -> anyhow::Result<()> {
    let name = args.name.as_str();
    if name == "test" {
        print(&test::keys());
        return Ok(());
    }
    if name == "hosts" {
        print(&ssh::keys());
        return Ok(());
    }
    let mut found = false;
    if let Some(kind) = registry.targets.iter().find(|kind| kind.name == name) {
        println!("target {name}: {}", kind.doc);
        print(&kind.keys("target")?);
        found = true;
    }
    if let Some(kind) = registry.workloads.iter().find(|kind| kind.name == name) {
        println!("workload {name}: {}", kind.doc);
        print(&kind.keys("workload")?);
        found = true;
    }
    if let (Some(keys), Some(fault)) =
        (registry.nemesis.keys(name), registry.nemesis.faults().into_iter().find(|fault| fault.name == name))
    {
        println!("fault {name}: {}", fault.what);
        print(&keys);
        found = true;
    }
    if let (Some(keys), Some((_, what))) =
        (registry.nemesis.keys(name), registry.nemesis.entries().into_iter().find(|(entry, _)| *entry == name))
    {
        println!("nemesis {name}: {what}");
        print(&keys);
        found = true;
    }
    if found {
        return Ok(());
    }
    let targets = registry.targets.iter().map(|kind| kind.name);
    let workloads = registry.workloads.iter().map(|kind| kind.name);
    let faults = registry.nemesis.faults().into_iter().map(|fault| fault.name);
    let entries = registry.nemesis.entries().into_iter().map(|(entry, _)| entry);
    let known: Vec<&str> = targets.chain(workloads).chain(faults).chain(entries).chain(["test", "hosts"]).collect();
    bail!("{}", unknown("name", name, known))
}

fn print(keys: &[KeyDoc]) {
    for key in keys {
        let default = key.default.as_ref().map_or(String::new(), |default| format!(" = {default}"));
        println!("  {} ({}{default})\n      {}", key.path, key.kind, key.doc);
    }
}

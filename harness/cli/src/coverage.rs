//! `squall coverage`: what many runs together exercised, and what none of them ever did.

use anyhow::Context;
use squall_harness::Registry;
use squall_harness::nemesis::Cell;
use squall_harness::report::Report;
use squall_harness::store::{RESULTS, Run, runs};
use std::collections::{BTreeMap, BTreeSet};
use std::path::PathBuf;
use tabled::builder::Builder;
use tabled::settings::{Alignment, Padding, Style, object::Columns};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Runs (folders, or `latest`); all in the store when none is given
    runs: Vec<PathBuf>,
    /// Where runs are kept
    #[arg(long, default_value = "store", env = "SQUALL_STORE")]
    store: PathBuf,
    /// Print as JSON
    #[arg(long)]
    json: bool,
}

/// Faults by name, each with its cells: (role, phase) and how often.
type Counts = BTreeMap<String, BTreeMap<(String, String), u64>>;

pub(crate) fn run(args: &Args, registry: &Registry) -> anyhow::Result<()> {
    let chosen = if args.runs.is_empty() {
        runs(&args.store)?
    } else {
        args.runs.iter().map(|run| Run::open(&args.store, run)).collect::<anyhow::Result<_>>()?
    };
    let (mut counts, mut read) = (Counts::new(), 0);
    for run in &chosen {
        // A run that failed has no result.
        let Ok(text) = run.read(RESULTS) else { continue };
        let report: Report =
            serde_json::from_str(&text).with_context(|| format!("{RESULTS} of {} is damaged", run.dir.display()))?;
        read += 1;
        for Cell { fault, role, phase, times } in report.coverage {
            *counts.entry(fault).or_default().entry((role, phase)).or_default() += times;
        }
    }
    let axes = registry.nemesis.axes();
    let names: Vec<&str> = registry.nemesis.faults().iter().map(|fault| fault.name).collect();
    let never = never(&counts, &names, &axes);
    if args.json {
        let cells: Vec<Cell> = counts
            .into_iter()
            .flat_map(|(fault, cells)| {
                cells.into_iter().map(move |((role, phase), times)| Cell { fault: fault.clone(), role, phase, times })
            })
            .collect();
        println!(
            "{}",
            serde_json::to_string_pretty(&serde_json::json!({ "runs": read, "cells": cells, "never": never }))?
        );
        return Ok(());
    }
    println!("{read} runs with a result\n");
    if !counts.is_empty() {
        println!("{}\n", table(&counts));
    }
    println!("never tried");
    never.iter().for_each(|line| println!("  {line}"));
    if never.is_empty() {
        println!("  nothing is missing");
    }
    Ok(())
}

fn table(counts: &Counts) -> String {
    let columns: BTreeSet<&(String, String)> = counts.values().flat_map(BTreeMap::keys).collect();
    let mut table = Builder::default();
    let head = columns.iter().map(|(role, phase)| format!("{role}\n{phase}"));
    table.push_record(std::iter::once("fault".to_owned()).chain(head));
    for (fault, cells) in counts {
        let row = columns.iter().map(|cell| cells.get(*cell).map_or("-".to_owned(), u64::to_string));
        table.push_record(std::iter::once(fault.clone()).chain(row));
    }
    let mut table = table.build();
    table.with(Style::blank()).with(Padding::new(0, 2, 0, 0));
    table.modify(Columns::new(1..), Alignment::right());
    table.to_string().lines().map(str::trim_end).collect::<Vec<_>>().join("\n")
}

/// Faults that no run had, and of the others the cells that none had.
fn never(counts: &Counts, faults: &[&str], (roles, phases): &(Vec<&str>, Vec<&str>)) -> Vec<String> {
    let untried: Vec<&str> = faults.iter().filter(|fault| !counts.contains_key(**fault)).copied().collect();
    let mut lines = Vec::new();
    if !untried.is_empty() {
        lines.push(format!("these faults at all: {}", untried.join(", ")));
    }
    for (fault, cells) in counts {
        let missing: Vec<String> = roles
            .iter()
            .flat_map(|role| phases.iter().map(move |phase| ((*role).to_owned(), (*phase).to_owned())))
            // Without a leader nobody has a role.
            .filter(|cell| cell.1 != "leaderless" && !cells.contains_key(cell))
            .map(|(role, phase)| format!("{role} in {phase}"))
            .collect();
        if !missing.is_empty() {
            lines.push(format!("{fault}: {}", missing.join(", ")));
        }
    }
    lines
}

//! Histories of any length, checked while they are made: operations a second and peak memory.
//! `cargo bench -p squall-checkers --bench streaming [OPERATIONS [CLIENTS [UNFINISHED [MODEL]]]]`, where UNFINISHED is the
//! fraction of operations that are never answered.
//!
//! The history is a simulation; nothing of it is kept. Then a smaller one goes through a file of our own format, and
//! with MODEL `all` a hundredth of it through every model. Generating takes time, too: it is measured alone.

use squall_checkers::linear::online::{Finding, Online, OnlineOptions};
use squall_checkers::synth::Load;
use squall_checkers::{CheckResult, EventStream, HistoryWriter, ModelKind};
use std::time::Instant;

/// How many operations the file gets, at most.
const FILE_OPS: usize = 5_000_000;

fn main() {
    let args: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let number =
        |at: usize, default: usize| args.get(at).and_then(|arg| arg.replace('_', "").parse().ok()).unwrap_or(default);
    let (ops, clients) = (number(0, 1_000_000), number(1, 20));
    let unfinished = args.get(2).and_then(|arg| arg.parse().ok()).unwrap_or(0.0);
    let model = args.get(3).map_or("register", String::as_str);
    if model == "all" {
        for kind in ModelKind::ALL {
            stream(&Load { ops: ops / 100, clients, unfinished, ..Load::new(kind) });
        }
        return;
    }
    let kind = ModelKind::parse(model).expect("a model's name");
    let load = Load { ops, clients, unfinished, ..Load::new(kind) };
    let start = Instant::now();
    let events = load.simulate().count();
    println!("simulating alone takes {:.1} s ({events} events)", start.elapsed().as_secs_f64());
    stream(&load);
    from_file(&Load { ops: ops.min(FILE_OPS), ..load });
}

fn stream(load: &Load) {
    let Load { model, ops, clients, unfinished, .. } = load;
    println!("{}: {ops} operations, {clients} clients, {unfinished} of them unfinished", model.as_str());
    let start = Instant::now();
    let mut online = Online::new(load.model, OnlineOptions::default());
    let mut held = 0;
    for event in load.simulate() {
        match online.push(&event).expect("it pairs") {
            None => {}
            Some(Finding::GaveUp { index, reason, .. }) => println!("  gave up at event {index}: {reason}"),
            Some(Finding::Violation(violation)) => println!("  {violation}"),
        }
        held = held.max(online.memory());
    }
    report(&online.finish(), load.ops, start);
    println!("  the checker held {} KiB at most", held >> 10);
}

fn from_file(load: &Load) {
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("streamed.history");
    let mut writer = HistoryWriter::create(&path).expect("create");
    load.simulate().for_each(|event| writer.append(&event).expect("append"));
    writer.sync().expect("sync");
    let len = std::fs::metadata(&path).expect("written").len();
    println!("from a file: {} operations in {} MiB", load.ops, len >> 20);
    let start = Instant::now();
    let mut online = Online::new(load.model, OnlineOptions::default());
    for event in EventStream::open(&path).expect("open") {
        online.push(&event.expect("read")).expect("it pairs");
    }
    report(&online.finish(), load.ops, start);
}

fn report(result: &CheckResult, ops: usize, start: Instant) {
    let seconds = start.elapsed().as_secs_f64();
    let engine = result.keys.first().map_or("", |key| key.engine.as_str());
    println!("  {} ({engine}) in {seconds:.1} s, {:.0} operations/s", result.verdict, ops as f64 / seconds);
    println!("  peak memory of this process: {}", peak().unwrap_or_else(|| "not known here".to_owned()));
}

/// As the kernel says it (Linux).
fn peak() -> Option<String> {
    let status = std::fs::read_to_string("/proc/self/status").ok()?;
    let line = status.lines().find(|line| line.starts_with("VmHWM"))?;
    let kib: u64 = line.split_whitespace().nth(1)?.parse().ok()?;
    Some(format!("{:.1} MiB", kib as f64 / 1024.0))
}

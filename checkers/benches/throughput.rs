//! How fast histories are written, read and checked. `cargo bench -p squall-checkers`; prints one line a case.
//!
//! Histories are simulated registers, seeded: the same on every machine. Corpus cases run where the corpus is at hand. What
//! is held against numbers of others is in `peers`; other models are in `models`.

mod common;

use common::median;
use squall_checkers::synth::{Load, Place, Values};
use squall_checkers::{
    CheckOptions, EngineChoice, Event, FailMeans, History, HistoryReader, HistoryWriter, ImportOptions, ModelKind,
    linear, read_any,
};
use std::path::Path;
use std::time::{Duration, Instant};

/// One key, unique writes, ten clients.
fn register() -> Load {
    Load { ops: 10_000, ..Load::new(ModelKind::Register) }
}

/// Runs a check again and again for at most a second; the median of the decisions alone, and one with explanations.
fn check(name: &str, history: &History, kind: ModelKind, engine: EngineChoice, fail_means: FailMeans, threads: usize) {
    let options = |explain| {
        let deadline = Some(Instant::now() + Duration::from_secs(20));
        CheckOptions { deadline, threads, engine, fail_means, explain, ..CheckOptions::default() }
    };
    let (decided, _) = median(|| linear::check(history, kind, &options(false)));
    let start = Instant::now();
    let result = linear::check(history, kind, &options(true));
    let explained = start.elapsed().as_secs_f64() * 1e3;
    println!(
        "{name:44} {engine:?} {decided:>9.3} ms ({explained:>9.3} explained)  {:7} {:>9} configurations  {}",
        result.verdict, result.stats.configurations, result.reason
    );
}

fn writing(history: &History) {
    let events: Vec<Event> = history.iter().collect();
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("bench.history");
    let start = Instant::now();
    let mut writer = HistoryWriter::create(&path).expect("create");
    for event in &events {
        writer.append(event).expect("append");
    }
    writer.sync().expect("sync");
    let took = start.elapsed().as_secs_f64();
    let len = std::fs::metadata(&path).expect("written").len();
    println!(
        "write {} events: {:.2} M events/s, {:.1} bytes each",
        events.len(),
        events.len() as f64 / took / 1e6,
        len as f64 / events.len() as f64
    );
    let start = Instant::now();
    let (again, _) = HistoryReader::read_file(&path).expect("read");
    let took = start.elapsed().as_secs_f64();
    println!("read: {:.2} M events/s", again.len() as f64 / took / 1e6);
}

fn main() {
    let cas = Load { ops: 100_000, keys: 40, unfinished: 0.005, ..Load::new(ModelKind::CasRegister) };
    writing(&Load { ops: 1_000_000, unfinished: 0.0, ..cas.clone() }.history());
    let (auto, search) = (EngineChoice::Auto, EngineChoice::Search);
    let answers = Load { fail_means: FailMeans::AnsweredNo, ..cas.clone() };
    let few = |load: &Load| Load { values: Values::Distinct(5), ..load.clone() };
    let stale = Load { violation: Some(Place::At(0.9)), ..cas.clone() };
    for (name, load, engine) in [
        ("run: 100k ops, 40 keys, 500 unfinished", cas.clone(), auto),
        ("run, by search", cas.clone(), search),
        ("run, refusals observed", answers.clone(), auto),
        ("run, 5 values", few(&cas), auto),
        ("run, 5 values, refusals observed", few(&answers), auto),
        ("run, 20 clients, 5 % unfinished", Load { clients: 20, unfinished: 0.05, ..cas.clone() }, search),
        ("run, stale read", stale.clone(), auto),
        ("run, stale read, by search", stale, search),
        ("unique-write register, 10 clients, 30k", Load { ops: 30_000, ..register() }, auto),
        ("unique-write register, 10 clients, 30k", Load { ops: 30_000, ..register() }, search),
    ] {
        check(name, &load.history(), load.model, engine, load.fail_means, 1);
    }
    corpus(Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus").as_path());
}

fn corpus(corpus: &Path) {
    let read = |file: &str| read_any(corpus.join(file), &ImportOptions::default()).map(|(history, _)| history);
    if read("etcd/etcd_002.log").is_err() {
        return println!("no corpus");
    }
    let logs: Vec<History> = (0..=50).filter_map(|i| read(&format!("etcd/etcd_{i:03}.log")).ok()).collect();
    let check_log = |history: &History, explain| {
        let fail_means = FailMeans::AnsweredNo;
        let options = CheckOptions { fail_means, threads: 1, explain, ..CheckOptions::default() };
        linear::check(history, ModelKind::CasRegister, &options).stats.configurations
    };
    let all = |explain| median(|| logs.iter().map(|log| check_log(log, explain)).sum::<u64>());
    let ((decided, configurations), (explained, _)) = (all(false), all(true));
    let worst = logs.iter().map(|log| median(|| check_log(log, false)).0).fold(0.0, f64::max);
    println!(
        "{} etcd logs together: {decided:.3} ms ({explained:.3} explained), the worst {worst:.3} ms, {configurations} configurations",
        logs.len()
    );
    let no = FailMeans::NoEffect;
    for (file, kind) in [
        ("kv/c10-ok.edn", ModelKind::Kv),
        ("kv/c10-bad.edn", ModelKind::Kv),
        ("kv/c50-ok.edn", ModelKind::Kv),
        ("redis/redis-latency-injection-test.edn", ModelKind::Register),
    ] {
        let Ok(history) = read(file) else { continue };
        check(file, &history, kind, EngineChoice::Auto, no, 1);
        check(file, &history, kind, EngineChoice::Search, no, 1);
    }
}

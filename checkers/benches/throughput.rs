//! How fast histories are written, read and checked. `cargo bench -p squall-checkers`; prints one line a case.
//!
//! Histories are simulated registers, seeded: the same on every machine. Corpus cases run where the corpus is at hand.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_checkers::{
    CheckOptions, EngineChoice, Event, EventKind, FailMeans, History, HistoryReader, HistoryWriter, ImportOptions,
    ModelKind, Value, linear, read_any,
};
use std::path::Path;
use std::time::{Duration, Instant};

/// What to simulate.
#[derive(Clone, Copy)]
struct Load {
    ops: usize,
    keys: i64,
    clients: usize,
    /// Of 1000 operations, how many are never answered.
    unfinished: u32,
    /// 0: every write is unique.
    values: i64,
    cas: bool,
    /// Answer one read with an old value near the end.
    stale: bool,
}

const LOAD: Load = Load { ops: 10_000, keys: 1, clients: 10, unfinished: 0, values: 0, cas: false, stale: false };

/// One operation in flight.
struct Open {
    f: &'static str,
    key: i64,
    argument: Value,
    /// `None` until it took effect.
    answer: Option<(EventKind, Value)>,
}

/// A linearizable history: each operation takes effect at a random moment between its ends.
fn simulate(load: Load) -> History {
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    let mut registers = vec![(Value::Nil, Value::Nil); load.keys as usize];
    let mut open: Vec<Option<Open>> = (0..load.clients).map(|_| None).collect();
    let mut process: Vec<u32> = (0..load.clients as u32).collect();
    let mut history = History::new();
    let (mut started, mut unique, mut stale) = (0, 0, load.stale);
    while started < load.ops || open.iter().any(Option::is_some) {
        let client = rng.random_range(0..load.clients);
        let event = |history: &mut History, kind, process, open: &Open, value| {
            let index = history.len() as u64;
            let (f, key) = (open.f.into(), Value::Int(open.key));
            let node = Some(["n1", "n2", "n3", "n4", "n5"][client % 5].into());
            let time_ns = index * 25_017;
            let event = Event { index, time_ns, kind, process, f, key, value, node, intended_ns: None, error: None };
            history.push(event).expect("dense");
        };
        match &mut open[client] {
            None if started < load.ops => {
                started += 1;
                let key = rng.random_range(0..load.keys);
                let mut fresh = || match load.values {
                    0 => {
                        unique += 1;
                        Value::Int(unique)
                    }
                    n => Value::Int(rng.random_range(0..n)),
                };
                let value = fresh();
                let (f, argument) = match rng.random_range(0..4) {
                    0 => ("write", value),
                    1 if load.cas && load.values > 0 => {
                        ("cas", Value::list([Value::Int(rng.random_range(0..load.values)), value]))
                    }
                    1 if load.cas => ("cas", Value::list([registers[key as usize].0.clone(), value])),
                    1 => ("write", value),
                    _ => ("read", Value::Nil),
                };
                let op = Open { f, key, argument: argument.clone(), answer: None };
                event(&mut history, EventKind::Invoke, process[client], &op, argument);
                open[client] = Some(op);
            }
            None => {}
            Some(op) if op.answer.is_none() => op.answer = Some(take_effect(op, &mut registers)),
            Some(op) => {
                let (kind, mut value) = op.answer.clone().unwrap_or((EventKind::Ok, Value::Nil));
                if stale && started > load.ops * 9 / 10 && op.f == "read" {
                    let old = registers[op.key as usize].1.clone();
                    stale = old == value;
                    value = old;
                }
                if rng.random_range(0..1000) < load.unfinished {
                    event(&mut history, EventKind::Info, process[client], op, Value::Nil);
                    process[client] += load.clients as u32;
                } else {
                    event(&mut history, kind, process[client], op, value);
                }
                open[client] = None;
            }
        }
    }
    history
}

/// Register and an old value of it.
fn take_effect(op: &Open, registers: &mut [(Value, Value)]) -> (EventKind, Value) {
    let register = &mut registers[op.key as usize];
    match (op.f, op.argument.as_list()) {
        ("read", _) => (EventKind::Ok, register.0.clone()),
        ("cas", Some([expected, new])) if *expected == register.0 => {
            register.0 = new.clone();
            (EventKind::Ok, op.argument.clone())
        }
        ("cas", _) => (EventKind::Fail, op.argument.clone()),
        _ => {
            if let (Some(old), Some(new)) = (register.1.as_int(), register.0.as_int()) {
                // Keep an old one that stays old.
                if new - old > 50 {
                    register.1 = register.0.clone();
                }
            } else {
                register.1 = register.0.clone();
            }
            register.0 = op.argument.clone();
            (EventKind::Ok, op.argument.clone())
        }
    }
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

/// Milliseconds, and the last result.
fn median<T>(mut work: impl FnMut() -> T) -> (f64, T) {
    let begun = Instant::now();
    let mut times = Vec::new();
    loop {
        let start = Instant::now();
        let result = work();
        times.push(start.elapsed().as_secs_f64() * 1e3);
        if times.len() >= 21 || begun.elapsed() > Duration::from_secs(1) {
            times.sort_by(f64::total_cmp);
            return (times[times.len() / 2], result);
        }
    }
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
    writing(&simulate(Load { ops: 1_000_000, keys: 40, cas: true, ..LOAD }));
    let auto = EngineChoice::Auto;
    let search = EngineChoice::Search;
    let (no, yes) = (FailMeans::NoEffect, FailMeans::AnsweredNo);
    let register = ModelKind::Register;
    let cas = ModelKind::CasRegister;
    let real = Load { ops: 100_000, keys: 40, unfinished: 5, cas: true, ..LOAD };
    for (name, load, kind, engine, fail) in [
        ("run: 100k ops, 40 keys, 500 unfinished", real, cas, auto, no),
        ("run, by search", real, cas, search, no),
        ("run, refusals observed", real, cas, auto, yes),
        ("run, 5 values", Load { values: 5, ..real }, cas, auto, no),
        ("run, 5 values, refusals observed", Load { values: 5, ..real }, cas, auto, yes),
        ("run, 20 clients, 5 % unfinished", Load { clients: 20, unfinished: 50, ..real }, cas, search, no),
        ("run, stale read", Load { stale: true, ..real }, cas, auto, no),
        ("run, stale read, by search", Load { stale: true, ..real }, cas, search, no),
        ("unique-write register, 10 clients, 10k", LOAD, register, auto, no),
        ("unique-write register, 10 clients, 10k", LOAD, register, search, no),
        ("unique-write register, 10 clients, 30k", Load { ops: 30_000, ..LOAD }, register, auto, no),
        ("unique-write register, 10 clients, 30k", Load { ops: 30_000, ..LOAD }, register, search, no),
        ("unique-write register, 40 clients, 1k", Load { ops: 1000, clients: 40, ..LOAD }, register, auto, no),
        ("unique-write register, 40 clients, 1k", Load { ops: 1000, clients: 40, ..LOAD }, register, search, no),
        (
            "cas register, 5 values, 40 clients, 1k",
            Load { ops: 1000, clients: 40, values: 5, cas: true, ..LOAD },
            cas,
            auto,
            yes,
        ),
        (
            "cas register, 5 values, 260 unfinished, 10k",
            Load { values: 5, cas: true, unfinished: 26, ..LOAD },
            cas,
            auto,
            yes,
        ),
    ] {
        check(name, &simulate(load), kind, engine, fail, 1);
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

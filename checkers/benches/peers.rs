//! Line by line, the numbers to beat. `cargo bench -p squall-checkers --bench peers [NAME…]`.
//!
//! One thread, histories in memory, no explanation; what is ours includes pairing and grouping, and is a median, with the
//! fastest run beside it: where the machine has other work to do, that one says more. Every row names
//! the number that it is held against and whose it is, all measured on the same kind of machine (two cores):
//! Porcupine (Go 1.27, two threads), Knossos (JVM), a log-linear C++ tool, or a throwaway experiment of ours with one
//! thread. Histories of the corpus are read from beside the checkout; where it is not, their rows say so. Simulated ones
//! are of the same kind and size as those that the others were measured with, not the same ones.

mod common;

use common::{Times, timed};
use squall_checkers::model::{FailMeans, Kv, KvOp, KvState, Model};
use squall_checkers::synth::{Load, Values};
use squall_checkers::{
    CheckOptions, CheckResult, EngineChoice, Event, History, HistoryError, ImportOptions, ModelKind, Op, Outcome,
    Value, linear, read_any,
};
use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// Undecided after so long is as good as never.
const DEADLINE: Duration = Duration::from_secs(10);

/// A number to beat (milliseconds) and whose it is.
type ToBeat = (f64, &'static str);

const ETCD_ALL: ToBeat = (1.0, "required of the 51 logs here; experiment 1.6 with 102, Porcupine 314, Knossos 5100");
const ETCD_WORST: ToBeat = (0.09, "experiment; Porcupine 114");
const KV_C10: ToBeat = (0.3, "Porcupine");
const KV_C10_WHOLE_OK: ToBeat = (1400.0, "Porcupine, 443 MB");
const KV_C10_WHOLE_BAD: ToBeat = (1900.0, "Porcupine, 663 MB");
const KV_C50: ToBeat = (0.56, "experiment; Porcupine 58-135");
const UNIQUE_10K: ToBeat = (1570.0, "Porcupine, 1.77 GB");
const UNIQUE_30K_ZONES: ToBeat = (0.8, "experiment, zones; Porcupine unknown at 10 s");
const UNIQUE_30K_SEARCH: ToBeat = (58.0, "experiment, search");
const UNIQUE_40_CLIENTS: ToBeat = (0.016, "experiment, zones; Porcupine unknown at 60 s");
const CAS_40_CLIENTS: ToBeat = (1.8, "experiment; Porcupine unknown at 10 s");
const CAS_UNFINISHED: ToBeat = (10.0, "experiment; Porcupine 430");
const REDIS_ZONES: ToBeat = (0.08, "experiment, zones; Porcupine 10300, 2.4 GB");
const REDIS_SEARCH: ToBeat = (400.0, "experiment, search");
const QUEUE: ToBeat = (13.0, "log-linear C++ tool 13-19; Porcupine 15-21");
const STACK: ToBeat = (1.3, "log-linear C++ tool; Porcupine unknown at 10 s");

fn main() {
    println!(
        "{:44} {:>6} {:>10} {:>10} {:>10}  {:7}  whose",
        "history", "ops", "ours ms", "fastest", "to beat", "verdict"
    );
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    if corpus.join("etcd").is_dir() {
        etcd(&corpus);
        kv(&corpus);
    } else {
        println!("etcd logs, kv: not run, no corpus at {}", corpus.display());
    }
    registers();
    redis(&corpus.join("redis/redis-latency-injection-test.edn"));
    containers();
}

fn options(engine: EngineChoice, fail_means: FailMeans) -> CheckOptions {
    let deadline = Some(Instant::now() + DEADLINE);
    CheckOptions { deadline, threads: 1, engine, fail_means, explain: false, ..CheckOptions::default() }
}

/// Whether a row is asked for on the command line: all are where none is named.
fn is_wanted(name: &str) -> bool {
    let mut wanted = std::env::args().skip(1).filter(|arg| arg != "--bench").peekable();
    wanted.peek().is_none() || wanted.any(|part| name.contains(&part))
}

fn row(name: &str, to_beat: ToBeat, mut check: impl FnMut() -> CheckResult) {
    if is_wanted(name) {
        let (times, result) = timed(&mut check);
        print_row(name, result.stats.ops, times, to_beat, &result.verdict.to_string());
    }
}

fn print_row(name: &str, ops: u64, times: Times, (to_beat, whose): ToBeat, verdict: &str) {
    let Times { median, fastest } = times;
    let mark = if median <= to_beat { ' ' } else { '!' };
    println!("{name:44} {ops:>6} {median:>10.3} {fastest:>10.3} {to_beat:>10.3}{mark} {verdict:7}  {whose}");
}

fn read(path: PathBuf) -> History {
    read_any(&path, &ImportOptions::default()).unwrap_or_else(|error| panic!("{}: {error}", path.display())).0
}

fn etcd(corpus: &Path) {
    let logs: Vec<History> = (0..=50).map(|n| read(corpus.join(format!("etcd/etcd_{n:03}.log")))).collect();
    let check = |log| linear::check(log, ModelKind::CasRegister, &options(EngineChoice::Auto, FailMeans::AnsweredNo));
    if is_wanted("all 51 etcd logs together") {
        let (times, results) = timed(|| logs.iter().map(check).collect::<Vec<_>>());
        let ops: u64 = results.iter().map(|result| result.stats.ops).sum();
        let configurations: u64 = results.iter().map(|result| result.stats.configurations).sum();
        let what = format!("{configurations} configurations;");
        print_row("all 51 etcd logs together", ops, times, ETCD_ALL, &what);
    }
    if is_wanted("the worst of them") {
        let worst = logs.iter().map(|log| (timed(|| check(log)).0.fastest, log));
        let (_, worst) = worst.max_by(|a, b| a.0.total_cmp(&b.0)).expect("there are logs");
        row("the worst of them", ETCD_WORST, || check(worst));
    }
    row("etcd log 002 (20 unfinished of 77)", ETCD_WORST, || check(&logs[2]));
}

fn kv(corpus: &Path) {
    let read = |name: &str| read(corpus.join("kv").join(name));
    let check =
        |history: &History| linear::check(history, ModelKind::Kv, &options(EngineChoice::Auto, FailMeans::NoEffect));
    let (ok, bad, large) = (read("c10-ok.edn"), read("c10-bad.edn"), read("c50-ok.edn"));
    row("kv c10 ok", KV_C10, || check(&ok));
    row("kv c10 bad", KV_C10, || check(&bad));
    let whole =
        |history: &History| linear::check_with(history, &Store, &options(EngineChoice::Auto, FailMeans::NoEffect));
    let (ok, bad) = (without_keys(&ok), without_keys(&bad));
    row("kv c10 ok, all keys as one object", KV_C10_WHOLE_OK, || whole(&ok));
    row("kv c10 bad, all keys as one object", KV_C10_WHOLE_BAD, || whole(&bad));
    row("kv c50 ok", KV_C50, || check(&large));
}

fn registers() {
    let unique = Load { ops: 10_000, ..Load::new(ModelKind::Register) };
    let cas =
        Load { values: Values::Distinct(5), fail_means: FailMeans::AnsweredNo, ..Load::new(ModelKind::CasRegister) };
    let (auto, search) = (EngineChoice::Auto, EngineChoice::Search);
    for (name, load, engine, to_beat) in [
        ("unique-write register, 10 clients", unique.clone(), auto, UNIQUE_10K),
        ("the same, by search", unique.clone(), search, UNIQUE_10K),
        ("the same, 30k", Load { ops: 30_000, ..unique.clone() }, auto, UNIQUE_30K_ZONES),
        ("the same, 30k, by search", Load { ops: 30_000, ..unique.clone() }, search, UNIQUE_30K_SEARCH),
        ("unique-write register, 40 clients", Load { ops: 1000, clients: 40, ..unique }, auto, UNIQUE_40_CLIENTS),
        ("cas register, 5 values, 40 clients", Load { clients: 40, ..cas.clone() }, auto, CAS_40_CLIENTS),
        (
            "cas register, 5 values, 2.6 % unfinished",
            Load { ops: 10_000, unfinished: 0.0261, ..cas },
            auto,
            CAS_UNFINISHED,
        ),
    ] {
        let history = load.history();
        row(name, to_beat, || linear::check(&history, load.model, &options(engine, load.fail_means)));
    }
}

fn redis(path: &Path) {
    if !path.is_file() {
        return println!("Redis register under latency: not run, no corpus");
    }
    let history = read(path.to_owned());
    let check = |engine| linear::check(&history, ModelKind::Register, &options(engine, FailMeans::NoEffect));
    row("Redis register under latency", REDIS_ZONES, || check(EngineChoice::Auto));
    row("the same, by search", REDIS_SEARCH, || check(EngineChoice::Search));
}

fn containers() {
    let queue = Load { ops: 10_000, clients: 20, ..Load::new(ModelKind::Queue(None)) };
    let stack = Load { clients: 20, ..Load::new(ModelKind::Stack) };
    for (name, load, to_beat) in [
        ("concurrent queue (simulated)", queue, QUEUE),
        ("concurrent stack (simulated)", Load { ops: 414, ..stack.clone() }, STACK),
        ("concurrent stack (simulated)", Load { ops: 531, ..stack }, STACK),
    ] {
        let history = load.history();
        let check = || linear::check(&history, load.model, &options(EngineChoice::Auto, FailMeans::NoEffect));
        row(name, to_beat, check);
    }
}

/// A whole store as one object: what a checker faces that does not know that keys are independent.
#[derive(Clone)]
struct Store;

impl Model for Store {
    type State = BTreeMap<Value, KvState>;
    type Op = (Value, KvOp);

    fn initial(&self) -> Self::State {
        BTreeMap::new()
    }

    fn step(&self, state: &Self::State, (key, op): &Self::Op) -> Option<Self::State> {
        let absent = Kv.initial();
        let value = Kv.step(state.get(key).unwrap_or(&absent), op)?;
        let mut next = state.clone();
        next.insert(key.clone(), value);
        Some(next)
    }

    fn is_read_only(&self, (_, op): &Self::Op) -> bool {
        Kv.is_read_only(op)
    }

    fn view(&self, op: &Op<'_>, _: FailMeans) -> Result<Option<Self::Op>, HistoryError> {
        let argument = op.argument();
        let [key, argument] = argument.as_list().unwrap_or_default() else { return Ok(None) };
        let seen = match (op.f().as_str(), argument, op.outcome()) {
            (_, _, Outcome::Fail) | ("get", _, Outcome::Unfinished) => None,
            ("get", ..) => op.result().and_then(|result| Some(KvOp::Get(result.as_list()?.get(1)?.clone()))),
            ("append", Value::Str(text), _) => Some(KvOp::Append(*text)),
            _ => Some(KvOp::Put(argument.clone())),
        };
        Ok(seen.map(|op| (key.clone(), op)))
    }
}

/// The key as part of the value.
fn without_keys(history: &History) -> History {
    let key_of: BTreeMap<u64, Value> = history
        .ops()
        .expect("pairs")
        .iter()
        .flat_map(|op| [Some(op.call_index()), op.completion_index()].map(|at| (at, op.key())))
        .filter_map(|(at, key)| Some((at? as u64, key)))
        .collect();
    let events = history.iter().map(|event| {
        let key = key_of.get(&event.index).cloned().unwrap_or_default();
        Event { value: Value::list([key, event.value]), key: Value::Nil, ..event }
    });
    History::from_events(events).expect("dense")
}

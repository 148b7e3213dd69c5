//! Every model at several sizes, valid and with one planted violation. `cargo bench -p squall-checkers --bench models
//! [NAME…]`; `--bench models -- --max 100000` leaves out what is larger.
//!
//! One thread; times and memory are those of the whole check, pairing and grouping included, without explanation, with
//! the history in memory already. Memory is the most that the process held, less what it held before.

mod common;

use common::peak_mib;
use squall_checkers::model::FailMeans;
use squall_checkers::synth::{Load, Place, Values};
use squall_checkers::{CheckOptions, ModelKind, linear};
use std::time::{Duration, Instant};

/// Undecided after so long is printed as such.
const DEADLINE: Duration = Duration::from_secs(20);

const SIZES: [usize; 3] = [10_000, 100_000, 1_000_000];

fn rows() -> Vec<(&'static str, Load)> {
    let load = |model| Load { clients: 20, unfinished: 0.01, ..Load::new(model) };
    let few = |model| Load { values: Values::Distinct(5), unfinished: 0.001, clients: 10, ..load(model) };
    let keyed = |load: Load| Load { keys: 100, ..load };
    vec![
        ("register, 100 clients", Load { clients: 100, ..load(ModelKind::Register) }),
        ("register, 5 values", few(ModelKind::Register)),
        ("cas-register", load(ModelKind::CasRegister)),
        (
            "cas-register, answers, 100 keys",
            keyed(Load { fail_means: FailMeans::AnsweredNo, ..few(ModelKind::CasRegister) }),
        ),
        (
            "multi-register, 100 keys",
            keyed(Load { clients: 10, unfinished: 0.001, ..load(ModelKind::MultiRegister(None)) }),
        ),
        ("kv", load(ModelKind::Kv)),
        ("kv with append, 100 keys", keyed(Load { rich: true, clients: 10, unfinished: 0.001, ..load(ModelKind::Kv) })),
        ("queue", load(ModelKind::Queue(None))),
        ("queue:100, 100 keys", keyed(load(ModelKind::Queue(Some(100))))),
        ("unordered-queue", load(ModelKind::UnorderedQueue)),
        ("stack", load(ModelKind::Stack)),
        ("priority-queue", load(ModelKind::PriorityQueue)),
        ("set", load(ModelKind::Set)),
        ("counter", load(ModelKind::Counter)),
        ("counter, steps 1 to 5, 100 keys", keyed(Load { values: Values::Distinct(5), ..load(ModelKind::Counter) })),
        ("mutex", load(ModelKind::Mutex)),
        ("reentrant-mutex", Load { rich: true, ..load(ModelKind::ReentrantMutex) }),
        ("fencing-lock", load(ModelKind::FencingLock)),
        ("semaphore:3", Load { rich: true, ..load(ModelKind::Semaphore(3)) }),
    ]
}

fn main() {
    let mut args = std::env::args().skip(1).filter(|arg| arg != "--bench").peekable();
    let (mut wanted, mut max) = (Vec::new(), usize::MAX);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--max" => max = args.next().and_then(|number| number.parse().ok()).expect("--max takes a number"),
            _ => wanted.push(arg),
        }
    }
    println!("{:32} {:>8} {:>8} {:>9} {:>9} {:>6}  verdict", "model", "ops", "ms", "ops/s", "configs", "MiB");
    for (name, load) in rows() {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        for ops in SIZES.into_iter().filter(|ops| *ops <= max) {
            for violation in [None, Some(Place::At(0.9))] {
                check(name, &Load { ops, violation, ..load.clone() });
            }
        }
    }
}

fn check(name: &str, load: &Load) {
    let history = load.history();
    peak_mib();
    let before = peak_mib();
    let options = CheckOptions {
        deadline: Some(Instant::now() + DEADLINE),
        threads: 1,
        explain: false,
        fail_means: load.fail_means,
        ..CheckOptions::default()
    };
    let start = Instant::now();
    let result = linear::check(&history, load.model, &options);
    let took = start.elapsed().as_secs_f64();
    println!(
        "{name:32} {:>8} {:>8.1} {:>9.0} {:>9} {:>6}  {:7} {}",
        load.ops,
        took * 1e3,
        load.ops as f64 / took,
        result.stats.configurations,
        peak_mib().saturating_sub(before),
        result.verdict,
        if load.violation.is_some() { "one planted" } else { "" }
    );
}

//! A register history of any length, checked while it is made: operations a second and peak memory.
//! `cargo bench -p squall-checkers --bench streaming [OPERATIONS [CLIENTS [UNFINISHED_PER_MILLION]]]`.
//!
//! Half of the operations are reads, a tenth compare-and-sets, the rest writes, every value once; nothing is written
//! to disk. Then a smaller one from a file of our own format.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_checkers::linear::online::{Online, OnlineOptions};
use squall_checkers::{CheckResult, Event, EventKind, EventStream, HistoryWriter, ModelKind, Sym, Value};
use std::time::Instant;

/// How many operations the file gets, at most.
const FILE_OPS: u64 = 5_000_000;

/// An operation under way.
struct Open {
    f: Sym,
    argument: Value,
    /// Its answer, once it took effect.
    answer: Option<Value>,
    is_answered: bool,
}

/// A register and its clients.
struct Register {
    rng: ChaCha8Rng,
    value: i64,
    fresh: i64,
    index: u64,
    processes: Vec<u32>,
    open: Vec<Option<Open>>,
    unfinished_per_million: u32,
}

impl Register {
    fn new(clients: usize, unfinished_per_million: u32) -> Self {
        Self {
            rng: ChaCha8Rng::seed_from_u64(7),
            value: 0,
            fresh: 0,
            index: 0,
            processes: (0..clients as u32).collect(),
            open: (0..clients).map(|_| None).collect(),
            unfinished_per_million,
        }
    }

    /// Hands `ops` operations over, event by event.
    fn play(&mut self, ops: u64, mut take: impl FnMut(&Event)) {
        let (read, write, cas) = (Sym::new("read"), Sym::new("write"), Sym::new("cas"));
        let mut started = 0;
        while started < ops || self.open.iter().any(Option::is_some) {
            let client = self.rng.random_range(0..self.processes.len());
            let (kind, f, value) = match self.open[client].take() {
                None if started == ops => continue,
                None => {
                    started += 1;
                    self.fresh += 1;
                    let (f, argument) = match self.rng.random_range(0..10) {
                        0..5 => (read, Value::Nil),
                        5 => (cas, Value::list([Value::Int(self.value), Value::Int(self.fresh)])),
                        _ => (write, Value::Int(self.fresh)),
                    };
                    let value = argument.clone();
                    self.open[client] = Some(Open { f, argument, answer: None, is_answered: false });
                    (EventKind::Invoke, f, value)
                }
                Some(open) if !open.is_answered => {
                    let answer = self.perform(&open.argument);
                    self.open[client] = Some(Open { answer, is_answered: true, ..open });
                    continue;
                }
                Some(open) if self.rng.random_range(0..1_000_000) < self.unfinished_per_million => {
                    (EventKind::Info, open.f, open.argument)
                }
                Some(Open { f, argument, answer, .. }) => match answer {
                    Some(answer) => (EventKind::Ok, f, answer),
                    None => (EventKind::Fail, f, argument),
                },
            };
            take(&Event {
                index: self.index,
                time_ns: self.index * 25_017,
                kind,
                process: self.processes[client],
                f,
                key: Value::Nil,
                value,
                node: None,
                intended_ns: None,
                error: None,
            });
            self.index += 1;
            if kind == EventKind::Info {
                self.processes[client] += self.processes.len() as u32;
            }
        }
    }

    fn perform(&mut self, argument: &Value) -> Option<Value> {
        let stored = if self.value == 0 { Value::Nil } else { Value::Int(self.value) };
        match argument {
            Value::Nil => return Some(stored),
            Value::List(pair) if pair[0] != stored => return None,
            Value::List(pair) => self.value = pair[1].as_int().unwrap_or_default(),
            value => self.value = value.as_int().unwrap_or_default(),
        }
        Some(argument.clone())
    }
}

fn main() {
    let mut numbers = std::env::args().skip(1).filter_map(|arg| arg.replace('_', "").parse::<u64>().ok());
    let ops = numbers.next().unwrap_or(1_000_000);
    let clients = numbers.next().unwrap_or(20) as usize;
    let unfinished = numbers.next().unwrap_or(0) as u32;
    println!("{ops} operations on one register, {clients} clients, {unfinished} of a million unfinished");

    let start = Instant::now();
    let mut made = 0;
    Register::new(clients, unfinished).play(ops, |event| made = event.index);
    println!("making them alone: {:.1} s, {} events", start.elapsed().as_secs_f64(), made + 1);

    let start = Instant::now();
    let mut online = Online::new(ModelKind::CasRegister, OnlineOptions::default());
    let mut held = 0;
    Register::new(clients, unfinished).play(ops, |event| {
        if let Some(finding) = online.push(event).expect("it pairs") {
            println!("{finding:?}");
        }
        held = held.max(online.memory());
    });
    report(&online.finish(), ops, start.elapsed().as_secs_f64());
    println!("  the checker held {} KiB at most", held >> 10);

    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("register.history");
    let mut writer = HistoryWriter::create(&path).expect("create");
    let ops = ops.min(FILE_OPS);
    Register::new(clients, unfinished).play(ops, |event| writer.append(event).expect("append"));
    writer.sync().expect("sync");
    let len = std::fs::metadata(&path).expect("written").len();
    println!("from a file, {ops} operations in {} MiB:", len >> 20);
    let start = Instant::now();
    let mut online = Online::new(ModelKind::CasRegister, OnlineOptions::default());
    for event in EventStream::open(&path).expect("open") {
        online.push(&event.expect("read")).expect("it pairs");
    }
    report(&online.finish(), ops, start.elapsed().as_secs_f64());
}

fn report(result: &CheckResult, ops: u64, seconds: f64) {
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

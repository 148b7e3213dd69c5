//! How fast a million operations on one object are checked. `cargo bench -p squall-checkers --bench objects [NAME]`.
//!
//! Histories are simulated, seeded, and linearizable: every operation takes effect at a random moment between its ends;
//! one in a hundred is never answered. Time and memory are those of the whole check on one thread, pairing and grouping
//! included, with the history in memory already.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_checkers::{CheckOptions, Event, EventKind, History, ModelKind, Sym, Value, linear};
use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashSet, VecDeque};
use std::time::{Duration, Instant};

/// How many operations a row has.
const OPS: usize = 1_000_000;

/// What the object is, in the state that it would really have.
enum Object {
    Register { value: i64, next: i64 },
    Fifo(VecDeque<i64>, i64),
    Lifo(Vec<i64>, i64),
    Smallest(BinaryHeap<Reverse<i64>>, BTreeSet<i64>),
    Unordered(Vec<i64>, i64),
    Set(HashSet<i64>, i64),
    Counter(i64),
    Lock { permits: usize },
}

/// An operation in flight.
struct Open {
    f: &'static str,
    argument: Value,
    answer: Option<Value>,
}

impl Object {
    fn make(&mut self, holds: bool, rng: &mut ChaCha8Rng) -> (&'static str, Value) {
        // A little more comes than goes.
        let puts = rng.random_range(0..100) < 52;
        let fresh = |next: &mut i64| {
            *next += 1;
            Value::Int(*next)
        };
        match self {
            Self::Register { next, .. } if rng.random_range(0..4) == 0 => ("write", fresh(next)),
            Self::Register { .. } => ("read", Value::Nil),
            Self::Fifo(_, next) | Self::Unordered(_, next) if puts => ("enqueue", fresh(next)),
            Self::Fifo(..) | Self::Unordered(..) => ("dequeue", Value::Nil),
            Self::Lifo(_, next) if puts => ("push", fresh(next)),
            Self::Lifo(..) => ("pop", Value::Nil),
            Self::Smallest(_, used) if puts => loop {
                let value = rng.random_range(0..1 << 40);
                if used.insert(value) {
                    return ("insert", Value::Int(value));
                }
            },
            Self::Smallest(..) => ("delete-min", Value::Nil),
            Self::Set(_, next) => match rng.random_range(0..4) {
                0 => ("add", fresh(next)),
                1 => ("remove", Value::Int(rng.random_range(0..*next + 1))),
                _ => ("contains", Value::Int(rng.random_range(0..*next + 1))),
            },
            Self::Counter(_) => match rng.random_range(0..3) {
                0 => ("add", Value::Int(1)),
                1 => ("fetch-add", Value::Int(1)),
                _ => ("read", Value::Nil),
            },
            Self::Lock { .. } => (if holds { "release" } else { "acquire" }, Value::Nil),
        }
    }

    /// The answer; `None` when it has to wait.
    fn apply(&mut self, op: &Open, rng: &mut ChaCha8Rng) -> Option<Value> {
        let argument = op.argument.as_int().unwrap_or(0);
        let or_nil = |value: Option<i64>| Some(value.map_or(Value::Nil, Value::Int));
        match (self, op.f) {
            (Self::Register { value, .. }, "write") => *value = argument,
            (Self::Register { value, .. }, _) => return or_nil((*value > 0).then_some(*value)),
            (Self::Fifo(queue, _), "enqueue") => queue.push_back(argument),
            (Self::Fifo(queue, _), _) => return or_nil(queue.pop_front()),
            (Self::Lifo(stack, _), "push") => stack.push(argument),
            (Self::Lifo(stack, _), _) => return or_nil(stack.pop()),
            (Self::Smallest(heap, _), "insert") => heap.push(Reverse(argument)),
            (Self::Smallest(heap, _), _) => return or_nil(heap.pop().map(|Reverse(value)| value)),
            (Self::Unordered(bag, _), "enqueue") => bag.push(argument),
            (Self::Unordered(bag, _), _) if bag.is_empty() => return Some(Value::Nil),
            (Self::Unordered(bag, _), _) => return or_nil(Some(bag.swap_remove(rng.random_range(0..bag.len())))),
            (Self::Set(set, _), "add") => drop(set.insert(argument)),
            (Self::Set(set, _), "remove") => drop(set.remove(&argument)),
            (Self::Set(set, _), _) => return Some(Value::Bool(set.contains(&argument))),
            (Self::Counter(n), f) => {
                let before = *n;
                *n += if f == "read" { 0 } else { argument };
                return Some(Value::Int(before));
            }
            (Self::Lock { permits }, "acquire") => *permits = permits.checked_sub(1)?,
            (Self::Lock { permits }, _) => *permits += 1,
        }
        Some(op.argument.clone())
    }
}

fn simulate(mut object: Object, clients: usize) -> History {
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    let mut open: Vec<Option<Open>> = (0..clients).map(|_| None).collect();
    let mut process: Vec<u32> = (0..clients as u32).collect();
    let mut holds = vec![false; clients];
    let mut history = History::new();
    let mut started = 0;
    let is_lock = matches!(object, Object::Lock { .. });
    while started < OPS {
        let client = rng.random_range(0..clients);
        let record = |history: &mut History, kind, process, f: &str, value| {
            let index = history.len() as u64;
            let f = Sym::new(f);
            let (key, node, time_ns) = (Value::Nil, None, index * 25_017);
            let event = Event { index, time_ns, kind, process, f, key, value, node, intended_ns: None, error: None };
            history.push(event).expect("dense");
        };
        match &mut open[client] {
            None => {
                started += 1;
                let (f, argument) = object.make(holds[client], &mut rng);
                record(&mut history, EventKind::Invoke, process[client], f, argument.clone());
                open[client] = Some(Open { f, argument, answer: None });
            }
            // Whoever holds a lock and is not heard of any more holds it for good: not here.
            Some(op) if op.answer.is_none() && !is_lock && rng.random_range(0..200) == 0 => {
                record(&mut history, EventKind::Info, process[client], op.f, Value::Nil);
                process[client] += clients as u32;
                open[client] = None;
            }
            Some(op) if op.answer.is_none() => op.answer = object.apply(op, &mut rng),
            Some(op) if !is_lock && rng.random_range(0..200) == 0 => {
                record(&mut history, EventKind::Info, process[client], op.f, Value::Nil);
                process[client] += clients as u32;
                open[client] = None;
            }
            Some(op) => {
                let answer = op.answer.take().unwrap_or_default();
                record(&mut history, EventKind::Ok, process[client], op.f, answer);
                holds[client] = op.f == "acquire";
                open[client] = None;
            }
        }
    }
    history
}

/// The most memory this process ever held (MiB), and from now on.
fn peak_mib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    // Writing 5 starts the count afresh (proc(5)); where that is not allowed it only grows.
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    peak.and_then(|text| text.trim().trim_end_matches(" kB").parse::<u64>().ok()).unwrap_or(0) / 1024
}

/// Name, model, clients, the object.
type Row = (&'static str, ModelKind, usize, fn() -> Object);

fn main() {
    let wanted: Vec<String> = std::env::args().skip(1).filter(|arg| !arg.starts_with("--")).collect();
    let rows: [Row; 10] = [
        ("register, unique writes", ModelKind::Register, 100, || Object::Register { value: 0, next: 0 }),
        ("queue", ModelKind::Queue(None), 20, || Object::Fifo(VecDeque::new(), 0)),
        ("stack", ModelKind::Stack, 20, || Object::Lifo(Vec::new(), 0)),
        ("priority-queue", ModelKind::PriorityQueue, 20, || Object::Smallest(BinaryHeap::new(), BTreeSet::new())),
        ("unordered-queue", ModelKind::UnorderedQueue, 20, || Object::Unordered(Vec::new(), 0)),
        ("set", ModelKind::Set, 20, || Object::Set(HashSet::new(), 0)),
        ("counter", ModelKind::Counter, 20, || Object::Counter(0)),
        ("mutex", ModelKind::Mutex, 20, || Object::Lock { permits: 1 }),
        ("reentrant-mutex", ModelKind::ReentrantMutex, 20, || Object::Lock { permits: 1 }),
        ("semaphore:3", ModelKind::Semaphore(3), 20, || Object::Lock { permits: 3 }),
    ];
    println!("{OPS} operations on one object, 1 % unanswered (locks: none), one thread");
    for (name, kind, clients, object) in rows {
        if !wanted.is_empty() && !wanted.iter().any(|part| name.contains(part.as_str())) {
            continue;
        }
        let history = simulate(object(), clients);
        peak_mib();
        let options = CheckOptions {
            deadline: Some(Instant::now() + Duration::from_secs(20)),
            threads: 1,
            explain: false,
            ..CheckOptions::default()
        };
        let start = Instant::now();
        let result = linear::check(&history, kind, &options);
        let took = start.elapsed().as_secs_f64();
        println!(
            "{name:24} {clients:>3} clients {:>8.0} ms {:>6.1} M ops/s {:>5} MiB at most  {:7} {}",
            took * 1e3,
            OPS as f64 / took / 1e6,
            peak_mib(),
            result.verdict,
            result.reason
        );
    }
}

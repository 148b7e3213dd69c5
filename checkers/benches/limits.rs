//! What the hardest inputs cost, with ten seconds and one GiB to spend. `cargo bench -p squall-checkers --bench limits`.
//!
//! Each row says how long the check took, the most memory the process held while it ran (less what it held before), and
//! the verdict. Whatever is not decided must say `unknown` within the limits.

use squall_checkers::synth::{Load, Values};
use squall_checkers::{CheckOptions, Event, EventKind, History, ModelKind, Value, linear};
use std::time::{Duration, Instant};

const DEADLINE: Duration = Duration::from_secs(10);
const MEMORY: u64 = 1 << 30;

/// A history under construction.
#[derive(Default)]
struct Script {
    history: History,
}

impl Script {
    fn event(&mut self, kind: EventKind, process: u32, f: &str, value: Value) {
        let index = self.history.len() as u64;
        let (f, key, node) = (f.into(), Value::Nil, None);
        let event = Event { index, time_ns: index, kind, process, f, key, value, node, intended_ns: None, error: None };
        self.history.push(event).expect("dense");
    }

    fn call(&mut self, process: u32, f: &str, value: Value) {
        self.event(EventKind::Invoke, process, f, value);
    }

    fn ok(&mut self, process: u32, f: &str, value: Value) {
        self.event(EventKind::Ok, process, f, value);
    }

    fn done(&mut self, process: u32, f: &str, argument: Value, result: Value) {
        self.call(process, f, argument);
        self.ok(process, f, result);
    }
}

/// Unfinished writes of a few values, and reads that see them come back again and again.
fn unfinished_writes(values: i64, last: i64) -> History {
    let mut script = Script::default();
    for i in 0..500 {
        script.call(1000 + i as u32, "write", Value::Int(i % values));
    }
    for i in 0..2000i64 {
        let other = Value::Int(1_000_000 + i % 2);
        script.done(0, "write", other.clone(), other);
        script.done(1, "read", Value::Nil, Value::Int(i * 7 % values));
        if i == 450 {
            break;
        }
    }
    script.done(1, "read", Value::Nil, Value::Int(last));
    script.history
}

/// All clients at once, round after round; the last read found what nobody wrote.
fn all_at_once(clients: u32, f: &str, argument: impl Fn(u32) -> Value, last: (&str, Value)) -> History {
    let mut script = Script::default();
    for round in 0..20 {
        for client in 0..clients {
            script.call(client, f, argument(client + round * clients));
        }
        for client in 0..clients {
            script.ok(client, f, argument(client + round * clients));
        }
    }
    script.done(0, last.0, Value::Nil, last.1);
    script.history
}

/// A queue that grows deep, with values put twice so that only a search can decide; then the wrong one comes out.
fn deep_queue() -> History {
    let mut script = Script::default();
    for i in 0..100_000i64 {
        script.done(0, "enqueue", Value::Int(i / 2), Value::Nil);
    }
    for client in 0..20 {
        script.call(client, "dequeue", Value::Nil);
    }
    for client in 0..20 {
        script.ok(client, "dequeue", Value::Int(i64::from(client) / 2 + 1));
    }
    script.history
}

/// A bag of many values that were put in twice, from which many unfinished operations took nobody knows what.
fn unseen_takes() -> History {
    let mut script = Script::default();
    for i in 0..200i64 {
        script.done(0, "enqueue", Value::Int(i / 2), Value::Nil);
    }
    for client in 1..=100 {
        script.call(client, "dequeue", Value::Nil);
    }
    script.done(0, "dequeue", Value::Nil, Value::Int(-1));
    script.history
}

/// A simulated bounded queue for each of 100 keys. Values come again, so nobody knows who took what: none can be decided
/// without a search in the dark, and they share one deadline.
fn bounded_queues() -> History {
    let load =
        Load { ops: 1_000_000, keys: 100, clients: 20, unfinished: 0.01, ..Load::new(ModelKind::Queue(Some(100))) };
    Load { values: Values::Distinct(1000), ..load }.history()
}

fn peak_kib() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let peak = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    // Writing 5 starts the count afresh (proc(5)).
    let _ = std::fs::write("/proc/self/clear_refs", "5");
    peak.and_then(|text| text.trim().trim_end_matches(" kB").parse().ok()).unwrap_or(0)
}

fn main() {
    let few = |n: u32| Value::Int(i64::from(n % 5));
    let pair = |n: u32| Value::list([Value::Int(i64::from(n % 5)), Value::Int(i64::from(n * 3 % 7 % 5))]);
    let text = |n: u32| Value::str(["a", "b", "ab", "ba", "c"][n as usize % 5]);
    let nobody = Value::Int(-1);
    let rows: [(&str, ModelKind, History); 11] = [
        ("500 unfinished writes of one value", ModelKind::Register, unfinished_writes(1, 0)),
        ("the same, and a wrong read", ModelKind::Register, unfinished_writes(1, -1)),
        ("500 unfinished writes of 20 values, wrong", ModelKind::Register, unfinished_writes(20, -1)),
        (
            "200 clients at once: register",
            ModelKind::Register,
            all_at_once(200, "write", few, ("read", nobody.clone())),
        ),
        ("200 clients at once: cas", ModelKind::CasRegister, all_at_once(200, "cas", pair, ("read", nobody.clone()))),
        ("200 clients at once: append", ModelKind::Kv, all_at_once(200, "append", text, ("get", Value::str("x")))),
        (
            "200 clients at once: queue",
            ModelKind::Queue(None),
            all_at_once(200, "enqueue", few, ("dequeue", nobody.clone())),
        ),
        ("200 clients at once: stack", ModelKind::Stack, all_at_once(200, "push", few, ("pop", nobody))),
        ("queue 100,000 deep, values twice", ModelKind::Queue(None), deep_queue()),
        ("unordered queue, 100 unfinished dequeues", ModelKind::UnorderedQueue, unseen_takes()),
        ("queue:100, 100 keys, 1,000,000 operations", ModelKind::Queue(Some(100)), bounded_queues()),
    ];
    println!("10 s and 1024 MiB, one thread");
    for (name, kind, history) in rows {
        peak_kib();
        let before = peak_kib();
        let start = Instant::now();
        let options = CheckOptions {
            deadline: Some(start + DEADLINE),
            memory_max: MEMORY,
            threads: 1,
            explain: false,
            ..CheckOptions::default()
        };
        let result = linear::check(&history, kind, &options);
        let took = start.elapsed().as_secs_f64();
        println!(
            "{name:42} {took:>6.2} s {:>5} MiB  {:7} {}",
            peak_kib().saturating_sub(before) / 1024,
            result.verdict,
            result.reason
        );
    }
}

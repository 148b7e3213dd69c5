//! Ten million key-value operations over 10,000 keys, from our own file to the verdict.
//! `cargo bench -p squall-checkers --bench from_file [OPERATIONS]`.
//!
//! 20 clients, unique values, half of the operations reads; the file is written first and not timed.

use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use squall_checkers::{
    CheckOptions, Event, EventKind, HistoryWriter, ImportOptions, ModelKind, Value, linear, read_any,
};
use std::time::Instant;

const KEYS: usize = 10_000;
const CLIENTS: usize = 20;

/// Key, argument of a put, and the answer once there is one.
type Open = (usize, Option<i64>, Option<Value>);

fn main() {
    let ops = std::env::args().skip(1).find_map(|arg| arg.parse().ok()).unwrap_or(10_000_000u64);
    let dir = tempfile::tempdir().expect("a temporary directory");
    let path = dir.path().join("kv.history");
    let mut writer = HistoryWriter::create(&path).expect("create");
    let mut rng = ChaCha8Rng::seed_from_u64(3);
    let mut stored = vec![Value::Nil; KEYS];
    let mut open: Vec<Option<Open>> = vec![None; CLIENTS];
    let (mut started, mut index) = (0, 0);
    while started < ops || open.iter().any(Option::is_some) {
        let client = rng.random_range(0..CLIENTS);
        let mut record = |kind, f: &str, key: usize, value| {
            let (f, key, time_ns) = (f.into(), Value::Int(key as i64), index * 25_017);
            let node = Some(["n1", "n2", "n3", "n4", "n5"][client % 5].into());
            let process = client as u32;
            let event = Event { index, time_ns, kind, process, f, key, value, node, intended_ns: None, error: None };
            writer.append(&event).expect("append");
            index += 1;
        };
        let f = |put: Option<i64>| if put.is_some() { "put" } else { "get" };
        match &mut open[client] {
            None if started < ops => {
                started += 1;
                let key = rng.random_range(0..KEYS);
                let put = rng.random_range(0..2).eq(&0).then_some(started as i64);
                record(EventKind::Invoke, f(put), key, put.map_or(Value::Nil, Value::Int));
                open[client] = Some((key, put, None));
            }
            None => {}
            Some((key, put, answer @ None)) => {
                if let Some(value) = put {
                    stored[*key] = Value::Int(*value);
                }
                *answer = Some(stored[*key].clone());
            }
            Some((key, put, Some(answer))) => {
                record(EventKind::Ok, f(*put), *key, answer.clone());
                open[client] = None;
            }
        }
    }
    writer.sync().expect("sync");
    let len = std::fs::metadata(&path).expect("written").len();
    println!("{ops} operations, {KEYS} keys, {CLIENTS} clients, {} MiB on disk", len >> 20);
    let start = Instant::now();
    let (history, _) = read_any(&path, &ImportOptions::default()).expect("read");
    let read = start.elapsed().as_secs_f64();
    let result = linear::check(&history, ModelKind::Kv, &CheckOptions::default());
    let all = start.elapsed().as_secs_f64();
    println!("read {read:.2} s, check {:.2} s, together {all:.2} s  {} {}", all - read, result.verdict, result.reason);
}

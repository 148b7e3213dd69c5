//! What a disk of ours costs when nothing is impaired: `cargo bench -p squall-agent --bench disk [DIRECTORY…]`.
//!
//! The same on a bare directory and with a disk over it, in turns within one run, on the machine's disk and, where there
//! is no disk to hide behind, in memory (tmpfs). A ratio of 1 is no cost at all.

#[expect(dead_code, reason = "shared with tests")]
#[path = "../tests/common/mod.rs"]
mod common;

use common::Agent;
use squall_agent::faults::Fault;
use squall_agent::faults::disk::Disk;
use std::fs::{self, File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

/// As databases write.
const PAGE: usize = 4096;
/// Turns of bare directory and disk.
const ROUNDS: usize = 8;

/// A benchmark: its name, and what is measured once, on an open file, with the number of the turn.
type Bench = (&'static str, usize, fn(&File, u64));

const BENCHES: [Bench; 5] = [
    ("append 4 KiB, fsync", 250, |file, n| {
        file.write_all_at(&[1; PAGE], n * PAGE as u64).unwrap();
        file.sync_all().unwrap();
    }),
    ("overwrite 4 KiB, fdatasync", 250, |file, n| {
        file.write_all_at(&[2; PAGE], n * 7919 % 256 * PAGE as u64).unwrap();
        file.sync_data().unwrap();
    }),
    ("append 1 MiB, fsync", 20, |file, n| {
        file.write_all_at(&[3; 1 << 20], n << 20).unwrap();
        file.sync_all().unwrap();
    }),
    ("overwrite 4 KiB, no sync", 2000, |file, n| {
        file.write_all_at(&[4; PAGE], n * 7919 % 256 * PAGE as u64).unwrap();
    }),
    ("read 4 KiB, cached", 20_000, |file, n| {
        file.read_exact_at(&mut [0; PAGE], n * 7919 % 256 * PAGE as u64).unwrap();
    }),
];

fn measure(dir: &Path, (_, times, once): &Bench) -> Vec<Duration> {
    let path = dir.join("file");
    fs::write(&path, vec![0; 256 * PAGE]).unwrap();
    let file = OpenOptions::new().read(true).write(true).open(&path).unwrap();
    file.sync_all().unwrap();
    let mut took = Vec::with_capacity(*times);
    for n in 0..*times as u64 {
        let begun = Instant::now();
        once(&file, n);
        took.push(begun.elapsed());
    }
    drop(file);
    fs::remove_file(&path).unwrap();
    took
}

fn micros(duration: Duration) -> f64 {
    duration.as_secs_f64() * 1e6
}

fn compare(below: &Path) {
    let root = tempfile::tempdir_in(below).unwrap();
    let (bare, data) = (root.path().join("bare"), root.path().join("data"));
    fs::create_dir(&bare).unwrap();
    fs::create_dir(&data).unwrap();
    let mut agent = Agent::start(root.path(), 600_000);
    let disk = Disk { dir: "data".to_owned(), directories: None };
    assert!(agent.inject("0-disk", Fault::Disk(disk)).verified);
    println!(
        "\n{}\n{:<28} {:>26} {:>26} {:>14} {:>7}",
        below.display(),
        "",
        "bare: median, mean",
        "disk: median, mean",
        "ratio: median",
        "mean"
    );
    for bench in &BENCHES {
        let (mut plain, mut ours) = (Vec::new(), Vec::new());
        for _ in 0..ROUNDS {
            plain.extend(measure(&bare, bench));
            ours.extend(measure(&data, bench));
        }
        let summary = |took: &mut Vec<Duration>| {
            took.sort_unstable();
            let mean = took.iter().sum::<Duration>() / took.len() as u32;
            (micros(took[took.len() / 2]), micros(mean))
        };
        let (plain, ours) = (summary(&mut plain), summary(&mut ours));
        println!(
            "{:<28} {:>9.1} us, {:>9.1} us {:>9.1} us, {:>9.1} us {:>14.2} {:>7.2}",
            bench.0,
            plain.0,
            plain.1,
            ours.0,
            ours.1,
            ours.0 / plain.0,
            ours.1 / plain.1
        );
    }
    agent.shutdown();
}

fn main() {
    let named: Vec<PathBuf> = std::env::args().skip(1).filter(|arg| !arg.starts_with('-')).map(PathBuf::from).collect();
    let usual = vec![std::env::temp_dir(), PathBuf::from("/dev/shm")];
    for dir in if named.is_empty() { usual } else { named } {
        if dir.is_dir() {
            compare(&dir);
        }
    }
}

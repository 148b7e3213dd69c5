//! `squall self-check`: every path to a verdict against brute force, on random small histories, for as long as one likes.

use anyhow::anyhow;
use squall_checkers::oracle::{MODELS, PATHS, Path, SelfCheck, Tally};
use squall_checkers::{FailMeans, ModelKind, export_jsonl};
use squall_harness::Seed;
use squall_harness::config::parse_duration;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, Instant};

/// Cases that a thread takes at a time.
const BATCH: u64 = 500;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// Which model, or `all`
    #[arg(long, default_value = "all")]
    model: String,
    /// Which paths: auto, search, wgl, explain, … (an unknown name lists all); all of them when absent
    #[arg(long, value_delimiter = ',')]
    engine: Vec<String>,
    /// How long, all models together: 20s, 10m
    #[arg(long = "for", value_parser = duration, conflicts_with = "cases")]
    time: Option<Duration>,
    /// How many cases of each model
    #[arg(long, default_value_t = 20_000)]
    cases: u64,
    /// Where all cases come from; drawn and printed when absent
    #[arg(long)]
    seed: Option<u64>,
    /// Number of the first case
    #[arg(long, default_value_t = 0)]
    first: u64,
    /// How many threads; one per core when absent
    #[arg(long)]
    threads: Option<usize>,
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "expected a duration such as 20s or 10m".to_owned())
}

/// 0 when every path agrees, that of a failure of ours otherwise.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let models = models(&args.model)?;
    let paths = paths(&args.engine)?;
    let seed = args.seed.unwrap_or_else(|| Seed::fresh().0);
    println!("seed {seed}");
    print!("{:16} {:>10} {:>10} {:>10} {:>8} {:>8}", "model", "cases", "valid", "invalid", "empty", "per s");
    println!("{}", paths.iter().map(|path| format!(" {:>10}", path.name)).collect::<String>());
    let share = args.time.map(|time| time / models.len() as u32);
    let mut wrong = 0;
    for model in models {
        let (tally, took) = check(args, SelfCheck { model, seed }, &paths, share);
        let (cases, per_s) = (tally.valid + tally.invalid + tally.empty, tally.judged.first().copied().unwrap_or(0));
        let per_s = per_s as f64 / took.as_secs_f64();
        let (name, valid, invalid, empty) = (model.to_string(), tally.valid, tally.invalid, tally.empty);
        print!("{name:16} {cases:>10} {valid:>10} {invalid:>10} {empty:>8} {per_s:>8.0}");
        println!("{}", tally.wrong.iter().map(|wrong| format!(" {wrong:>4} wrong")).collect::<String>());
        report(model, seed, &tally)?;
        wrong += tally.wrong.iter().sum::<u64>();
    }
    println!("{}", if wrong == 0 { "no mismatch".to_owned() } else { format!("{wrong} MISMATCHES: bugs in squall") });
    Ok(if wrong == 0 { 0 } else { crate::EXIT_FAILURE })
}

fn models(name: &str) -> anyhow::Result<Vec<ModelKind>> {
    if name == "all" {
        return Ok(MODELS.to_vec());
    }
    let known = || anyhow!("unknown model `{name}`; known: all, {}", ModelKind::names());
    ModelKind::parse(name).map(|kind| vec![kind]).ok_or_else(known)
}

fn paths(names: &[String]) -> anyhow::Result<Vec<&'static Path>> {
    if names.is_empty() {
        return Ok(PATHS.iter().collect());
    }
    let known = || PATHS.iter().map(|path| path.name).collect::<Vec<_>>().join(", ");
    let find = |name: &String| {
        let path = PATHS.iter().find(|path| path.name == name);
        path.ok_or_else(|| anyhow!("unknown path `{name}`; known: {}", known()))
    };
    names.iter().map(find).collect()
}

/// All cases, or those that there is time for; batches go to whichever thread is free.
fn check(args: &Args, check: SelfCheck, paths: &[&'static Path], time: Option<Duration>) -> (Tally, Duration) {
    let begun = Instant::now();
    let end = if time.is_some() { u64::MAX } else { args.first.saturating_add(args.cases) };
    let next = AtomicU64::new(args.first);
    let sum = Mutex::new(Tally::default());
    let work = || {
        let mut own = Tally::default();
        while time.is_none_or(|time| begun.elapsed() < time) {
            let first = next.fetch_add(BATCH, Ordering::Relaxed);
            if first >= end {
                break;
            }
            check.run(paths, first..end.min(first.saturating_add(BATCH)), &mut own);
        }
        sum.lock().unwrap_or_else(|e| e.into_inner()).add(own);
    };
    let threads = args.threads.unwrap_or_else(|| std::thread::available_parallelism().map_or(1, usize::from));
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(work);
        }
        work();
    });
    (sum.into_inner().unwrap_or_else(|e| e.into_inner()), begun.elapsed())
}

/// Each mismatch with what it takes to see it again.
fn report(model: ModelKind, seed: u64, tally: &Tally) -> anyhow::Result<()> {
    for mismatch in &tally.mismatches {
        let fail_means = match mismatch.case.fail_means {
            FailMeans::NoEffect => "no-effect",
            FailMeans::AnsweredNo => "answered-no",
        };
        println!("\n  MISMATCH {} by {}: {}", mismatch.expected, mismatch.path, mismatch.said);
        let (number, path) = (mismatch.number, mismatch.path);
        println!("  squall self-check --model {model} --engine {path} --seed {seed} --first {number} --cases 1");
        println!("  squall check FILE --model {model} --fail-means {fail_means}, with this FILE:");
        if !mismatch.case.evidence.is_empty() {
            println!("  told, where the path is told: {:?}", mismatch.case.evidence);
        }
        export_jsonl(&mismatch.case.history, std::io::stdout().lock())?;
    }
    Ok(())
}

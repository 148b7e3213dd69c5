//! `squall check`: a saved history in, a verdict out.

use anyhow::{Context, anyhow};
use clap::ValueEnum;
use squall_checkers::linear::online::OnlineOptions;
use squall_checkers::page::{self, PageOptions};
use squall_checkers::{
    CheckOptions, CheckResult, Evidence, FailMeans, History, ImportOptions, ModelKind, Verdict, linear, read_any,
};
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A run (its folder, or `latest`), or a history: our own format, JSON Lines, Jepsen EDN, an old Jepsen log, JSON as
    /// Porcupine's, recognised by its content
    file: PathBuf,
    /// Where runs are kept
    #[arg(long, default_value = "store", env = "SQUALL_STORE")]
    store: PathBuf,
    /// What the history is held against: register, cas-register, kv, queue, stack, set, counter, mutex, … (an unknown name
    /// lists all)
    #[arg(long, default_value = "cas-register")]
    model: String,
    /// What a `fail` completion of a compare-and-set says
    #[arg(long, value_enum, default_value = "no-effect")]
    fail_means: FailMeansArg,
    /// Take EDN values `[k v]` as value v of the independent key k
    #[arg(long)]
    independent: bool,
    /// What is known of operations that were never answered: one `{"index": 17, "happened": true, "by": 120}` a line
    /// (index of the invocation; `by`: it had happened before that event; or `by_ns`: at that time at the latest)
    #[arg(long)]
    evidence: Option<PathBuf>,
    /// Give up (`unknown`) after this many seconds
    #[arg(long, default_value_t = 60.0, value_parser = seconds)]
    time: f64,
    /// Give up (`unknown`) past this many MiB
    #[arg(long, default_value_t = 2048)]
    memory_mib: u64,
    /// Judge while reading, in bounded memory, whatever the length; history files and JSON Lines only. Violations are
    /// printed to stderr as they are found
    #[arg(long, conflicts_with_all = ["independent", "evidence"])]
    stream: bool,
    /// Write what was found as a page: a timeline with the explanation, to be opened in a browser
    #[arg(long, value_name = "OUT.html", conflicts_with = "stream")]
    page: Option<PathBuf>,
    /// Only this key in the page
    #[arg(long, requires = "page")]
    key: Option<String>,
    /// Print the whole result as JSON
    #[arg(long)]
    json: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum FailMeansArg {
    /// It had no effect; why is not known
    NoEffect,
    /// The system answered that the current value differs
    AnsweredNo,
}

fn seconds(text: &str) -> Result<f64, String> {
    let number: f64 = text.parse().map_err(|_| "expected a number of seconds".to_owned())?;
    let fits = Duration::try_from_secs_f64(number).is_ok() && number <= 1e6;
    if fits { Ok(number) } else { Err("expected a number of seconds from 0 to 1000000".to_owned()) }
}

/// Exit code of the verdict.
pub(crate) fn run(args: &Args) -> anyhow::Result<u8> {
    let model = ModelKind::parse(&args.model)
        .ok_or_else(|| anyhow!("unknown model `{}`; known: {}", args.model, ModelKind::names()))?;
    let file = crate::show::history_of(&args.file, &args.store);
    let fail_means = match args.fail_means {
        FailMeansArg::NoEffect => FailMeans::NoEffect,
        FailMeansArg::AnsweredNo => FailMeans::AnsweredNo,
    };
    let memory_max = args.memory_mib.saturating_mul(1 << 20);
    let time = Duration::from_secs_f64(args.time);
    let result = if args.stream {
        let options = OnlineOptions { fail_means, memory_max, ..OnlineOptions::default() };
        crate::stream::check(&file, model, options, Instant::now() + time)?
    } else {
        whole(args, &file, model, CheckOptions { fail_means, memory_max, ..CheckOptions::default() })?
    };
    if args.json {
        println!("{}", serde_json::to_string_pretty(&result)?)
    } else {
        print(&result)
    }
    Ok(match result.verdict {
        Verdict::Valid => 0,
        Verdict::Invalid => 1,
        Verdict::Unknown => 2,
    })
}

/// Reads all of it, then judges.
fn whole(args: &Args, file: &Path, model: ModelKind, options: CheckOptions) -> anyhow::Result<CheckResult> {
    let import = ImportOptions { independent_keys: args.independent };
    let (history, truncated) = read_any(file, &import).with_context(|| file.display().to_string())?;
    let evidence = match &args.evidence {
        Some(file) => std::fs::read(file)
            .map_err(anyhow::Error::from)
            .and_then(|text| Ok(Evidence::read(&text, &history)?))
            .with_context(|| file.display().to_string())?,
        None => Vec::new(),
    };
    let deadline = Some(Instant::now() + Duration::from_secs_f64(args.time));
    let options = CheckOptions { deadline, evidence, ..options };
    let mut result = linear::check(&history, model, &options);
    if result.stats.ops_ok == 0 && result.verdict == Verdict::Valid {
        result.verdict = Verdict::Unknown;
        result.reason = "no operation succeeded, so there is nothing to judge".to_owned();
    }
    if let Some(truncated) = truncated {
        eprintln!("note: {truncated}");
    }
    if let Some(out) = &args.page {
        let title = format!("{} as {}", file.file_name().unwrap_or_default().display(), model.as_str());
        let page = PageOptions {
            key: args.key.clone(),
            fail_means: options.fail_means,
            // Orders are followed without evidence: they would go where the verdict did not.
            model: args.evidence.is_none().then_some(model),
            ..PageOptions::new(&title, model)
        };
        write_page(out, &history, &result, &page)?;
    }
    Ok(result)
}

/// Writes a page.
pub(crate) fn write_page(
    out: &Path,
    history: &History,
    result: &CheckResult,
    options: &PageOptions,
) -> anyhow::Result<()> {
    let page = page::render(history, result, options)?;
    std::fs::write(out, page).with_context(|| format!("cannot write the page {}", out.display()))?;
    eprintln!("page {}", crate::run::shown(out));
    Ok(())
}

fn print(result: &CheckResult) {
    println!("{:<8} {}", result.verdict.as_str(), result.reason);
    let stats = &result.stats;
    println!("         {} operations ({} ok), {} keys, {:.3} s", stats.ops, stats.ops_ok, stats.keys, stats.duration_s);
    for explanation in result.keys.iter().filter_map(|key| key.explanation.as_ref()) {
        println!("\n  key {}", explanation.key);
        print!("{explanation}");
    }
}

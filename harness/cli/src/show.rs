//! `squall show`: a saved run again, or numbers about any history.

use anyhow::Context;
use squall_checkers::page::PageOptions;
use squall_checkers::{ImportOptions, ModelKind, read_any};
use squall_harness::pages::page_name;
use squall_harness::report::Report;
use squall_harness::stats::Stats;
use squall_harness::store::{HISTORY, RESULTS, Run};
use std::path::{Path, PathBuf};

#[derive(clap::Args)]
pub(crate) struct Args {
    /// A run (its folder, or `latest`), or a history in any known format
    file: PathBuf,
    /// Where runs are kept
    #[arg(long, default_value = "store", env = "SQUALL_STORE")]
    store: PathBuf,
    /// Only what was found about this key of a run
    #[arg(long)]
    key: Option<String>,
    /// Write that key as a page, also one that was not violated
    #[arg(long, value_name = "OUT.html", requires = "key")]
    page: Option<PathBuf>,
    /// What the page follows orders in
    #[arg(long, default_value = "cas-register", requires = "page")]
    model: String,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !args.file.is_file()
        && let Ok(run) = Run::open(&args.store, &args.file)
        && let Ok(text) = run.read(RESULTS)
    {
        let report: Report = serde_json::from_str(&text).with_context(|| format!("{RESULTS} of the run is damaged"))?;
        match &args.key {
            Some(key) => show_key(args, &run, &report, key)?,
            None => println!("{}\n  {}", report.summary(), run.dir.display()),
        }
        return Ok(());
    }
    anyhow::ensure!(
        args.key.is_none(),
        "--key needs a run; for a file use `squall check FILE --page OUT.html --key K`"
    );
    let file = history_of(&args.file, &args.store);
    let (history, truncated) =
        read_any(&file, &ImportOptions::default()).with_context(|| file.display().to_string())?;
    let mut stats = Stats::default();
    history.iter().for_each(|event| stats.feed(&event));
    println!("{}", Report::operations_text(&stats));
    if let Some(truncated) = truncated {
        eprintln!("note: {truncated}");
    }
    Ok(())
}

/// What was found about one key, and its page.
fn show_key(args: &Args, run: &Run, report: &Report, key: &str) -> anyhow::Result<()> {
    let found = report.checks.iter().find_map(|check| Some((check, check.keys.iter().find(|found| found.key == key)?)));
    let (check, found) = found.with_context(|| {
        let keys = report.checks.iter().flat_map(|check| &check.keys).map(|key| key.key.as_str());
        format!("no key {key} was checked in this run; there are {}", keys.take(20).collect::<Vec<_>>().join(", "))
    })?;
    println!("{:<8} key {key}, {} operations", found.verdict.as_str(), found.ops);
    match (&found.explanation, &found.reason) {
        (Some(explanation), _) => print!("{explanation}"),
        (None, Some(reason)) => println!("         {reason}"),
        (None, None) => {}
    }
    let saved = page_name(key);
    match &args.page {
        Some(out) => {
            let model = ModelKind::parse(&args.model)
                .with_context(|| format!("unknown model `{}`; known: {}", args.model, ModelKind::names()))?;
            let (history, _) = read_any(run.history(), &ImportOptions::default())?;
            let title = format!("{}, key {key}", report.test);
            let options = PageOptions { key: Some(key.to_owned()), ..PageOptions::new(&title, model) };
            crate::check::write_page(out, &history, check, &options)?;
        }
        None if report.pages.contains(&saved) => println!("\n  page     {}", crate::run::shown(&run.dir.join(saved))),
        None => {}
    }
    Ok(())
}

/// The history in a run's folder, or the file itself.
pub(crate) fn history_of(path: &Path, store: &Path) -> PathBuf {
    match Run::open(store, path) {
        Ok(run) if !path.is_file() => run.dir.join(HISTORY),
        _ => path.to_owned(),
    }
}

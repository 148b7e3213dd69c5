//! `squall show`: a saved run again, or numbers about any history.

use anyhow::Context;
use squall_checkers::{ImportOptions, read_any};
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
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    if !args.file.is_file()
        && let Ok(run) = Run::open(&args.store, &args.file)
        && let Ok(text) = run.read(RESULTS)
    {
        let report: Report = serde_json::from_str(&text).with_context(|| format!("{RESULTS} of the run is damaged"))?;
        println!("{}\n  {}", report.summary(), run.dir.display());
        return Ok(());
    }
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

/// The history in a run's folder, or the file itself.
pub(crate) fn history_of(path: &Path, store: &Path) -> PathBuf {
    match Run::open(store, path) {
        Ok(run) if !path.is_file() => run.dir.join(HISTORY),
        _ => path.to_owned(),
    }
}

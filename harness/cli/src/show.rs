//! `squall show`: numbers about a saved history.

use anyhow::Context;
use squall_checkers::{ImportOptions, read_any};
use squall_harness::report::Report;
use squall_harness::stats::Stats;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// History in any known format
    file: PathBuf,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let (history, truncated) =
        read_any(&args.file, &ImportOptions::default()).with_context(|| args.file.display().to_string())?;
    let mut stats = Stats::default();
    history.iter().for_each(|event| stats.feed(&event));
    println!("{}", Report::operations_text(&stats));
    if let Some(truncated) = truncated {
        eprintln!("note: {truncated}");
    }
    Ok(())
}

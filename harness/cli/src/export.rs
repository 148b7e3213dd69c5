//! `squall export`: a saved history for other tools.

use anyhow::Context;
use clap::ValueEnum;
use squall_checkers::{ImportOptions, export_edn, export_jsonl, read_any};
use std::io::Write;
use std::path::PathBuf;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// History in any known format
    file: PathBuf,
    /// What to write
    #[arg(long, value_enum, default_value = "jsonl")]
    format: Format,
    /// Take EDN values `[k v]` as value v of the independent key k
    #[arg(long)]
    independent: bool,
}

#[derive(Clone, Copy, ValueEnum)]
enum Format {
    /// One JSON object a line
    Jsonl,
    /// Jepsen's maps, one a line
    Edn,
}

pub(crate) fn run(args: &Args) -> anyhow::Result<()> {
    let import = ImportOptions { independent_keys: args.independent };
    let (history, truncated) = read_any(&args.file, &import).with_context(|| args.file.display().to_string())?;
    let mut out = std::io::BufWriter::new(std::io::stdout().lock());
    match args.format {
        Format::Jsonl => export_jsonl(&history, &mut out)?,
        Format::Edn => export_edn(&history, &mut out)?,
    }
    out.flush()?;
    if let Some(truncated) = truncated {
        eprintln!("note: {truncated}");
    }
    Ok(())
}

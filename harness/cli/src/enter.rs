//! `squall enter`: a shell on a node of a local cluster that is up.

use crate::BadInput;
use squall_harness::cluster::local;
use squall_harness::store::Run;
use std::ffi::OsString;
use std::path::PathBuf;
use std::process::ExitCode;

#[derive(clap::Args)]
pub(crate) struct Args {
    /// The run (its folder, or `latest`), which must be going on: see `squall run --fail-fast`
    run: PathBuf,
    /// The node, for instance n1
    node: String,
    /// What to run there; without it, a shell
    #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
    program: Vec<OsString>,
    /// Where runs are kept
    #[arg(long, default_value = "store", env = "SQUALL_STORE")]
    store: PathBuf,
}

/// Exit code of the program.
pub(crate) fn run(args: &Args) -> anyhow::Result<ExitCode> {
    let run = Run::open(&args.store, &args.run).map_err(|error| BadInput(format!("{error:#}")))?;
    let shell = || std::env::var_os("SHELL").unwrap_or_else(|| "/bin/sh".into());
    let program = if args.program.is_empty() { vec![shell()] } else { args.program.clone() };
    let dir = run.dir.canonicalize()?.join("nodes");
    local::enter_node(&dir, &args.node, &program)
}

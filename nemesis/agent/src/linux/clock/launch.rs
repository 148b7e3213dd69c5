//! The programs around a program with a clock of its own: launcher, tracer, and the one that only reads clocks.

use super::super::state::State;
use super::reading;
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `agent clock …`, all of it started by us.
#[derive(Args, Debug)]
pub(crate) struct ClockArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Become a program with a clock of its own
    Launch {
        #[arg(long)]
        page: PathBuf,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        argv: Vec<String>,
    },
    /// Trace a process
    Trace {
        #[arg(long)]
        page: PathBuf,
        #[arg(long)]
        pid: u32,
        /// As nobody's child: by way of a process that ends at once
        #[arg(long)]
        apart: bool,
    },
    /// Print what the clocks show
    Read {
        #[arg(long)]
        page: PathBuf,
        #[arg(long)]
        count: u32,
        #[arg(long)]
        pause_ms: u64,
    },
}

/// What goes before a program and its arguments so that it gets the clock of `page`.
pub(crate) fn through(state: &State, page: &std::path::Path) -> Vec<String> {
    let mut argv = state.myself.clone();
    argv.extend(["clock", "launch", "--page"].map(str::to_owned));
    argv.push(page.display().to_string());
    argv
}

/// Does what the command line says; `myself` is how this program is called up to `clock`.
///
/// # Errors
/// A sentence for a person.
pub(crate) fn main(args: ClockArgs, myself: &[String]) -> anyhow::Result<()> {
    match args.command {
        Command::Read { page, count, pause_ms } => reading::print(&page, count, pause_ms),
        #[cfg(target_arch = "x86_64")]
        Command::Launch { page, argv } => Err(traced::launch(&page, &argv, myself)),
        #[cfg(target_arch = "x86_64")]
        Command::Trace { page, pid, apart: true } => traced::trace_apart(&page, pid, myself),
        #[cfg(target_arch = "x86_64")]
        Command::Trace { page, pid, apart: false } => super::tracer::run(&page, pid),
        #[cfg(not(target_arch = "x86_64"))]
        other => anyhow::bail!("clock faults need x86-64: {other:?} by {myself:?}"),
    }
}

#[cfg(target_arch = "x86_64")]
mod traced {
    use super::super::{log_path, ptrace, tracer};
    use anyhow::{Context, anyhow, bail};
    use std::fs::OpenOptions;
    use std::io::{BufRead, BufReader};
    use std::os::unix::process::CommandExt;
    use std::path::Path;
    use std::process::{Command, Stdio};

    /// Has this process traced and becomes the program of `argv`. Returns only when that fails.
    pub(super) fn launch(page: &Path, argv: &[String], myself: &[String]) -> anyhow::Error {
        let Some((program, arguments)) = argv.split_first() else { return anyhow!("there is no command to run") };
        if let Err(error) = get_traced(page, myself) {
            return error.context(format!("cannot give {program} a clock of its own"));
        }
        anyhow::Error::new(Command::new(program).args(arguments).exec()).context(format!("cannot run {program}"))
    }

    /// Starts a tracer of this process that is no child of it: the program knows nothing of such a child, and faults that
    /// hit the program's tree must not hit it.
    fn get_traced(page: &Path, myself: &[String]) -> anyhow::Result<()> {
        ptrace::allow_tracer();
        let log_path = log_path(page);
        let log = OpenOptions::new().create(true).append(true).open(&log_path);
        let log = log.with_context(|| format!("cannot open {}", log_path.display()))?;
        let mut between = trace(page, std::process::id(), myself)
            .arg("--apart")
            // Not where the program works: that may be a file system which somebody wants to unmount.
            .current_dir("/")
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut line = String::new();
        if let Some(stdout) = between.stdout.take() {
            BufReader::new(stdout).read_line(&mut line)?;
        }
        between.wait()?;
        if line.trim() == tracer::TRACING {
            return Ok(());
        }
        bail!("its tracer ended at once (see {})", log_path.display())
    }

    /// Starts the tracer and leaves it to init.
    pub(super) fn trace_apart(page: &Path, pid: u32, myself: &[String]) -> anyhow::Result<()> {
        trace(page, pid, myself).spawn().map(drop).context("cannot start the tracer")
    }

    fn trace(page: &Path, pid: u32, myself: &[String]) -> Command {
        let mut command = Command::new(&myself[0]);
        command.args(&myself[1..]).args(["clock", "trace", "--page"]).arg(page).arg("--pid").arg(pid.to_string());
        command
    }
}

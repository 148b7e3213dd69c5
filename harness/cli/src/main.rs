//! The `squall` command.

mod check;
mod export;
mod show;

use clap::{Parser, Subcommand};
use std::process::ExitCode;

/// Usage or bad input (sysexits' EX_USAGE).
const EXIT_USAGE: u8 = 64;

#[derive(Parser)]
#[command(name = "squall", version, about = "Fault-injection tests for distributed systems", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Judge a saved history: exit code 0 valid, 1 invalid, 2 unknown
    Check(check::Args),
    /// Count what is in a history: operations, outcomes, latencies, rate
    Show(show::Args),
    /// Print a history as JSON Lines or EDN
    Export(export::Args),
}

fn main() -> ExitCode {
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let result = match cli.command {
        Command::Check(args) => check::run(&args),
        Command::Show(args) => show::run(&args).map(|()| 0),
        Command::Export(args) => export::run(&args).map(|()| 0),
    };
    match result {
        Ok(code) => code.into(),
        Err(error) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            EXIT_USAGE.into()
        }
    }
}

/// Whoever read our output has seen enough (`squall export … | head`).
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

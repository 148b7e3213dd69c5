//! The `squall-agent` program; `squall agent` is the same.

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "squall-agent", version, about = "What squall runs on a node")]
struct Cli {
    #[command(flatten)]
    args: squall_agent::AgentArgs,
}

fn main() -> ExitCode {
    match squall_agent::main(Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

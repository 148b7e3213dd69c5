//! The `squall-node` program; `squall node` is the same.

use clap::Parser;
use std::process::ExitCode;

#[derive(Parser)]
#[command(name = "squall-node", version, about = "A node of squall's own replicated store")]
struct Cli {
    #[command(flatten)]
    args: squall_node::NodeArgs,
}

fn main() -> ExitCode {
    match squall_node::main(Cli::parse().args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("error: {error:#}");
            ExitCode::FAILURE
        }
    }
}

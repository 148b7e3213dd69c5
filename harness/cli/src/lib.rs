//! The `squall` command line, for this project's own kinds and for anybody's: a test crate of yours registers its
//! targets and workloads and hands over to [`main_with`].

mod bench;
mod check;
mod cluster;
mod coverage;
mod describe;
mod doctor;
mod enter;
mod export;
mod heal;
mod inspect;
mod nemesis;
mod run;
mod self_check;
mod show;
mod stream;

use clap::{Parser, Subcommand};
use squall_harness::Registry;
use std::process::ExitCode;

/// Usage or bad input (sysexits' EX_USAGE).
const EXIT_USAGE: u8 = 64;

/// Something of ours or of the machine failed: no verdict (sysexits' EX_SOFTWARE).
const EXIT_FAILURE: u8 = 70;

#[derive(Parser)]
#[command(name = "squall", version, about = "Fault-injection tests for distributed systems", max_term_width = 100)]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand)]
enum Command {
    /// Run a test: cluster up, workload under faults, heal, verdict
    Run(run::Args),
    /// Judge a saved history: exit code 0 valid, 1 invalid, 2 unknown
    Check(check::Args),
    /// Show a saved run again, or count what is in a history
    Show(show::Args),
    /// Print a history as JSON Lines or EDN
    Export(export::Args),
    /// What can be named in a test file, and the runs in the store
    List(describe::ListArgs),
    /// The keys of a target, workload, fault or of the test file itself
    Describe(describe::DescribeArgs),
    /// What this machine and the nodes can do, and what to install
    Doctor(doctor::Args),
    /// Virtual machines for provider `vagrant`: bring them up, look at them, take them down
    Cluster(cluster::Args),
    /// A shell on a node of a local cluster that is up
    Enter(enter::Args),
    /// Undo every fault that is left on the nodes of a hosts file
    Heal(heal::Args),
    /// What runs exercised (fault, role of the node, state of the cluster), and what none ever did
    Coverage(coverage::Args),
    /// The faults there are, and each of them tried
    Nemesis(nemesis::Args),
    /// Measure the harness itself
    Bench(bench::Args),
    /// Hold every checker against brute force, on random small histories
    SelfCheck(self_check::Args),
    /// What runs on a node (started by squall)
    Agent(squall_agent::AgentArgs),
    /// A node of squall's own replicated store
    Node(squall_node::NodeArgs),
}

/// A problem with what the user gave us, as opposed to one with the machine.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
struct BadInput(String);

/// The whole program with these kinds.
pub fn main_with(registry: Registry) -> ExitCode {
    let argv: Vec<_> = std::env::args_os().skip(1).collect();
    if let Some(code) = squall_harness::cluster::local::hidden_main(&argv) {
        return code;
    }
    let cli = match Cli::try_parse() {
        Ok(cli) => cli,
        Err(error) => {
            let _ = error.print();
            return if error.use_stderr() { EXIT_USAGE.into() } else { ExitCode::SUCCESS };
        }
    };
    let as_failure = |result: anyhow::Result<()>| result.map(|()| ExitCode::SUCCESS).map_err(|e| (EXIT_FAILURE, e));
    let as_usage = |result: anyhow::Result<u8>| result.map(ExitCode::from).map_err(|e| (EXIT_USAGE, e));
    let result = match cli.command {
        Command::Run(args) => run::run(&args, registry).map_err(|error| (failure_code(&error), error)),
        Command::Check(args) => as_usage(check::run(&args)),
        Command::Show(args) => as_usage(show::run(&args).map(|()| 0)),
        Command::Export(args) => as_usage(export::run(&args).map(|()| 0)),
        Command::List(args) => as_usage(describe::list(&args, &registry).map(|()| 0)),
        Command::Describe(args) => as_usage(describe::describe(&args, &registry).map(|()| 0)),
        Command::Doctor(args) => doctor::run(&args).map_err(|error| (failure_code(&error), error)),
        Command::Cluster(args) => cluster::run(&args).map_err(|error| (failure_code(&error), error)),
        Command::Enter(args) => enter::run(&args).map_err(|error| (failure_code(&error), error)),
        Command::Heal(args) => heal::run(&args).map_err(|error| (failure_code(&error), error)),
        Command::Coverage(args) => as_usage(coverage::run(&args, &registry).map(|()| 0)),
        Command::Nemesis(args) => nemesis::run(&args, &registry).map_err(|error| (failure_code(&error), error)),
        Command::Bench(args) => as_failure(bench::run(&args)),
        Command::SelfCheck(args) => as_usage(self_check::run(&args)),
        Command::Agent(args) => as_failure(squall_agent::main(args)),
        Command::Node(args) => as_failure(squall_node::main(args)),
    };
    match result {
        Ok(code) => code,
        Err((_, error)) if is_closed_pipe(&error) => ExitCode::SUCCESS,
        Err((code, error)) => {
            eprintln!("error: {}", sentence(&error));
            code.into()
        }
    }
}

/// An error with its causes, each said once: some already hold the words of what is below or above them.
fn sentence(error: &anyhow::Error) -> String {
    let parts: Vec<String> = error.chain().map(ToString::to_string).collect();
    let is_said = |at: usize| {
        let longer = |(other, text): (usize, &String)| {
            other != at && text.contains(&parts[at]) && (text.len() > parts[at].len() || other < at)
        };
        parts.iter().enumerate().any(longer)
    };
    (0..parts.len()).filter(|at| !is_said(*at)).map(|at| parts[at].as_str()).collect::<Vec<_>>().join(": ")
}

fn failure_code(error: &anyhow::Error) -> u8 {
    let bad_input =
        error.chain().any(|cause| cause.is::<BadInput>() || cause.is::<squall_harness::config::ConfigError>());
    if bad_input { EXIT_USAGE } else { EXIT_FAILURE }
}

/// Whoever read our output has seen enough (`squall export … | head`).
fn is_closed_pipe(error: &anyhow::Error) -> bool {
    error
        .chain()
        .filter_map(|cause| cause.downcast_ref::<std::io::Error>())
        .any(|cause| cause.kind() == std::io::ErrorKind::BrokenPipe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_said_once() {
        let table: [(&[&str], &str); 4] = [
            (&["denied", "cannot read a: denied", "a"], "cannot read a: denied"),
            (&["denied", "cannot open b", "no verdict"], "no verdict: cannot open b: denied"),
            (&["same", "same"], "same"),
            (&["alone"], "alone"),
        ];
        for (from_below, expected) in table {
            let bottom = anyhow::anyhow!(from_below[0].to_owned());
            let error = from_below[1..].iter().fold(bottom, |error, what| error.context((*what).to_owned()));
            assert_eq!(sentence(&error), expected);
        }
    }
}

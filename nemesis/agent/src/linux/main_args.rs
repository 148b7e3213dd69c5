//! The agent's command line, embedded as `squall agent …`.

use super::state::State;
use super::{clock, confined, echo, fault, helper, ledger, process, serve, watchdog};
use clap::{Args, Subcommand};
use std::path::PathBuf;

/// `squall agent …`: what runs on a node.
#[derive(Args, Debug)]
pub struct AgentArgs {
    #[command(subcommand)]
    command: Command,
}

#[derive(Subcommand, Debug)]
enum Command {
    /// Serve a controller on stdin and stdout
    Serve {
        /// Where squall may write on this node
        #[arg(long)]
        root: PathBuf,
    },
    /// Undo faults whose lease has run out (started by `serve`)
    #[command(hide = true)]
    Watchdog {
        #[arg(long)]
        root: PathBuf,
    },
    /// Undo every fault in the ledger now
    Heal {
        /// Where squall may write on this node
        #[arg(long)]
        root: PathBuf,
    },
    /// Print the faults in force
    Ledger {
        /// Where squall may write on this node
        #[arg(long)]
        root: PathBuf,
    },
    /// Do a fault's work for as long as it is in force (started by `serve`)
    #[command(hide = true)]
    Helper {
        #[arg(long)]
        root: PathBuf,
        kind: String,
        process: String,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true)]
        args: Vec<String>,
    },
    /// Measure links: a server that sends back what it gets, and its clients
    #[command(hide = true)]
    Echo {
        #[command(subcommand)]
        echo: echo::Echo,
    },
    /// Programs with a clock of their own
    #[command(hide = true)]
    Clock(clock::ClockArgs),
    /// Join control groups and take limits, then become a program
    #[command(hide = true)]
    Confined {
        #[arg(long)]
        join: Vec<PathBuf>,
        #[arg(long)]
        limit: Vec<String>,
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        argv: Vec<String>,
    },
    /// Become a session leader, then a program
    #[command(hide = true)]
    Session {
        #[arg(trailing_var_arg = true, allow_hyphen_values = true, required = true)]
        argv: Vec<String>,
    },
}

/// Does what the command line says.
///
/// # Errors
/// A sentence for a person.
pub fn main(args: AgentArgs) -> anyhow::Result<()> {
    match args.command {
        Command::Serve { root } => serve::serve(State::open(&root, myself())?),
        Command::Watchdog { root } => watchdog::run(&State::open(&root, myself())?),
        Command::Heal { root } => {
            let state = State::open(&root, myself())?;
            let _lock = state.lock()?;
            for which in [fault::Which::Faults, fault::Which::Standing] {
                for entry in fault::heal_all(&state, which)? {
                    println!("healed {}", entry.id);
                }
            }
            Ok(())
        }
        Command::Ledger { root } => {
            for entry in ledger::all(&State::open(&root, myself())?) {
                println!("{}", serde_json::to_string(&entry)?);
            }
            Ok(())
        }
        Command::Helper { root, kind, process, args } => {
            helper::main(&State::open(&root, myself())?, &kind, &process, &args)
        }
        Command::Echo { echo } => echo::main(&echo),
        Command::Clock(args) => clock::main(args, &myself()),
        Command::Confined { join, limit, argv } => Err(confined::become_confined(&join, &limit, &argv)),
        Command::Session { argv } => Err(process::become_session(&argv)),
    }
}

/// Those that start this program again.
const SUBCOMMANDS: [&str; 6] = ["serve", "watchdog", "heal", "ledger", "helper", "clock"];

/// How this program was called, up to its subcommand: `/proc/self/exe agent`, or just `/proc/self/exe`.
fn myself() -> Vec<String> {
    let arguments = std::env::args().skip(1).take_while(|argument| !SUBCOMMANDS.contains(&argument.as_str()));
    std::iter::once("/proc/self/exe".to_owned()).chain(arguments).collect()
}

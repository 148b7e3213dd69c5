//! The agent's command line, embedded as `squall agent …`.

use super::state::State;
use super::{fault, ledger, process, serve, watchdog};
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
        Command::Serve { root } => serve::serve(State::open(&root)?, myself()),
        Command::Watchdog { root } => watchdog::run(&State::open(&root)?),
        Command::Heal { root } => {
            let state = State::open(&root)?;
            let _lock = state.lock()?;
            for entry in fault::heal_all(&state)? {
                println!("healed {}", entry.id);
            }
            Ok(())
        }
        Command::Ledger { root } => {
            for entry in ledger::all(&State::open(&root)?) {
                println!("{}", serde_json::to_string(&entry)?);
            }
            Ok(())
        }
        Command::Session { argv } => Err(process::become_session(&argv)),
    }
}

/// How this program was called, up to its subcommand: `/proc/self/exe agent`, or just `/proc/self/exe`. By that name the
/// program is found even after its file was replaced.
fn myself() -> Vec<String> {
    let arguments = std::env::args().skip(1).take_while(|argument| argument != "serve");
    std::iter::once("/proc/self/exe".to_owned()).chain(arguments).collect()
}

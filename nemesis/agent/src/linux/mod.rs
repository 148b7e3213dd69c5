//! The agent itself. Everything it must remember is on disk below `ROOT/agent`.

pub mod doctor;
mod exec;
mod fault;
mod files;
mod ledger;
mod main_args;
mod nft;
mod probe;
mod process;
mod procfs;
mod rules;
mod serve;
mod state;
mod stream;
mod watchdog;

pub use main_args::{AgentArgs, main};

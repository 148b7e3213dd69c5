//! The one program that runs on every node: processes, faults, ledger, watchdog.
//!
//! [`protocol`] is what controller and agent say to each other and builds everywhere; the rest is Linux only. Everything
//! the agent must remember is on disk below `ROOT/agent`, so that another agent (after a lost connection) and the
//! watchdog (when nobody comes back) can go on from there.

pub mod protocol;

#[cfg(target_os = "linux")]
pub mod doctor;
#[cfg(target_os = "linux")]
mod exec;
#[cfg(target_os = "linux")]
mod fault;
#[cfg(target_os = "linux")]
mod files;
#[cfg(target_os = "linux")]
mod frame;
#[cfg(target_os = "linux")]
mod ledger;
#[cfg(target_os = "linux")]
mod main_args;
#[cfg(target_os = "linux")]
mod nft;
#[cfg(target_os = "linux")]
mod probe;
#[cfg(target_os = "linux")]
mod process;
#[cfg(target_os = "linux")]
mod procfs;
#[cfg(target_os = "linux")]
mod rules;
#[cfg(target_os = "linux")]
mod serve;
#[cfg(target_os = "linux")]
mod state;
#[cfg(target_os = "linux")]
mod watchdog;

#[cfg(target_os = "linux")]
pub use main_args::{AgentArgs, main};

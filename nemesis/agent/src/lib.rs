//! The one program that runs on every node: processes, faults, ledger, watchdog.
//!
//! [`protocol`], [`frame`] and the data of [`faults`] are what controller and agent say to each other and build everywhere;
//! the rest is Linux only. Everything the agent must remember is on disk below `ROOT/agent`, so that another agent (after a lost connection)
//! and the watchdog (when nobody comes back) can go on from there.

pub mod disk;
pub mod faults;
pub mod frame;
#[cfg(target_os = "linux")]
mod linux;
pub mod protocol;

#[cfg(target_os = "linux")]
pub use linux::{AgentArgs, doctor, end_pid_namespace, main, sweep_control_groups};

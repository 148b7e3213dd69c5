//! The agent itself. Everything it must remember is on disk below `ROOT/agent`.

pub(crate) mod addresses;
pub(crate) mod cgroup;
pub(crate) mod clock;
mod confined;
pub(crate) mod device;
pub(crate) mod disk;
pub mod doctor;
mod echo;
pub(crate) mod effect;
mod end;
mod exec;
mod fault;
mod files;
pub(crate) mod helper;
pub(crate) mod kept;
pub(crate) mod ledger;
pub(crate) mod machine_clock;
mod main_args;
pub(crate) mod nft;
pub(crate) mod own_machine;
mod probe;
pub(crate) mod process;
pub(crate) mod procfs;
pub(crate) mod rlimit;
pub(crate) mod rules;
mod serve;
pub(crate) mod shaper;
pub(crate) mod state;
mod stream;
mod watchdog;

pub use cgroup::{end_namespace as end_pid_namespace, sweep as sweep_control_groups};
pub(crate) use effect::{At, Effect};
pub use main_args::{AgentArgs, main};

//! Control groups of our own around a process tree: how much CPU, memory and how many processes it may have.
//!
//! All faults on one process share one group, and of several limits on the same thing the tightest holds. The group is on
//! record, in a file below the agent's folder, before it is made; the last fault that leaves it moves the processes back to
//! where they were and removes it. Whoever starts the process again meanwhile has it join ([`procs_files`]).
//!
//! ```text
//! v1   MOUNT(cpu)/HOME/squall-…      a child of the group that the process was in, in each hierarchy that is needed
//! v2   MOUNT/squall/squall-…         beside all others: a group with processes may not have children with controllers
//! ```
//!
//! The name begins with the number of the pid namespace, so that [`sweep`] can tell the groups of a cluster that was
//! killed with all its watchdogs from those of one that lives. Memory that a process has taken before it is moved stays
//! charged to its old group, in both versions; so limits of memory say how much *more* there is.

mod group;
mod places;
mod sweep;
#[cfg(test)]
mod tests;

pub(crate) use group::{counter, enter, holds, leave, procs_files, remember, set};
pub(crate) use places::{Controller, on_offer};
pub(crate) use sweep::sweep_root;
pub use sweep::{end_namespace, sweep};

/// The time within which a quota of CPU may be used (microseconds): the kernel's own default.
pub(crate) const CPU_PERIOD_US: u64 = 100_000;

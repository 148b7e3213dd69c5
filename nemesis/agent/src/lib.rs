//! The one program that runs on every node: processes, faults, ledger, watchdog.
//!
//! [`protocol`] is what controller and agent say to each other and builds everywhere; the rest is Linux only.

pub mod protocol;

//! Workloads, one file each: operations, vocabulary and checkers.

pub mod noop;
pub mod register;

use squall_harness::{Kind, Workload};

/// All workloads of this crate.
pub fn kinds() -> Vec<Kind<dyn Workload>> {
    vec![register::kind(), noop::kind()]
}

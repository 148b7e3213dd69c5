//! Workloads, one file each: operations, vocabulary and checkers.

pub mod noop;
pub mod register;

use squall_harness::config::{ConfigError, Count, Section};
use squall_harness::{Kind, Workload};

/// More workers than this (per node or in all) are a typo: each has a connection of its own.
const CONCURRENCY_MAX: usize = 10_000;

/// All workloads of this crate.
pub fn kinds() -> Vec<Kind<dyn Workload>> {
    vec![register::kind(), noop::kind()]
}

/// Reads how many workers there are to be.
fn concurrency(section: &mut Section) -> Result<Count, ConfigError> {
    let doc = "workers; worker i talks to node i mod nodes";
    let count = section.get("concurrency", Count::PerNode(2), doc)?;
    let (Count::Absolute(number) | Count::PerNode(number)) = count;
    if number > CONCURRENCY_MAX {
        return Err(section.error(format!("`concurrency` must be at most {CONCURRENCY_MAX}, not {number}")));
    }
    Ok(count)
}

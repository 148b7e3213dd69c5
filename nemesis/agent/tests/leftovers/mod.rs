//! What a session may have left.

use crate::common::is_gone;
use std::path::Path;

fn all_pids() -> impl Iterator<Item = u32> {
    let entries = std::fs::read_dir("/proc").unwrap().flatten();
    entries.filter_map(|entry| entry.file_name().to_str()?.parse().ok())
}

/// Living processes with this path in their command line: agents, watchdogs and helpers.
pub(crate) fn of_root(root: &Path) -> Vec<u32> {
    let root = root.to_str().unwrap().as_bytes();
    let is_of = |pid: &u32| {
        let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        line.windows(root.len()).any(|part| part == root) && !is_gone(*pid)
    };
    all_pids().filter(is_of).collect()
}

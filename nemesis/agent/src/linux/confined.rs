//! Starts a program inside what faults in force confine it to: control groups to join, limits to start with.

use super::rlimit;
use super::state::State;
use anyhow::Context;
use std::collections::BTreeSet;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

/// What a process is to be confined to when it starts.
#[derive(Clone, Debug, Default, PartialEq)]
pub(crate) struct Confined {
    /// Files of `cgroup.procs`.
    pub(crate) join: BTreeSet<PathBuf>,
    /// As [`rlimit::at_start`] says them.
    pub(crate) limits: BTreeSet<String>,
}

impl Confined {
    /// What to put before a program and its arguments to have it start so; nothing when nothing confines it.
    pub(crate) fn through(&self, state: &State) -> Vec<String> {
        if self.join.is_empty() && self.limits.is_empty() {
            return Vec::new();
        }
        let mut argv = state.myself.clone();
        argv.push("confined".to_owned());
        argv.extend(self.join.iter().flat_map(|file| ["--join".to_owned(), file.display().to_string()]));
        argv.extend(self.limits.iter().flat_map(|limit| ["--limit".to_owned(), limit.clone()]));
        argv.push("--".to_owned());
        argv
    }
}

/// Joins, takes the limits, and becomes the program of `argv`. Returns only when that fails.
pub(crate) fn become_confined(join: &[PathBuf], limits: &[String], argv: &[String]) -> anyhow::Error {
    let Some((program, arguments)) = argv.split_first() else { return anyhow::anyhow!("there is no command to run") };
    // Made before a limit of memory is taken, after which it may not be possible any more.
    let mut command = Command::new(program);
    command.args(arguments);
    let confine = || -> anyhow::Result<()> {
        for file in join {
            std::fs::write(file, "0\n")
                .with_context(|| format!("cannot join the control group of {}", file.display()))?;
        }
        limits.iter().try_for_each(|limit| rlimit::start_with(limit))
    };
    match confine() {
        Err(error) => error,
        Ok(()) => anyhow::Error::new(command.exec()).context(format!("cannot run {program}")),
    }
}

//! Soft resource limits of a process tree (setrlimit(2)), lowered from outside by prlimit(2) and put back. The hard limits
//! stay, so that putting back takes no privilege.
//!
//! What the limits were is on record, in a file below the agent's folder, before they are lowered. A child that was born
//! meanwhile has inherited its parent's lowered limit, and gets back what the first process of the tree had.

use super::process;
use super::procfs::Stat;
use super::state::{State, boot_id, read_json, write_json};
use crate::protocol::AgentError;
use rustix::process::{Pid, Rlimit, getrlimit, prlimit, setrlimit};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// What is limited.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Resource {
    /// File descriptors: every new one must be below this.
    Files,
    /// Bytes of address space.
    Memory,
    /// Threads of the process' user, wherever they are: who has more cannot have another one.
    Processes,
}

impl Resource {
    /// All of them by the name that the command line uses.
    const ALL: [(&str, Self); 3] = [("files", Self::Files), ("memory", Self::Memory), ("processes", Self::Processes)];

    fn name(self) -> &'static str {
        Self::ALL.iter().find(|(_, known)| *known == self).map_or("", |(name, _)| name)
    }

    fn kernel(self) -> rustix::process::Resource {
        match self {
            Self::Files => rustix::process::Resource::Nofile,
            Self::Memory => rustix::process::Resource::As,
            Self::Processes => rustix::process::Resource::Nproc,
        }
    }
}

/// What stands on disk about the limits of one fault.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot_id: String,
    resource: Resource,
    imposed: Vec<Imposed>,
    /// For a process that is started meanwhile.
    at_start: Option<u64>,
}

/// One process' limit; without a number it is unlimited.
#[derive(Clone, Copy, Debug, Serialize, Deserialize)]
struct Imposed {
    pid: u32,
    start_ticks: u64,
    before: Option<u64>,
    limit: u64,
}

fn path(state: &State, id: &str) -> PathBuf {
    state.path(&format!("rlimit.{id}.json"))
}

fn record(state: &State, id: &str) -> Option<Record> {
    read_json::<Record>(&path(state, id)).filter(|record| record.boot_id == boot_id())
}

/// Soft and hard limit; without a number it is unlimited.
type Limits = (Option<u64>, Option<u64>);

/// The soft limit of process `pid` becomes `soft`.
fn set(pid: u32, resource: Resource, soft: Option<u64>) -> Result<(), rustix::io::Errno> {
    // There is no call that changes only one of the two: asked first, and the hard one is written back as it is.
    let (_, maximum) = get(pid, resource).ok_or(rustix::io::Errno::SRCH)?;
    let pid = Pid::from_raw(pid as i32).ok_or(rustix::io::Errno::SRCH)?;
    prlimit(Some(pid), resource.kernel(), Rlimit { current: soft, maximum }).map(|_| ())
}

/// The limits of a process as `/proc` says them.
fn get(pid: u32, resource: Resource) -> Option<Limits> {
    parse(&std::fs::read_to_string(format!("/proc/{pid}/limits")).ok()?, resource)
}

fn parse(text: &str, resource: Resource) -> Option<Limits> {
    let title = match resource {
        Resource::Files => "Max open files",
        Resource::Memory => "Max address space",
        Resource::Processes => "Max processes",
    };
    let mut fields = text.lines().find_map(|line| line.strip_prefix(title))?.split_ascii_whitespace();
    Some((fields.next()?.parse().ok(), fields.next()?.parse().ok()))
}

/// Lowers the limit of every process of the tree called `process` to what `limit` says of it; `at_start` is for those that are
/// started meanwhile. How many processes that hit. The caller holds the lock.
///
/// # Errors
/// When one of them keeps its limit. What is half done, [`lift`] undoes.
pub(crate) fn impose(
    state: &State,
    process: &str,
    id: &str,
    resource: Resource,
    at_start: Option<u64>,
    limit: impl Fn(&Stat) -> Option<u64>,
) -> Result<u64, AgentError> {
    let mut record = Record { boot_id: boot_id(), resource, imposed: Vec::new(), at_start };
    for stat in process::tree(state, process) {
        let (Some(limit), Some(before)) = (limit(&stat), get(stat.pid, resource).map(|(soft, _)| soft)) else {
            continue;
        };
        // Never more than it had.
        let limit = before.map_or(limit, |before| before.min(limit));
        record.imposed.push(Imposed { pid: stat.pid, start_ticks: stat.start_ticks, before, limit });
    }
    write_json(&path(state, id), &record, false)?;
    let mut hit = 0;
    for one in &record.imposed {
        match set(one.pid, resource, Some(one.limit)) {
            Ok(_) => hit += 1,
            // It has ended.
            Err(rustix::io::Errno::SRCH) => {}
            Err(error) => {
                let what = format!("cannot limit the {} of process {}: {error}", resource.name(), one.pid);
                return Err(AgentError::new(what));
            }
        }
    }
    Ok(hit)
}

/// How many of the processes that fault `id` limited live and still have that limit; `None` when it limits none.
pub(crate) fn held(state: &State, id: &str) -> Option<u64> {
    let record = record(state, id)?;
    let holds = |one: &&Imposed| {
        Stat::of(one.pid).is_some_and(|stat| stat.start_ticks == one.start_ticks && !stat.is_dead())
            && get(one.pid, record.resource).is_some_and(|(soft, _)| soft == Some(one.limit))
    };
    Some(record.imposed.iter().filter(holds).count() as u64)
}

/// Puts back what fault `id` has lowered; how many processes that concerned. Doing it twice is fine. The caller holds the lock.
///
/// # Errors
/// When a process keeps its lowered limit: then it stays on record.
pub(crate) fn lift(state: &State, process: &str, id: &str) -> Result<u64, AgentError> {
    let Some(record) = record(state, id) else { return Ok(0) };
    let mut lifted = 0;
    let first = record.imposed.first().map(|one| one.before);
    // Again, until nobody is left: a child may be born with a lowered limit while its parent is looked at.
    loop {
        let mut again = false;
        for stat in process::tree(state, process) {
            let Some((Some(now), hard)) = get(stat.pid, record.resource) else { continue };
            let own = record.imposed.iter().find(|one| one.pid == stat.pid && one.start_ticks == stat.start_ticks);
            let before = match own {
                Some(one) if one.limit == now && one.before != Some(now) => one.before,
                None if record.at_start == Some(now) || record.imposed.iter().any(|one| one.limit == now) => {
                    match first {
                        Some(before) if before != Some(now) => before,
                        // It was started with the limit when nothing ran: it gets all that it may have.
                        None => hard,
                        Some(_) => continue,
                    }
                }
                _ => continue,
            };
            if before == Some(now) {
                continue;
            }
            match set(stat.pid, record.resource, before) {
                Ok(()) => (lifted, again) = (lifted + 1, true),
                Err(rustix::io::Errno::SRCH) => {}
                Err(error) => {
                    let what =
                        format!("cannot put back the {} of process {}: {error}", record.resource.name(), stat.pid);
                    return Err(AgentError::new(what));
                }
            }
        }
        if !again {
            break;
        }
    }
    let path = path(state, id);
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(AgentError::io("remove", &path, e)),
        _ => Ok(lifted),
    }
}

/// The limit with which a process is to be started while fault `id` is in force, as [`start_with`] reads it.
pub(crate) fn at_start(state: &State, id: &str) -> Option<String> {
    let record = record(state, id)?;
    record.at_start.map(|limit| format!("{}={limit}", record.resource.name()))
}

/// Gives this process a limit of [`at_start`].
///
/// # Errors
/// When it cannot have it.
pub(crate) fn start_with(text: &str) -> anyhow::Result<()> {
    let parsed = text.split_once('=').and_then(|(name, number)| {
        let (_, resource) = Resource::ALL.into_iter().find(|(known, _)| *known == name)?;
        Some((resource, number.parse::<u64>().ok()?))
    });
    let Some((resource, limit)) = parsed else { anyhow::bail!("`{text}` is no limit: it is given by squall itself") };
    let now = getrlimit(resource.kernel());
    let current = Some(now.current.map_or(limit, |now| now.min(limit)));
    setrlimit(resource.kernel(), Rlimit { current, maximum: now.maximum })
        .map_err(|errno| anyhow::anyhow!("cannot start with {text}: {errno}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn limits_are_read_as_proc_writes_them() {
        let text = "Limit                     Soft Limit           Hard Limit           Units     \n\
                    Max processes             96000                unlimited            processes \n\
                    Max open files            1024                 524288               files     \n\
                    Max address space         unlimited            unlimited            bytes     \n";
        assert_eq!(parse(text, Resource::Files), Some((Some(1024), Some(524_288))));
        assert_eq!(parse(text, Resource::Memory), Some((None, None)));
        assert_eq!(parse(text, Resource::Processes), Some((Some(96_000), None)));
        assert_eq!(parse("", Resource::Files), None);
    }

    #[test]
    fn only_what_we_say_ourselves_is_a_limit() {
        for bad in ["", "files", "files=", "files=x", "nothing=3"] {
            assert!(start_with(bad).unwrap_err().to_string().contains("no limit"));
        }
    }
}

//! What `/proc` says of processes.

use std::collections::BTreeSet;
use std::fs;

/// A line of `/proc/PID/stat`, as far as we need it (proc(5)).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Stat {
    /// Process id.
    pub(crate) pid: u32,
    /// `R`, `S`, `T`, `Z`, …
    pub(crate) state: char,
    /// Its parent.
    pub(crate) ppid: u32,
    /// Its session.
    pub(crate) session: u32,
    /// When it started, in clock ticks since boot (field 22): with the pid it names one process of this boot.
    pub(crate) start_ticks: u64,
}

impl Stat {
    /// The process `pid`, if there is one.
    pub(crate) fn of(pid: u32) -> Option<Self> {
        parse(&fs::read_to_string(format!("/proc/{pid}/stat")).ok()?)
    }

    /// Ended, but not collected by its parent yet.
    pub(crate) fn is_dead(&self) -> bool {
        matches!(self.state, 'Z' | 'X' | 'x')
    }
}

fn parse(line: &str) -> Option<Stat> {
    // The command may hold blanks and parentheses; the last `)` ends it.
    let (head, tail) = line.rsplit_once(')')?;
    let pid = head.split_once(' ')?.0.parse().ok()?;
    let fields: Vec<&str> = tail.split_ascii_whitespace().collect();
    Some(Stat {
        pid,
        state: fields.first()?.chars().next()?,
        ppid: fields.get(1)?.parse().ok()?,
        session: fields.get(3)?.parse().ok()?,
        start_ticks: fields.get(19)?.parse().ok()?,
    })
}

/// All processes of this pid namespace.
pub(crate) fn all() -> Vec<Stat> {
    let Ok(entries) = fs::read_dir("/proc") else { return Vec::new() };
    entries.flatten().filter_map(|entry| Stat::of(entry.file_name().to_str()?.parse().ok()?)).collect()
}

/// The living processes of the tree that began with process `root` as leader of a session of its own: its session, and
/// whatever descends from it in other sessions.
pub(crate) fn tree(root: u32, start_ticks: u64) -> Vec<Stat> {
    let all = all();
    // Another process with that pid: then the tree is gone, for a pid is not used again while its session lives.
    if all.iter().any(|stat| stat.pid == root && stat.start_ticks != start_ticks) {
        return Vec::new();
    }
    let mut members: BTreeSet<u32> =
        all.iter().filter(|stat| stat.pid == root || stat.session == root).map(|stat| stat.pid).collect();
    loop {
        let before = members.len();
        members.extend(all.iter().filter(|stat| members.contains(&stat.ppid)).map(|stat| stat.pid).collect::<Vec<_>>());
        if members.len() == before {
            return all.into_iter().filter(|stat| members.contains(&stat.pid) && !stat.is_dead()).collect();
        }
    }
}

/// All that descends from process `pid`, the nearest first.
pub(crate) fn descendants(pid: u32) -> Vec<u32> {
    let all = all();
    let mut found = vec![pid];
    let mut next = 0;
    while let Some(&parent) = found.get(next) {
        // A number that was used again while we looked must not lead in a circle.
        let children: Vec<u32> = all.iter().filter(|stat| stat.ppid == parent).map(|stat| stat.pid).collect();
        found.extend(children.into_iter().filter(|child| !found.contains(child)).collect::<Vec<_>>());
        next += 1;
    }
    found.split_off(1)
}

/// Whether every thread of process `pid` is stopped by a signal.
pub(crate) fn is_stopped(pid: u32) -> bool {
    let Ok(tasks) = fs::read_dir(format!("/proc/{pid}/task")) else { return true };
    tasks.flatten().all(|task| {
        let stat = fs::read_to_string(task.path().join("stat")).ok().and_then(|line| parse(&line));
        stat.is_none_or(|stat| matches!(stat.state, 'T' | 't' | 'Z' | 'X'))
    })
}

/// The command line of process `pid`.
pub(crate) fn command_line(pid: u32) -> Vec<String> {
    let bytes = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
    let text = String::from_utf8_lossy(&bytes).into_owned();
    text.split_terminator('\0').map(str::to_owned).collect()
}

/// Which file process `pid` (or `self`) runs: device and inode. `None` when it is dead or not ours to look at.
pub(crate) fn program(pid: impl std::fmt::Display) -> Option<(u64, u64)> {
    use std::os::unix::fs::MetadataExt;
    let file = fs::metadata(format!("/proc/{pid}/exe")).ok()?;
    Some((file.dev(), file.ino()))
}

/// A line of `/proc/PID/status` that is in kB, like `VmSize` or `RssAnon`, in bytes.
pub(crate) fn status_bytes(pid: u32, key: &str) -> Option<u64> {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).ok()?;
    let line = text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))?;
    line.trim().strip_suffix(" kB")?.trim().parse::<u64>().ok().map(|kb| kb << 10)
}

/// The lowest number that no open file of process `pid` has, but for `skip` of them.
pub(crate) fn free_descriptor(pid: u32, skip: u64) -> Option<u64> {
    let entries = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let open: BTreeSet<u64> = entries.flatten().filter_map(|entry| entry.file_name().to_str()?.parse().ok()).collect();
    (0..).filter(|number| !open.contains(number)).nth(usize::try_from(skip).ok()?)
}

/// Whether root is really somebody else, in a user namespace.
pub(crate) fn is_mapped_user() -> bool {
    let map = fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    let mut fields = map.split_ascii_whitespace();
    fields.next() == Some("0") && fields.next().is_some_and(|outside| outside != "0")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_command_with_parentheses_does_not_shift_the_fields() {
        let line = "42 (a) b (c) S 1 42 40 0 -1 4194560 1 0 0 0 0 0 0 0 20 0 1 0 777 0 0";
        let stat = parse(line).unwrap();
        assert_eq!(stat, Stat { pid: 42, state: 'S', ppid: 1, session: 40, start_ticks: 777 });
        assert_eq!(parse("garbage"), None);
    }

    #[test]
    fn we_are_alive() {
        let me = Stat::of(std::process::id()).unwrap();
        assert!(!me.is_dead());
        assert!(tree(me.pid, me.start_ticks + 1).is_empty());
        assert!(tree(me.pid, me.start_ticks).iter().any(|stat| stat.pid == me.pid));
    }
}

//! Removes the empty groups of clusters that are gone. A watchdog removes what it is alive to remove; but who kills a local
//! cluster's namespaces kills all its watchdogs with them, and a group is not a thing that ends with a namespace.

use super::places;
use crate::linux::state::State;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// How the names of our groups begin.
const PREFIX: &str = "squall-";

/// How often, and after which pause, a group is tried again that is not empty yet.
const TRIES: u32 = 200;
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// The number of a pid namespace: `pid:[4026531836]`.
fn namespace(link: &Path) -> Option<u64> {
    let text = fs::read_link(link).ok()?;
    text.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// How the names of groups begin that are used in this pid namespace.
pub(super) fn prefix_here() -> String {
    format!("{PREFIX}{}-", namespace(Path::new("/proc/self/ns/pid")).unwrap_or(0))
}

/// The folders in which groups of ours may be, for whoever asks.
fn nests() -> BTreeSet<PathBuf> {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mounts = places::mounts(&mountinfo);
    mounts.iter().filter_map(|mount| mount.home(&cgroups).ok().map(|home| mount.nest(&home))).collect()
}

/// Removes the groups whose names are `ours`, of processes that have been killed.
fn remove(ours: impl Fn(&str) -> bool) {
    let is_ours = |group: &fs::DirEntry| group.file_name().to_str().is_some_and(&ours);
    // A process that was killed leaves its group only when it has ended.
    for _ in 0..TRIES {
        let groups = nests().into_iter().flat_map(|nest| fs::read_dir(nest).into_iter().flatten().flatten());
        let left: Vec<PathBuf> = groups.filter(is_ours).map(|group| group.path()).collect();
        if left.iter().filter(|group| fs::remove_dir(group).is_err()).count() == 0 {
            return;
        }
        std::thread::sleep(LOOK_AGAIN);
    }
}

/// Removes the groups of a root that is gone, with all records of them, after its processes have been killed.
pub(crate) fn sweep_root(state: &State) {
    let ending = super::group::ending(state);
    remove(|name| name.starts_with(PREFIX) && name.ends_with(&ending));
}

/// The pid namespaces of all processes that can be seen: of this one and of those below.
fn namespaces() -> BTreeSet<u64> {
    let processes = fs::read_dir("/proc").into_iter().flatten().flatten();
    processes.filter_map(|process| namespace(&process.path().join("ns/pid"))).collect()
}

/// The pid namespace that the name of a group tells.
fn namespace_of(name: &str) -> Option<u64> {
    name.strip_prefix(PREFIX)?.split_once('-')?.0.parse().ok()
}

/// Kills everything else in this pid namespace and removes the groups made there: for its process 1, when nobody outside
/// is left to [`sweep`].
pub fn end_namespace() {
    let ours = namespaces();
    // Nothing else may be there.
    let _ = nix::sys::signal::kill(nix::unistd::Pid::from_raw(-1), nix::sys::signal::Signal::SIGKILL);
    remove(|name| namespace_of(name).is_some_and(|number| ours.contains(&number)));
}

/// Removes every group of ours that is empty and whose pid namespace is gone; how many. To be called where all those
/// namespaces can be seen: outside of them.
pub fn sweep() -> usize {
    let alive = namespaces();
    nests().iter().map(|nest| sweep_in(nest, &alive)).sum()
}

pub(super) fn sweep_in(nest: &Path, alive: &BTreeSet<u64>) -> usize {
    let Ok(groups) = fs::read_dir(nest) else { return 0 };
    let is_left = |name: &str| namespace_of(name).is_some_and(|number| !alive.contains(&number));
    // The kernel removes none that has a process in it.
    let left = groups.flatten().filter(|group| group.file_name().to_str().is_some_and(is_left));
    left.filter(|group| fs::remove_dir(group.path()).is_ok()).count()
}

//! Removes the empty groups of clusters that are gone. A watchdog removes what it is alive to remove; but who kills a local
//! cluster's namespaces kills all its watchdogs with them, and a group is not a thing that ends with a namespace.

use super::places;
use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

/// How the names of our groups begin.
const PREFIX: &str = "squall-";

/// The number of a pid namespace: `pid:[4026531836]`.
fn namespace(link: &Path) -> Option<u64> {
    let text = fs::read_link(link).ok()?;
    text.to_str()?.strip_prefix("pid:[")?.strip_suffix(']')?.parse().ok()
}

/// How the names of groups begin that are used in this pid namespace.
pub(super) fn prefix_here() -> String {
    format!("{PREFIX}{}-", namespace(Path::new("/proc/self/ns/pid")).unwrap_or(0))
}

/// Removes every group of ours that is empty and whose pid namespace is gone; how many. To be called where all those
/// namespaces can be seen: outside of them.
pub fn sweep() -> usize {
    let mountinfo = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let cgroups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut alive: BTreeSet<u64> = BTreeSet::new();
    for process in fs::read_dir("/proc").into_iter().flatten().flatten() {
        alive.extend(namespace(&process.path().join("ns/pid")));
    }
    let mounts = places::mounts(&mountinfo);
    let nests: BTreeSet<PathBuf> =
        mounts.iter().filter_map(|mount| mount.home(&cgroups).ok().map(|home| mount.nest(&home))).collect();
    nests.iter().map(|nest| sweep_in(nest, &alive)).sum()
}

pub(super) fn sweep_in(nest: &Path, alive: &BTreeSet<u64>) -> usize {
    let Ok(groups) = fs::read_dir(nest) else { return 0 };
    let is_left = |name: &str| {
        let number = name.strip_prefix(PREFIX).and_then(|rest| rest.split_once('-')).map(|(number, _)| number);
        number.and_then(|number| number.parse::<u64>().ok()).is_some_and(|number| !alive.contains(&number))
    };
    // The kernel removes none that has a process in it.
    let left = groups.flatten().filter(|group| group.file_name().to_str().is_some_and(is_left));
    left.filter(|group| fs::remove_dir(group.path()).is_ok()).count()
}

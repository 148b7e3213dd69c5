//! The group around one process tree: on record, made, joined, limited, left, removed.

use super::CPU_PERIOD_US;
use super::places::{self, Controller, Place, Version};
use crate::linux::process;
use crate::linux::state::{State, boot_id, read_json, write_json};
use crate::protocol::AgentError;
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use std::thread;
use std::time::{Duration, Instant};

/// How long a group may take to empty and go.
const REMOVE_TIME_MAX: Duration = Duration::from_secs(5);

/// Pause between two looks at it.
const LOOK_AGAIN: Duration = Duration::from_millis(5);

/// What stands on disk about the group of one process.
#[derive(Debug, Serialize, Deserialize)]
struct Record {
    boot_id: String,
    places: BTreeMap<Controller, Place>,
    /// Of each controller: which fault wants which limit.
    limits: BTreeMap<Controller, BTreeMap<String, u64>>,
    /// What faults want to remember of the process as it was before.
    before: BTreeMap<String, u64>,
    /// Files of `cgroup.subtree_control` (v2) that we had to switch a controller on in.
    switched_on: Vec<(PathBuf, Controller)>,
}

/// What a group is made from: the real thing, or a test's folders.
pub(super) struct System {
    pub(super) mountinfo: String,
    /// `/proc/PID/cgroup` of whom the group is for.
    pub(super) cgroups: String,
}

impl System {
    fn of(state: &State, process: &str) -> Self {
        let leader = process::status(state, process).ok().filter(|_| !process::tree(state, process).is_empty());
        let whose = leader.and_then(|status| status.pid).map_or_else(|| "self".to_owned(), |pid| pid.to_string());
        Self {
            mountinfo: fs::read_to_string("/proc/self/mountinfo").unwrap_or_default(),
            cgroups: fs::read_to_string(format!("/proc/{whose}/cgroup")).unwrap_or_default(),
        }
    }
}

fn record_path(state: &State, process: &str) -> PathBuf {
    state.path("groups").join(format!("{process}.json"))
}

fn record(state: &State, process: &str) -> Option<Record> {
    read_json::<Record>(&record_path(state, process)).filter(|record| record.boot_id == boot_id())
}

fn write_record(state: &State, process: &str, record: &Record) -> Result<(), AgentError> {
    let path = record_path(state, process);
    let dir = state.path("groups");
    fs::create_dir_all(&dir).map_err(|e| AgentError::io("create", &dir, e))?;
    // Not synced: groups do not survive what would lose it.
    write_json(&path, record, false)
}

/// The name of the group: unique on the machine, and telling in which pid namespace it is used.
pub(super) fn name(state: &State, process: &str) -> String {
    let plain = |text: &str| text.chars().filter(|c| c.is_ascii_alphanumeric() || *c == '-').collect::<String>();
    let folder = state.root.file_name().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default();
    format!("{}{}-{}-{}", super::sweep::prefix_here(), plain(&folder), plain(process), ending(state))
}

/// How the names of all groups of this root end: a hash of its path (FNV-1a).
pub(super) fn ending(state: &State) -> String {
    let root = state.root.as_os_str().as_encoded_bytes();
    let hash = root.iter().fold(0xcbf2_9ce4_8422_2325u64, |h, b| (h ^ u64::from(*b)).wrapping_mul(0x0100_0000_01b3));
    format!("{hash:016x}")
}

fn add_to(path: &Path, text: &str) -> io::Result<()> {
    OpenOptions::new().append(true).create(true).open(path)?.write_all(text.as_bytes())
}

fn set_file(path: PathBuf, text: &str) -> Result<(), AgentError> {
    fs::write(&path, text).map_err(|e| AgentError::io(&format!("write {text} to"), &path, e))
}

fn members(group: &Path) -> BTreeSet<u32> {
    let text = fs::read_to_string(group.join("cgroup.procs")).unwrap_or_default();
    text.lines().filter_map(|line| line.parse().ok()).collect()
}

/// Puts the process called `process` into a group in which fault `id` limits `controller` to `limit`, which may look at what
/// the group has now. The caller holds the lock.
///
/// # Errors
/// When no such group can be made here. What is half done, [`leave`] takes away.
pub(crate) fn enter(
    state: &State,
    process: &str,
    id: &str,
    controller: Controller,
    limit: impl FnOnce(u64) -> u64,
) -> Result<(), AgentError> {
    enter_with(&System::of(state, process), state, process, id, controller, limit)
}

pub(super) fn enter_with(
    system: &System,
    state: &State,
    process: &str,
    id: &str,
    controller: Controller,
    limit: impl FnOnce(u64) -> u64,
) -> Result<(), AgentError> {
    let mut record = record(state, process).unwrap_or_else(|| Record {
        boot_id: boot_id(),
        places: BTreeMap::new(),
        limits: BTreeMap::new(),
        before: BTreeMap::new(),
        switched_on: Vec::new(),
    });
    let place = match record.places.get(&controller) {
        Some(place) => place.clone(),
        None => {
            let mounts = places::mounts(&system.mountinfo);
            let place = places::find(controller, &mounts, &system.cgroups, &name(state, process))
                .map_err(|why| AgentError::new(format!("`{process}` gets no control group: {why}")))?;
            record.places.insert(controller, place.clone());
            // On record before it is made.
            write_record(state, process, &record)?;
            make(state, process, &mut record, controller, &place)?;
            place
        }
    };
    move_all(&place.group, || process::tree(state, process).iter().map(|stat| stat.pid).collect())?;
    let limit = limit(usage(controller, &place));
    record.limits.entry(controller).or_default().insert(id.to_owned(), limit);
    write_record(state, process, &record)?;
    apply(&record, controller)
}

fn make(
    state: &State,
    process: &str,
    record: &mut Record,
    controller: Controller,
    place: &Place,
) -> Result<(), AgentError> {
    let make_dir = |dir: &Path| match fs::create_dir(dir) {
        Err(e) if e.kind() != io::ErrorKind::AlreadyExists => Err(AgentError::io("make the control group", dir, e)),
        _ => Ok(()),
    };
    if place.version == Version::V2 {
        let nest = place.mount.join("squall");
        make_dir(&nest)?;
        for dir in [&place.mount, &nest] {
            let control = dir.join("cgroup.subtree_control");
            let is_on = fs::read_to_string(&control)
                .is_ok_and(|text| text.split_ascii_whitespace().any(|one| one == controller.name()));
            if !is_on {
                record.switched_on.push((control.clone(), controller));
                write_record(state, process, record)?;
                add_to(&control, &format!("+{}", controller.name()))
                    .map_err(|e| AgentError::io(&format!("switch on `{}` in", controller.name()), &control, e))?;
            }
        }
    }
    make_dir(&place.group)
}

/// Moves processes until all of them are in `group`: one that forks meanwhile leaves a child behind.
fn move_all(group: &Path, pids: impl Fn() -> Vec<u32>) -> Result<(), AgentError> {
    let procs = group.join("cgroup.procs");
    let deadline = Instant::now() + REMOVE_TIME_MAX;
    loop {
        let there = members(group);
        let missing: Vec<u32> = pids().into_iter().filter(|pid| !there.contains(pid)).collect();
        if missing.is_empty() {
            return Ok(());
        }
        for pid in missing {
            match add_to(&procs, &format!("{pid}\n")) {
                // It has ended.
                Err(e) if e.raw_os_error() == Some(nix::libc::ESRCH) => {}
                Err(e) => return Err(AgentError::io(&format!("move process {pid} to"), group, e)),
                Ok(()) => {}
            }
        }
        if Instant::now() > deadline {
            return Err(AgentError::new(format!("processes keep away from {}", group.display())));
        }
    }
}

/// What the group has now, in the unit of the controller's limit.
fn usage(controller: Controller, place: &Place) -> u64 {
    let file = match (controller, place.version) {
        (Controller::Cpu, _) => return 0,
        (Controller::Memory, Version::V1) => "memory.usage_in_bytes",
        (Controller::Memory, Version::V2) => "memory.current",
        (Controller::Pids, _) => "pids.current",
    };
    fs::read_to_string(place.group.join(file)).ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0)
}

/// Writes the tightest of the limits that are wanted, or none.
fn apply(record: &Record, controller: Controller) -> Result<(), AgentError> {
    let Some(Place { version, group, .. }) = record.places.get(&controller) else { return Ok(()) };
    let limit = record.limits.get(&controller).and_then(|wanted| wanted.values().min().copied());
    let number = |none: &str| limit.map_or_else(|| none.to_owned(), |limit| limit.to_string());
    match (controller, version) {
        (Controller::Cpu, Version::V1) => {
            if limit.is_some() {
                set_file(group.join("cpu.cfs_period_us"), &CPU_PERIOD_US.to_string())?;
            }
            set_file(group.join("cpu.cfs_quota_us"), &number("-1"))
        }
        (Controller::Cpu, Version::V2) => {
            set_file(group.join("cpu.max"), &format!("{} {CPU_PERIOD_US}", number("max")))
        }
        (Controller::Memory, Version::V1) => {
            // With swap: never below what is without. Not there when the kernel does not count it.
            let with_swap = group.join("memory.memsw.limit_in_bytes");
            let counts_swap = with_swap.exists();
            if counts_swap {
                set_file(with_swap.clone(), "-1")?;
            }
            set_file(group.join("memory.limit_in_bytes"), &number("-1"))?;
            if counts_swap { set_file(with_swap, &number("-1")) } else { Ok(()) }
        }
        (Controller::Memory, Version::V2) => {
            let swap = group.join("memory.swap.max");
            if swap.exists() {
                set_file(swap, if limit.is_some() { "0" } else { "max" })?;
            }
            set_file(group.join("memory.max"), &number("max"))
        }
        (Controller::Pids, _) => set_file(group.join("pids.max"), &number("max")),
    }
}

/// Changes the limit that fault `id` wants, if it wants one.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn set(
    state: &State,
    process: &str,
    id: &str,
    controller: Controller,
    limit: u64,
) -> Result<(), AgentError> {
    let Some(mut record) = record(state, process) else { return Ok(()) };
    match record.limits.get_mut(&controller).and_then(|wanted| wanted.get_mut(id)) {
        Some(now) if *now != limit => *now = limit,
        _ => return Ok(()),
    }
    write_record(state, process, &record)?;
    apply(&record, controller)
}

/// What fault `id` wants to remember of the process as it was before, from the first call on.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn remember(state: &State, process: &str, id: &str, now: u64) -> Result<u64, AgentError> {
    let Some(mut record) = record(state, process) else { return Ok(now) };
    let known = *record.before.entry(id.to_owned()).or_insert(now);
    write_record(state, process, &record)?;
    Ok(known)
}

/// Whether fault `id` limits `controller`: what the limit is, if every process of the tree is in the group. `None` when the
/// fault has no group.
///
/// # Errors
/// With the processes that are elsewhere.
pub(crate) fn holds(state: &State, process: &str, id: &str, controller: Controller) -> Result<Option<u64>, AgentError> {
    let Some(record) = record(state, process) else { return Ok(None) };
    let Some(limit) = record.limits.get(&controller).and_then(|wanted| wanted.get(id).copied()) else {
        return Ok(None);
    };
    let Some(place) = record.places.get(&controller) else { return Ok(None) };
    let outside = |pids: Vec<u32>| -> Vec<u32> {
        let there = members(&place.group);
        pids.into_iter().filter(|pid| !there.contains(pid)).collect()
    };
    let tree = || process::tree(state, process).iter().map(|stat| stat.pid).collect::<Vec<_>>();
    // Twice: a child may have been born and have ended in between.
    let first = outside(tree());
    let left: Vec<u32> = if first.is_empty() {
        first
    } else {
        let still: Vec<u32> = tree().into_iter().filter(|pid| first.contains(pid)).collect();
        outside(still)
    };
    match left.first() {
        None if place.group.is_dir() => Ok(Some(limit)),
        None => Err(AgentError::new(format!("the control group {} is gone", place.group.display()))),
        Some(pid) => Err(AgentError::new(format!("process {pid} is not in {}", place.group.display()))),
    }
}

/// A number that the kernel counts for the group of `controller`: the one called `key` in the first of `files` that is
/// there (v1 and v2 call them differently). Without a key, the file is the number.
pub(crate) fn counter(state: &State, process: &str, controller: Controller, files: &[(&str, &str)]) -> Option<u64> {
    let record = record(state, process)?;
    let group = &record.places.get(&controller)?.group;
    files.iter().find_map(|(file, key)| {
        let text = fs::read_to_string(group.join(file)).ok()?;
        if key.is_empty() {
            return text.trim().parse().ok();
        }
        text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' ')?.trim().parse().ok())
    })
}

/// The files by which a process joins the groups of the process called `process`.
pub(crate) fn procs_files(state: &State, process: &str) -> Vec<PathBuf> {
    let Some(record) = record(state, process) else { return Vec::new() };
    let files: BTreeSet<PathBuf> = record.places.values().map(|place| place.group.join("cgroup.procs")).collect();
    files.into_iter().filter(|file| file.exists()).collect()
}

/// Fault `id` wants no limit any more. Groups that nobody wants are removed, their processes moved back. Leaving twice, or
/// what was never entered, is fine. The caller holds the lock.
///
/// # Errors
/// When something of it is left: then it stays on record.
pub(crate) fn leave(state: &State, process: &str, id: &str) -> Result<(), AgentError> {
    leave_with(|path| fs::remove_dir(path), state, process, id)
}

pub(super) fn leave_with(
    remove: fn(&Path) -> io::Result<()>,
    state: &State,
    process: &str,
    id: &str,
) -> Result<(), AgentError> {
    let Some(mut record) = record(state, process) else { return Ok(()) };
    record.limits.values_mut().for_each(|wanted| {
        wanted.remove(id);
    });
    record.limits.retain(|_, wanted| !wanted.is_empty());
    record.before.remove(id);
    write_record(state, process, &record)?;
    let controllers: Vec<Controller> = record.places.keys().copied().collect();
    for controller in controllers {
        let place = record.places[&controller].clone();
        // In v2 several controllers share a group.
        let shared = |other: &Controller| record.places[other].group == place.group;
        if record.limits.keys().any(shared) {
            apply(&record, controller)?;
            continue;
        }
        empty_and_remove(&place, remove)?;
        record.places.remove(&controller);
        write_record(state, process, &record)?;
    }
    if !record.places.is_empty() {
        return Ok(());
    }
    switch_off(&record.switched_on, remove);
    let path = record_path(state, process);
    match fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(AgentError::io("remove", &path, e)),
        _ => Ok(()),
    }
}

fn empty_and_remove(place: &Place, remove: fn(&Path) -> io::Result<()>) -> Result<(), AgentError> {
    let deadline = Instant::now() + REMOVE_TIME_MAX;
    loop {
        for pid in members(&place.group) {
            match add_to(&place.home.join("cgroup.procs"), &format!("{pid}\n")) {
                Err(e) if e.raw_os_error() != Some(nix::libc::ESRCH) => {
                    return Err(AgentError::io(&format!("move process {pid} back to"), &place.home, e));
                }
                _ => {}
            }
        }
        match remove(&place.group) {
            Ok(()) => return Ok(()),
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(()),
            Err(e) if Instant::now() > deadline => return Err(AgentError::io("remove", &place.group, e)),
            // A process that forked while it was moved has left a child.
            Err(_) => thread::sleep(LOOK_AGAIN),
        }
    }
}

/// Switches off what was switched on for groups of ours (v2), when the last of them is gone; whoever else may have begun to
/// rely on it meanwhile keeps it, for the kernel refuses.
fn switch_off(switched_on: &[(PathBuf, Controller)], remove: fn(&Path) -> io::Result<()>) {
    for (control, controller) in switched_on.iter().rev() {
        let Some(dir) = control.parent() else { continue };
        if dir.ends_with("squall") {
            match remove(dir) {
                Err(e) if e.kind() != io::ErrorKind::NotFound => return, // Another group of ours is in it.
                _ => {}
            }
        } else {
            let _ = add_to(control, &format!("-{}", controller.name()));
        }
    }
}

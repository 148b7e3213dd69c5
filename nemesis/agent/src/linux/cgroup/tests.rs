//! The file operations, on folders that look like a mounted hierarchy.

use super::group::{System, enter_with, leave_with};
use super::places::{self, Controller, Version};
use super::{holds, procs_files, sweep};
use crate::linux::state::State;
use std::collections::BTreeSet;
use std::fs;
use std::path::Path;

const V1: &str = "\
32 31 0:29 / /sys/fs/cgroup/cpu,cpuacct rw,relatime - cgroup cgroup rw,cpu,cpuacct
35 31 0:32 /docker/1 /sys/fs/cgroup/memory rw,relatime - cgroup cgroup rw,memory
40 31 0:37 / /sys/fs/cgroup/systemd rw,relatime - cgroup cgroup rw,name=systemd
23 28 0:21 / /proc rw - proc proc rw
";

#[test]
fn groups_of_version_1_are_children_of_the_process_own() {
    let mounts = places::mounts(V1);
    let own = "8:pids:/\n4:memory:/docker/1/app\n1:cpu,cpuacct:/\n0::/\n";
    let cpu = places::find(Controller::Cpu, &mounts, own, "squall-x").unwrap();
    assert_eq!((cpu.version, cpu.home.to_str(), cpu.group.to_str()), {
        let (home, group) = ("/sys/fs/cgroup/cpu,cpuacct", "/sys/fs/cgroup/cpu,cpuacct/squall-x");
        (Version::V1, Some(home), Some(group))
    });
    let memory = places::find(Controller::Memory, &mounts, own, "squall-x").unwrap();
    assert_eq!(memory.group, Path::new("/sys/fs/cgroup/memory/app/squall-x"));
    let missing = places::find(Controller::Pids, &mounts, own, "squall-x").unwrap_err();
    assert!(missing.contains("`pids`"), "{missing}");
    for outside in ["4:memory:/other\n", "4:memory:/docker/1/../2\n", ""] {
        let unseen = places::find(Controller::Memory, &mounts, outside, "squall-x").unwrap_err();
        assert!(unseen.contains("cannot be seen"), "{unseen}");
    }
}

struct Fake {
    _root: tempfile::TempDir,
    mount: std::path::PathBuf,
    state: State,
    system: System,
}

/// The kernel takes the files of a group with it.
fn remove(group: &Path) -> std::io::Result<()> {
    fs::remove_dir_all(group)
}

/// A unified hierarchy, as folders.
fn unified() -> Fake {
    let root = tempfile::tempdir().unwrap();
    let mount = root.path().join("cgroup");
    fs::create_dir_all(mount.join("system.slice/sshd.service")).unwrap();
    fs::write(mount.join("cgroup.controllers"), "cpuset cpu io memory pids\n").unwrap();
    fs::write(mount.join("cgroup.subtree_control"), "memory").unwrap();
    let state = State::open(&root.path().join("node"), Vec::new()).unwrap();
    let mountinfo = format!("41 31 0:38 / {} rw,relatime - cgroup2 cgroup2 rw\n", mount.display());
    let system = System { mountinfo, cgroups: "0::/system.slice/sshd.service\n".to_owned() };
    Fake { _root: root, mount, state, system }
}

#[test]
fn in_version_2_several_faults_share_a_group_and_the_last_removes_it() {
    let Fake { mount, state, system, .. } = &unified();
    let enter = |id: &str, controller, limit| enter_with(system, state, "db", id, controller, |_| limit).unwrap();
    let leave = |id: &str| leave_with(remove, state, "db", id).unwrap();
    enter("1", Controller::Cpu, 10_000);
    let procs = procs_files_of(mount);
    let group = procs.parent().unwrap();
    let read = |file: &str| fs::read_to_string(group.join(file)).unwrap();
    assert_eq!(read("cpu.max"), "10000 100000");
    // Switched on above, where it was not on yet, and in the folder of ours.
    assert_eq!(fs::read_to_string(mount.join("cgroup.subtree_control")).unwrap(), "memory+cpu");
    assert_eq!(fs::read_to_string(mount.join("squall/cgroup.subtree_control")).unwrap(), "+cpu");
    enter("2", Controller::Cpu, 50_000);
    assert_eq!(read("cpu.max"), "10000 100000", "the tightest holds");
    fs::write(group.join("memory.current"), "1000\n").unwrap();
    fs::write(group.join("memory.swap.max"), "max").unwrap();
    enter_with(system, state, "db", "3", Controller::Memory, |now| now + 24).unwrap();
    assert_eq!((read("memory.max"), read("memory.swap.max")), ("1024".to_owned(), "0".to_owned()));
    enter("4", Controller::Pids, 7);
    assert_eq!(read("pids.max"), "7");
    leave("1");
    assert_eq!(read("cpu.max"), "50000 100000", "the other's is left");
    leave("2");
    leave("3");
    assert_eq!((read("cpu.max"), read("memory.max")), ("max 100000".to_owned(), "max".to_owned()));
    assert_eq!(read("memory.swap.max"), "max");
    // A process that is still in it goes back to where it came from.
    fs::write(group.join("cgroup.procs"), "4242\n").unwrap();
    leave("4");
    assert!(!mount.join("squall").exists(), "neither the group nor the folder is left");
    assert_eq!(fs::read_to_string(mount.join("system.slice/sshd.service/cgroup.procs")).unwrap(), "4242\n");
    assert!(fs::read_to_string(mount.join("cgroup.subtree_control")).unwrap().ends_with("-cpu"));
    leave("4");
    assert!(fs::read_dir(state.path("groups")).unwrap().next().is_none(), "no record is left");
}

fn procs_files_of(mount: &Path) -> std::path::PathBuf {
    let group = fs::read_dir(mount.join("squall")).unwrap().flatten().find(|entry| entry.path().is_dir()).unwrap();
    group.path().join("cgroup.procs")
}

#[test]
fn what_was_only_recorded_is_left_as_well() {
    let Fake { mount, state, system, .. } = &unified();
    // The kernel refuses: a folder stands where a file should be.
    fs::create_dir_all(mount.join("squall/cgroup.subtree_control")).unwrap();
    let error = enter_with(system, state, "db", "1", Controller::Cpu, |_| 1).unwrap_err();
    assert!(error.message.contains("switch on `cpu`"), "{error}");
    assert_eq!(holds(state, "db", "1", Controller::Cpu).unwrap(), None);
    assert!(procs_files(state, "db").is_empty());
    leave_with(remove, state, "db", "1").unwrap();
    assert!(fs::read_dir(state.path("groups")).unwrap().next().is_none(), "no record is left");
}

#[test]
fn only_empty_groups_of_dead_namespaces_are_swept() {
    let root = tempfile::tempdir().unwrap();
    for name in ["squall-1-a", "squall-2-b", "squall-x-c", "other-1-d"] {
        fs::create_dir(root.path().join(name)).unwrap();
    }
    fs::create_dir(root.path().join("squall-1-full")).unwrap();
    fs::write(root.path().join("squall-1-full/x"), "").unwrap();
    assert_eq!(sweep::sweep_in(root.path(), &BTreeSet::from([2])), 1);
    assert!(!root.path().join("squall-1-a").exists());
    assert_eq!(fs::read_dir(root.path()).unwrap().count(), 4);
}

//! Control groups that an agent has made.

use std::path::{Path, PathBuf};

/// The control groups that belong to the agent of this root.
pub(crate) fn control_groups(root: &Path) -> Vec<PathBuf> {
    let name: String = root
        .file_name()
        .unwrap()
        .to_str()
        .unwrap()
        .chars()
        .filter(|c| c.is_ascii_alphanumeric() || *c == '-')
        .collect();
    let mut found = Vec::new();
    let mut folders = vec![PathBuf::from("/sys/fs/cgroup")];
    while let Some(folder) = folders.pop() {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            let is_dir = entry.file_type().is_ok_and(|kind| kind.is_dir());
            let here = entry.file_name().to_str().is_some_and(|n| n.starts_with("squall-") && n.contains(&name));
            if is_dir && here {
                found.push(entry.path());
            } else if is_dir {
                folders.push(entry.path());
            }
        }
    }
    found
}

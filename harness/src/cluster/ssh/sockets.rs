//! Where the sockets of ssh's control masters live: a folder for each controller, swept by the next one when its
//! controller was killed.
//!
//! That it lives is known by a lock, not by a process id, which means nothing in another pid namespace.

use anyhow::{Context, bail};
use nix::fcntl::{Flock, FlockArg};
use std::fs::{self, DirBuilder, File};
use std::io::ErrorKind;
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// The file that whoever uses a folder has locked; in the folder of all, whoever makes or sweeps one.
const LOCK: &str = "lock";

/// Longer paths do not fit the address of a socket together with ssh's own names (bytes; unix(7) allows 108 in all).
const PATH_LEN_MAX: usize = 60;

/// A folder for this process; removed with the handle.
#[derive(Debug)]
pub(super) struct Sockets {
    dir: PathBuf,
    _lock: Flock<File>,
}

impl Sockets {
    /// Makes it, and removes those of controllers that are no more.
    pub(super) fn new() -> anyhow::Result<Self> {
        let own = fs::metadata("/proc/self").map(|meta| meta.uid()).unwrap_or_default();
        let parent = std::env::temp_dir().join(format!("squall-ssh-{own}"));
        let parent = if parent.as_os_str().len() > PATH_LEN_MAX {
            PathBuf::from(format!("/tmp/squall-ssh-{own}"))
        } else {
            parent
        };
        Self::below(&parent, own)
    }

    fn below(parent: &Path, own: u32) -> anyhow::Result<Self> {
        let mut private = DirBuilder::new();
        private.mode(0o700).recursive(true);
        private.create(parent).with_context(|| format!("cannot create {}", parent.display()))?;
        // Somebody else's folder of that name would let them speak for us.
        let meta = fs::symlink_metadata(parent)?;
        if !meta.is_dir() || meta.uid() != own || meta.mode() & 0o077 != 0 {
            bail!("{} is not a private folder of this user: remove it", parent.display());
        }
        // A folder that is just being made has no lock yet.
        let path = parent.join(LOCK);
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let Ok(_one_at_a_time) = Flock::lock(file, FlockArg::LockExclusive) else {
            bail!("cannot lock {}", path.display());
        };
        for entry in fs::read_dir(parent)?.flatten().filter(|entry| entry.path().is_dir()) {
            if !is_used(&entry.path()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let mut own = DirBuilder::new();
        own.mode(0o700);
        // The lowest number that is free: paths of sockets must be short.
        let mut number = 0;
        let dir = loop {
            let dir = parent.join(number.to_string());
            match own.create(&dir) {
                Ok(()) => break dir,
                Err(error) if error.kind() == ErrorKind::AlreadyExists => number += 1,
                Err(error) => return Err(error).with_context(|| format!("cannot create {}", dir.display())),
            }
        };
        let path = dir.join(LOCK);
        let file = File::create(&path).with_context(|| format!("cannot open {}", path.display()))?;
        let Ok(lock) = Flock::lock(file, FlockArg::LockExclusiveNonblock) else {
            bail!("cannot lock {}", path.display());
        };
        Ok(Self { dir, _lock: lock })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }
}

/// Whether the controller of a folder lives.
fn is_used(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|file| Flock::lock(file, FlockArg::LockExclusiveNonblock).is_err())
}

impl Drop for Sockets {
    fn drop(&mut self) {
        let _ = fs::remove_dir_all(&self.dir);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt;

    #[test]
    fn folders_of_the_dead_are_swept() {
        let dir = tempfile::tempdir().unwrap();
        let parent = dir.path().join("sockets");
        let own = fs::metadata(dir.path()).unwrap().uid();
        let first = Sockets::below(&parent, own).unwrap();
        // What a killed controller leaves: a folder whose lock nobody holds, or that never had one.
        for dead in ["7", "8"] {
            fs::create_dir(parent.join(dead)).unwrap();
        }
        File::create(parent.join("7").join(LOCK)).unwrap();
        let second = Sockets::below(&parent, own).unwrap();
        assert!(!parent.join("7").exists() && !parent.join("8").exists());
        assert!(first.path().is_dir() && second.path().is_dir() && first.path() != second.path());
        let path = first.path().to_owned();
        drop(first);
        assert!(!path.exists() && second.path().is_dir());
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Sockets::below(&parent, own).unwrap_err().to_string().contains("not a private folder"));
    }
}

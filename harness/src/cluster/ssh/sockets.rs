//! Where the sockets of ssh's control masters live: a folder for each controller, swept by the next one when its
//! controller was killed.

use anyhow::{Context, bail};
use std::fs::{self, DirBuilder};
use std::os::unix::fs::{DirBuilderExt, MetadataExt};
use std::path::{Path, PathBuf};

/// Longer paths do not fit the address of a socket together with ssh's own names (bytes; unix(7) allows 108 in all).
const PATH_LEN_MAX: usize = 60;

/// A folder for this process; removed with the handle.
#[derive(Debug)]
pub(super) struct Sockets {
    dir: PathBuf,
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
        for entry in fs::read_dir(parent)?.flatten() {
            let pid = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok());
            if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
                let _ = fs::remove_dir_all(entry.path());
            }
        }
        let dir = parent.join(std::process::id().to_string());
        private.create(&dir).with_context(|| format!("cannot create {}", dir.display()))?;
        Ok(Self { dir })
    }

    /// The folder.
    pub(super) fn path(&self) -> &Path {
        &self.dir
    }
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
        // No process has this number: it is above the kernel's limit.
        fs::create_dir_all(parent.join("4999999")).unwrap();
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o700)).unwrap();
        let sockets = Sockets::below(&parent, own).unwrap();
        assert!(!parent.join("4999999").exists() && sockets.path().is_dir());
        let path = sockets.path().to_owned();
        drop(sockets);
        assert!(!path.exists());
        fs::set_permissions(&parent, fs::Permissions::from_mode(0o755)).unwrap();
        assert!(Sockets::below(&parent, own).unwrap_err().to_string().contains("not a private folder"));
    }
}

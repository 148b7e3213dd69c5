//! What is kept of data before it is damaged, below the agent's own folder: copies of files and of whole directories.

use super::effect::At;
use super::state::{read_json, write_json, write_whole};
use crate::protocol::AgentError;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use std::fs::{self, File, OpenOptions};
use std::io::Write;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// The start of a SHA-256 in hexadecimal: enough to tell contents apart.
pub(crate) fn digest(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().take(6).map(|byte| format!("{byte:02x}")).collect()
}

/// Every file below `dir` with its length; symbolic links are not followed.
///
/// # Errors
/// When a directory cannot be read.
pub(crate) fn files(dir: &Path, each: &mut dyn FnMut(&Path, u64)) -> Result<(), AgentError> {
    let failed = |e| AgentError::io("read", dir, e);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        match path.symlink_metadata() {
            Ok(meta) if meta.is_dir() => files(&path, each)?,
            Ok(meta) if meta.is_file() => each(&path, meta.len()),
            // Gone by now, or nothing with content.
            _ => {}
        }
    }
    Ok(())
}

/// One digest of everything below `dir`: names and contents. With it how many files and bytes there are.
///
/// # Errors
/// When something cannot be read.
pub(crate) fn digest_of_dir(dir: &Path) -> Result<(String, u64, u64), AgentError> {
    let mut paths = Vec::new();
    files(dir, &mut |path, _| paths.push(path.to_owned()))?;
    paths.sort();
    let mut hash = Sha256::new();
    let mut bytes = 0;
    for path in &paths {
        let content = fs::read(path).map_err(|e| AgentError::io("read", path, e))?;
        bytes += content.len() as u64;
        hash.update(path.strip_prefix(dir).unwrap_or(path).as_os_str().as_encoded_bytes());
        hash.update([0]);
        hash.update((content.len() as u64).to_le_bytes());
        hash.update(&content);
    }
    let digest = hash.finalize().iter().take(6).map(|byte| format!("{byte:02x}")).collect();
    Ok((digest, paths.len() as u64, bytes))
}

/// Gives a file this content in place and durably, or removes it: whoever has it open goes on with what is there then.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn replace(path: &Path, content: Option<&[u8]>) -> Result<(), AgentError> {
    let parent = path.parent().unwrap_or(Path::new("/"));
    let work = || -> std::io::Result<()> {
        match content {
            None => fs::remove_file(path)?,
            Some(bytes) => {
                let mut file = OpenOptions::new().write(true).create(true).truncate(false).open(path)?;
                file.write_all(bytes)?;
                file.set_len(bytes.len() as u64)?;
                file.sync_all()?;
            }
        }
        File::open(parent)?.sync_all()
    };
    work().map_err(|e| AgentError::io("change", path, e))
}

/// A file that was damaged, and what it was.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub(crate) struct Kept {
    path: PathBuf,
    mode: u32,
    owner: (u32, u32),
    /// Its digest when it was left; `None`: it was left removed.
    left: Option<String>,
}

/// Where the fault at `at` keeps things.
pub(crate) fn folder(at: &At<'_>) -> PathBuf {
    at.state.path("kept").join(at.id)
}

impl Kept {
    /// Keeps a copy, durably, before `path` is left as something with the digest `left`.
    ///
    /// # Errors
    /// When that does not work: then nothing may be damaged.
    pub(crate) fn keep(at: &At<'_>, path: &Path, content: &[u8], left: Option<String>) -> Result<(), AgentError> {
        let folder = folder(at);
        fs::create_dir_all(&folder).map_err(|e| AgentError::io("create", &folder, e))?;
        let meta = fs::metadata(path).map_err(|e| AgentError::io("look at", path, e))?;
        write_whole(&folder.join("content"), content, true)?;
        let kept = Self { path: path.to_owned(), mode: meta.mode() & 0o7777, owner: (meta.uid(), meta.gid()), left };
        write_json(&folder.join("kept.json"), &kept, true)
    }

    pub(crate) fn find(at: &At<'_>) -> Option<Self> {
        read_json(&folder(at).join("kept.json"))
    }

    /// Whether nobody has written the file since it was damaged.
    pub(crate) fn is_as_left(&self) -> bool {
        fs::read(&self.path).ok().as_deref().map(digest) == self.left
    }

    /// Gives the file its old content.
    ///
    /// # Errors
    /// When it cannot be read or written.
    pub(crate) fn put_back(&self, at: &At<'_>) -> Result<(), AgentError> {
        let copy = folder(at).join("content");
        let content = fs::read(&copy).map_err(|e| AgentError::io("read", &copy, e))?;
        let was_gone = !self.path.exists();
        replace(&self.path, Some(&content))?;
        if was_gone {
            let owned = std::os::unix::fs::chown(&self.path, Some(self.owner.0), Some(self.owner.1))
                .and_then(|()| fs::set_permissions(&self.path, fs::Permissions::from_mode(self.mode)));
            owned.map_err(|e| AgentError::io("give back", &self.path, e))?;
        }
        Ok(())
    }
}

/// Removes what the fault at `at` keeps, or what there is of it when the agent died before it was whole.
///
/// # Errors
/// When it cannot be removed.
pub(crate) fn forget(at: &At<'_>) -> Result<(), AgentError> {
    let folder = folder(at);
    match fs::remove_dir_all(&folder) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(AgentError::io("remove", &folder, e)),
        _ => Ok(()),
    }
}

/// Copies everything below `from` to `to`, durably: directories, files, symbolic links, with modes and owners.
///
/// # Errors
/// When something cannot be copied.
pub(crate) fn copy_dir(from: &Path, to: &Path) -> Result<(), AgentError> {
    let failed = |e| AgentError::io("copy", from, e);
    fs::create_dir_all(to).map_err(|e| AgentError::io("create", to, e))?;
    for entry in fs::read_dir(from).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let target = to.join(path.file_name().unwrap_or_default());
        let meta = path.symlink_metadata().map_err(failed)?;
        let work = || -> std::io::Result<()> {
            if meta.is_symlink() {
                std::os::unix::fs::symlink(fs::read_link(&path)?, &target)?;
            } else if meta.is_file() {
                fs::copy(&path, &target)?;
                File::open(&target)?.sync_all()?;
            }
            Ok(())
        };
        work().map_err(|e| AgentError::io("copy", &path, e))?;
        if meta.is_dir() {
            copy_dir(&path, &target)?;
            fs::set_permissions(&target, meta.permissions()).map_err(|e| AgentError::io("copy", &path, e))?;
        }
        let owner = fs::symlink_metadata(&target).map(|now| (now.uid(), now.gid()));
        if owner.is_ok_and(|owner| owner != (meta.uid(), meta.gid())) {
            std::os::unix::fs::lchown(&target, Some(meta.uid()), Some(meta.gid()))
                .map_err(|e| AgentError::io("copy", &path, e))?;
        }
    }
    File::open(to).and_then(|dir| dir.sync_all()).map_err(|e| AgentError::io("sync", to, e))
}

/// Removes everything in `dir`, but not `dir` itself: something may be mounted there.
///
/// # Errors
/// When something cannot be removed.
pub(crate) fn empty_dir(dir: &Path) -> Result<(), AgentError> {
    let failed = |e| AgentError::io("empty", dir, e);
    for entry in fs::read_dir(dir).map_err(failed)? {
        let path = entry.map_err(failed)?.path();
        let is_dir = path.symlink_metadata().map_err(failed)?.is_dir();
        let removed = if is_dir { fs::remove_dir_all(&path) } else { fs::remove_file(&path) };
        removed.map_err(failed)?;
    }
    Ok(())
}

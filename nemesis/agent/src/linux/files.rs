//! Files on the node.

use super::state::{State, write_whole};
use crate::protocol::AgentError;
use std::fs::{self, File, Permissions};
use std::io::{ErrorKind, Read, Seek, SeekFrom};
use std::os::unix::fs::PermissionsExt;
use std::path::{Component, Path};

/// Most that is read at a time (bytes): an answer must fit a frame.
const READ_LEN_MAX: u64 = 16 << 20;

/// Writes a file in one piece, synced.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn put(state: &State, path: &str, mode: u32, content: &[u8]) -> Result<(), AgentError> {
    let path = state.root.join(path);
    if let Some(parent) = path.parent() {
        fs::create_dir_all(parent).map_err(|e| AgentError::io("create", parent, e))?;
    }
    write_whole(&path, content, true)?;
    fs::set_permissions(&path, Permissions::from_mode(mode)).map_err(|e| AgentError::io("set the mode of", &path, e))
}

/// Reads part of a file; its whole length and the bytes.
///
/// # Errors
/// When it cannot be read.
pub(crate) fn read(state: &State, path: &str, offset: u64, len_max: u64) -> Result<(u64, Vec<u8>), AgentError> {
    let path = state.root.join(path);
    let read = || -> std::io::Result<(u64, Vec<u8>)> {
        let mut file = File::open(&path)?;
        let len = file.metadata()?.len();
        file.seek(SeekFrom::Start(offset))?;
        let mut bytes = Vec::new();
        file.take(len_max.min(READ_LEN_MAX)).read_to_end(&mut bytes)?;
        Ok((len, bytes))
    };
    read().map_err(|e| AgentError::io("read", &path, e))
}

/// Removes a file or folder below the root; links on the way are not followed out of it.
///
/// # Errors
/// When it is outside the root, the root itself or the agent's own folder, or cannot be removed.
pub(crate) fn remove(state: &State, path: &str) -> Result<(), AgentError> {
    let path = state.root.join(path);
    let refused = |why: &str| AgentError::new(format!("{} is not removed: {why}", path.display()));
    if path.components().any(|c| c == Component::ParentDir) {
        return Err(refused("the path has `..` in it"));
    }
    let Some(parent) = path.parent() else { return Err(refused("it is no path below the root")) };
    let parent = match parent.canonicalize() {
        Ok(parent) => parent,
        Err(e) if e.kind() == ErrorKind::NotFound => return Ok(()),
        Err(e) => return Err(AgentError::io("look at", parent, e)),
    };
    let real = parent.join(path.file_name().ok_or_else(|| refused("it has no name"))?);
    if !real.starts_with(&state.root) || real == state.root || real.starts_with(state.path("")) {
        return Err(refused("only what is below the agent's root, and not its own state, may be removed"));
    }
    remove_all(&real)?;
    // What was removed must not come back with a power cut.
    sync(&parent)
}

fn remove_all(path: &Path) -> Result<(), AgentError> {
    let removed = match path.symlink_metadata() {
        Ok(meta) if meta.is_dir() => fs::remove_dir_all(path),
        Ok(_) => fs::remove_file(path),
        Err(e) => Err(e),
    };
    match removed {
        Err(e) if e.kind() != ErrorKind::NotFound => Err(AgentError::io("remove", path, e)),
        _ => Ok(()),
    }
}

/// Creates a folder and its parents.
///
/// # Errors
/// When it cannot be created.
pub(crate) fn make_dir(state: &State, path: &str) -> Result<(), AgentError> {
    let path = state.root.join(path);
    fs::create_dir_all(&path).map_err(|e| AgentError::io("create", &path, e))?;
    // Durably, all the way up: a folder that is gone after a power cut was never the system's own loss.
    for folder in path.ancestors().skip(1).take_while(|folder| folder.starts_with(&state.root)) {
        sync(folder)?;
    }
    Ok(())
}

fn sync(folder: &Path) -> Result<(), AgentError> {
    File::open(folder).and_then(|folder| folder.sync_all()).map_err(|e| AgentError::io("sync", folder, e))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn removes_only_what_is_below_the_root() {
        let dir = tempfile::tempdir().unwrap();
        let state = State::open(&dir.path().join("root"), Vec::new()).unwrap();
        fs::create_dir_all(dir.path().join("outside")).unwrap();
        std::os::unix::fs::symlink(dir.path().join("outside"), state.root.join("link")).unwrap();
        put(&state, "data/a", 0o600, b"x").unwrap();
        put(&state, "link/kept", 0o600, b"x").unwrap();
        for bad in ["/etc/passwd", "../outside", "", ".", "agent", "agent/ledger", "link/kept", "data/../../outside"] {
            assert!(remove(&state, bad).is_err(), "{bad}");
        }
        assert!(dir.path().join("outside/kept").exists());
        remove(&state, "link").unwrap();
        assert!(dir.path().join("outside/kept").exists(), "the link goes, not what it points at");
        remove(&state, "data").unwrap();
        remove(&state, "data").unwrap();
        remove(&state, "never/was").unwrap();
        assert!(!state.root.join("data").exists());
        assert!(read(&state, "link", 0, 1).unwrap_err().message.contains("cannot read"));
    }
}

//! A file that is in use: its content, its times, and the file below.

use super::below::{self, Attr};
use super::data::{Change, Data, carry_out};
use nix::errno::Errno;
use std::fs::File;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::SystemTime;

/// A file. Whoever writes it does so under one lock, whoever syncs it under another, so that writing goes on meanwhile.
#[derive(Debug)]
pub(super) struct FileNode {
    state: Mutex<FileState>,
    syncing: Mutex<()>,
    below: Mutex<Option<Arc<File>>>,
}

#[derive(Debug)]
pub(super) struct FileState {
    pub(super) data: Data,
    modified: SystemTime,
    accessed: SystemTime,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(|e| e.into_inner())
}

impl FileNode {
    /// A file of which everything is durable.
    pub(super) fn durable(attr: &Attr) -> Self {
        let state = FileState { data: Data::new(attr.len), modified: attr.mtime, accessed: attr.atime };
        Self { state: Mutex::new(state), syncing: Mutex::default(), below: Mutex::default() }
    }

    pub(super) fn state(&self) -> MutexGuard<'_, FileState> {
        lock(&self.state)
    }

    /// Length and times as they are now.
    pub(super) fn fill(&self, attr: &mut Attr) {
        let state = self.state();
        attr.len = state.data.len();
        attr.ctime = attr.ctime.max(state.modified);
        (attr.mtime, attr.atime) = (state.modified, state.accessed);
    }

    pub(super) fn set_times(&self, accessed: SystemTime, modified: SystemTime) {
        let mut state = self.state();
        (state.accessed, state.modified) = (accessed, modified);
    }

    /// Opens the file below, which is at `path`, unless it is open.
    pub(super) fn open_below(&self, path: &Path) -> Result<Arc<File>, Errno> {
        let mut file = lock(&self.below);
        match &*file {
            Some(file) => Ok(file.clone()),
            None => Ok(file.insert(Arc::new(below::open(path)?)).clone()),
        }
    }

    /// The file below; it is open while somebody has this one open.
    pub(super) fn below(&self) -> Result<Arc<File>, Errno> {
        lock(&self.below).clone().ok_or(Errno::EBADF)
    }

    pub(super) fn close_if_clean(&self) {
        if self.state().data.is_clean() {
            *lock(&self.below) = None;
        }
    }

    /// Up to `len` bytes.
    pub(super) fn read(&self, offset: u64, len: usize) -> Result<Vec<u8>, Errno> {
        let below = self.below()?;
        self.state().data.read(&*below, offset, len).map_err(|e| below::errno(&e))
    }

    pub(super) fn change(&self, change: Change) {
        let mut state = self.state();
        match change {
            Change::Write { offset, bytes } => state.data.write(offset, bytes),
            Change::Zero { from, to } => state.data.zero(from, to),
            Change::SetLen(len) => state.data.set_len(len),
        }
        state.modified = SystemTime::now();
    }

    /// Makes everything durable that was changed until now; `really` also asks the file system below to.
    /// The file below is open.
    pub(super) fn sync(&self, really: bool) -> Result<(), Errno> {
        let below = self.below()?;
        let _alone = lock(&self.syncing);
        let taken = self.state().data.take();
        if taken.is_empty() {
            return Ok(());
        }
        let carried = carry_out(&below, taken.iter().map(|pending| &pending.change))
            .and_then(|()| if really { below.sync_data() } else { Ok(()) });
        let mut state = self.state();
        match carried {
            Ok(()) => {
                state.data.synced(&taken);
                Ok(())
            }
            Err(error) => {
                state.data.put_back(taken);
                Err(below::errno(&error))
            }
        }
    }
}

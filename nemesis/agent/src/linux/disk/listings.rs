//! Directories that are being read: what was in them when that began, so that nothing is skipped or given twice.

use super::below::Kind;
use super::tree::{Entry, Ino};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::sync::{Mutex, MutexGuard, PoisonError};

#[derive(Debug, Default)]
pub(super) struct Listings(Mutex<Open>);

#[derive(Debug, Default)]
struct Open {
    next: u64,
    by_handle: HashMap<u64, Vec<Entry>>,
}

impl Listings {
    fn open(&self) -> MutexGuard<'_, Open> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Begins one; its handle.
    pub(super) fn add(&self, entries: Vec<Entry>) -> u64 {
        let mut open = self.open();
        open.next += 1;
        let handle = open.next;
        open.by_handle.insert(handle, entries);
        handle
    }

    pub(super) fn renew(&self, handle: u64, entries: Vec<Entry>) {
        self.open().by_handle.insert(handle, entries);
    }

    pub(super) fn remove(&self, handle: u64) {
        self.open().by_handle.remove(&handle);
    }

    /// Gives entries from number `offset` on, each with the number of the next one, until `full`.
    pub(super) fn from(&self, handle: u64, offset: u64, mut full: impl FnMut(u64, &OsStr, Ino, Kind) -> bool) {
        let open = self.open();
        let entries = open.by_handle.get(&handle).map_or(&[][..], Vec::as_slice);
        for (at, (name, ino, kind)) in entries.iter().enumerate().skip(offset as usize) {
            if full(at as u64 + 1, name, *ino, *kind) {
                break;
            }
        }
    }
}

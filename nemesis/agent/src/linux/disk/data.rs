//! The content of one file: what is on the disk, and what was written but not synced.
//!
//! Unsynced changes are kept here in order, as a page cache that has written nothing back yet; the file below holds what is
//! durable. Syncing carries the changes out below; losing them is forgetting them. Reading lays the newest bytes of
//! each place over the file below, in O(log n + found).

use std::collections::{BTreeMap, VecDeque};
use std::io;
use std::os::unix::fs::FileExt;
use std::sync::Arc;

/// The unit that a disk writes as a whole (bytes).
pub(super) const SECTOR: u64 = 512;

/// One change of a file's content.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Change {
    /// These bytes at this offset.
    Write { offset: u64, bytes: Arc<[u8]> },
    /// Zeros from here to there; the length stays.
    Zero { from: u64, to: u64 },
    /// A new length: cut off, or grown by zeros.
    SetLen(u64),
}

/// A change that is not durable yet.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Pending {
    /// Grows with every change of the file.
    seq: u64,
    pub(super) change: Change,
}

/// The newest bytes of one place.
#[derive(Clone, Debug)]
struct Extent {
    end: u64,
    seq: u64,
    /// The bytes, and which of them is at the start of this extent; `None` is zeros.
    bytes: Option<(Arc<[u8]>, usize)>,
}

/// Not to be removed when its change has been carried out, for it never will be.
const NEVER: u64 = u64::MAX;

/// See the module.
#[derive(Debug, Default)]
pub(super) struct Data {
    len: u64,
    /// How much of the file below shows through: what was cut off stays hidden until it is gone there, too.
    visible: u64,
    next_seq: u64,
    /// By start; they do not overlap.
    extents: BTreeMap<u64, Extent>,
    pending: VecDeque<Pending>,
    /// Bytes in `pending`.
    dirty: u64,
}

impl Data {
    /// A file of `len` durable bytes.
    pub(super) fn new(len: u64) -> Self {
        Self { len, visible: u64::MAX, ..Self::default() }
    }

    pub(super) fn len(&self) -> u64 {
        self.len
    }

    /// Unsynced bytes.
    pub(super) fn dirty(&self) -> u64 {
        self.dirty
    }

    pub(super) fn is_clean(&self) -> bool {
        self.pending.is_empty()
    }

    pub(super) fn pending(&self) -> impl Iterator<Item = &Pending> {
        self.pending.iter()
    }

    fn push(&mut self, change: Change) -> u64 {
        self.next_seq += 1;
        if let Change::Write { bytes, .. } = &change {
            self.dirty += bytes.len() as u64;
        }
        self.pending.push_back(Pending { seq: self.next_seq, change });
        self.next_seq
    }

    pub(super) fn write(&mut self, offset: u64, bytes: Arc<[u8]>) {
        if bytes.is_empty() {
            return;
        }
        let end = offset + bytes.len() as u64;
        let seq = self.push(Change::Write { offset, bytes: bytes.clone() });
        self.clear(offset, end);
        self.extents.insert(offset, Extent { end, seq, bytes: Some((bytes, 0)) });
        self.len = self.len.max(end);
    }

    pub(super) fn zero(&mut self, from: u64, to: u64) {
        let to = to.min(self.len);
        if from < to {
            let seq = self.push(Change::Zero { from, to });
            self.clear(from, to);
            self.extents.insert(from, Extent { end: to, seq, bytes: None });
        }
    }

    pub(super) fn set_len(&mut self, len: u64) {
        if len < self.len {
            self.clear(len, u64::MAX);
            self.visible = self.visible.min(len);
        }
        if len != self.len {
            self.push(Change::SetLen(len));
            self.len = len;
        }
    }

    /// Takes out what lies in the range; extents that reach out of it are cut.
    fn clear(&mut self, from: u64, to: u64) {
        let before = self.extents.range(..from).next_back().filter(|(_, extent)| extent.end > from);
        let first = before.map_or(from, |(start, _)| *start);
        let hit: Vec<u64> = self.extents.range(first..to).map(|(start, _)| *start).collect();
        for start in hit {
            let Some(extent) = self.extents.remove(&start) else { continue };
            if start < from {
                self.extents.insert(start, Extent { end: from, ..extent.clone() });
            }
            if extent.end > to {
                let bytes = extent.bytes.map(|(bytes, at)| (bytes, at + (to - start) as usize));
                self.extents.insert(to, Extent { bytes, ..extent });
            }
        }
    }

    /// Up to `len` bytes from `offset` on; fewer at the end of the file.
    ///
    /// # Errors
    /// When the file below cannot be read.
    pub(super) fn read(&self, below: &impl FileExt, offset: u64, len: usize) -> io::Result<Vec<u8>> {
        let end = self.len.min(offset.saturating_add(len as u64));
        if offset >= end {
            return Ok(Vec::new());
        }
        let mut buffer = vec![0; (end - offset) as usize];
        let shown = self.visible.min(end).saturating_sub(offset) as usize;
        let mut got = 0;
        while got < shown {
            match below.read_at(&mut buffer[got..shown], offset + got as u64)? {
                0 => break,
                n => got += n,
            }
        }
        let first = self.extents.range(..=offset).next_back().map_or(offset, |(start, _)| *start);
        for (start, extent) in self.extents.range(first..end).filter(|(_, extent)| extent.end > offset) {
            let (from, to) = ((*start).max(offset), extent.end.min(end));
            let into = &mut buffer[(from - offset) as usize..(to - offset) as usize];
            match &extent.bytes {
                None => into.fill(0),
                Some((bytes, at)) => {
                    let at = at + (from - start) as usize;
                    into.copy_from_slice(&bytes[at..at + into.len()]);
                }
            }
        }
        Ok(buffer)
    }

    /// Everything that is not durable, to be carried out below. It still shows in reads, until [`synced`](Self::synced).
    pub(super) fn take(&mut self) -> Vec<Pending> {
        self.dirty = 0;
        self.pending.drain(..).collect()
    }

    /// What [`take`](Self::take) gave has been carried out.
    pub(super) fn synced(&mut self, done: &[Pending]) {
        let Some(last) = done.last().map(|pending| pending.seq) else { return };
        self.extents.retain(|_, extent| extent.seq > last);
        let cut = |pending: &Pending| match pending.change {
            Change::SetLen(len) => Some(len),
            _ => None,
        };
        self.visible = self.pending.iter().filter_map(cut).min().unwrap_or(u64::MAX);
    }

    /// What [`take`](Self::take) gave could not be carried out: it is pending again.
    pub(super) fn put_back(&mut self, failed: Vec<Pending>) {
        for pending in failed.into_iter().rev() {
            if let Change::Write { bytes, .. } = &pending.change {
                self.dirty += bytes.len() as u64;
            }
            self.pending.push_front(pending);
        }
    }

    /// A failed fsync that leaves its pages clean: they are read as before, and will never be written. The length is
    /// metadata, and stays pending. Gives how many bytes that concerns.
    pub(super) fn abandon(&mut self) -> u64 {
        let bytes = std::mem::take(&mut self.dirty);
        self.pending.retain(|pending| matches!(pending.change, Change::SetLen(_)));
        self.extents.values_mut().for_each(|extent| extent.seq = NEVER);
        self.push(Change::SetLen(self.len));
        bytes
    }
}

/// Carries changes out on the file below.
///
/// # Errors
/// What the file system below says.
pub(super) fn carry_out<'a>(below: &std::fs::File, changes: impl IntoIterator<Item = &'a Change>) -> io::Result<()> {
    static ZEROS: [u8; 64 << 10] = [0; 64 << 10];
    for change in changes {
        match change {
            Change::Write { offset, bytes } => below.write_all_at(bytes, *offset)?,
            Change::SetLen(len) => below.set_len(*len)?,
            Change::Zero { from, to } => {
                let mut at = *from;
                while at < *to {
                    let len = (to - at).min(ZEROS.len() as u64);
                    below.write_all_at(&ZEROS[..len as usize], at)?;
                    at += len;
                }
            }
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[derive(Clone, Debug)]
    enum Do {
        Write(u64, Vec<u8>),
        Zero(u64, u64),
        SetLen(u64),
        Sync,
        FailedSync,
    }

    fn step() -> impl Strategy<Value = Do> {
        prop_oneof![
            6 => (0u64..60, prop::collection::vec(1u8.., 0..30)).prop_map(|(at, bytes)| Do::Write(at, bytes)),
            2 => (0u64..60, 0u64..60).prop_map(|(a, b)| Do::Zero(a.min(b), a.max(b))),
            2 => (0u64..60).prop_map(Do::SetLen),
            2 => Just(Do::Sync),
            1 => Just(Do::FailedSync),
        ]
    }

    fn grow(model: &mut Vec<u8>, len: usize) {
        if model.len() < len {
            model.resize(len, 0);
        }
    }

    proptest! {
        /// What is read is what a plain file would hold, and what is below is what a plain file held at the last sync.
        #[test]
        fn reads_like_a_file_and_syncs_like_one(steps in prop::collection::vec(step(), 1..40)) {
            let below = tempfile::tempfile().unwrap();
            let mut data = Data::new(0);
            let (mut now, mut durable): (Vec<u8>, Vec<u8>) = Default::default();
            for step in steps {
                match step {
                    Do::Write(at, bytes) => {
                        if !bytes.is_empty() {
                            grow(&mut now, at as usize + bytes.len());
                            now[at as usize..at as usize + bytes.len()].copy_from_slice(&bytes);
                        }
                        data.write(at, bytes.into());
                    }
                    Do::Zero(from, to) => {
                        let to = (to as usize).min(now.len());
                        if (from as usize) < to {
                            now[from as usize..to].fill(0);
                        }
                        data.zero(from, to as u64);
                    }
                    Do::SetLen(len) => {
                        now.resize(len as usize, 0);
                        data.set_len(len);
                    }
                    Do::Sync | Do::FailedSync => {
                        let taken = data.take();
                        prop_assert_eq!(data.read(&below, 0, 1000).unwrap(), now.clone());
                        if matches!(step, Do::FailedSync) {
                            data.put_back(taken);
                        } else {
                            carry_out(&below, taken.iter().map(|p| &p.change)).unwrap();
                            data.synced(&taken);
                            durable = now.clone();
                        }
                    }
                }
                prop_assert_eq!(data.len(), now.len() as u64);
                prop_assert_eq!(data.read(&below, 0, 1000).unwrap(), now.clone());
                prop_assert_eq!(data.read(&below, 7, 9).unwrap(), now.iter().skip(7).take(9).copied().collect::<Vec<_>>());
                let mut found = vec![0; 200];
                let n = below.read_at(&mut found, 0).unwrap();
                prop_assert_eq!(&found[..n], durable.as_slice());
            }
        }
    }

    #[test]
    fn abandoned_pages_are_read_but_never_written() {
        let below = tempfile::tempfile().unwrap();
        let mut data = Data::new(0);
        data.write(0, (*b"lost").into());
        assert_eq!(data.abandon(), 4);
        assert_eq!(data.read(&below, 0, 10).unwrap(), b"lost");
        data.write(4, (*b"kept").into());
        let taken = data.take();
        carry_out(&below, taken.iter().map(|p| &p.change)).unwrap();
        data.synced(&taken);
        assert_eq!(data.read(&below, 0, 10).unwrap(), b"lostkept");
        let mut found = [1; 9];
        assert_eq!(below.read_at(&mut found, 0).unwrap(), 8);
        assert_eq!(&found[..8], b"\0\0\0\0kept");
    }
}

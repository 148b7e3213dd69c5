//! A history with one key, as columns of events.

use super::{History, Latest};
use crate::{EventKind, Value};

/// The columns of all events, equally long.
#[derive(Clone, Copy)]
pub(crate) struct EventColumns<'h> {
    pub(crate) kind: &'h [EventKind],
    pub(crate) process: &'h [u32],
    pub(crate) f: &'h [u32],
    pub(crate) key: &'h [u64],
    /// Packed: equal words are equal values.
    pub(crate) value: &'h [u64],
    /// The key of the first invocation, packed.
    pub(crate) one_key: u64,
}

impl EventColumns<'_> {
    /// One more than the highest number of a process; `None` where that is too high for a list.
    pub(crate) fn processes(&self) -> Option<usize> {
        let last = self.process.iter().copied().max().unwrap_or(0);
        (last < Latest::LOW_MAX).then_some(last as usize + 1)
    }
}

impl History {
    /// Its columns and the key of its first invocation; `None` without one.
    pub(crate) fn event_columns(&self) -> Option<(EventColumns<'_>, Value)> {
        let first = self.kind.iter().position(|kind| *kind == EventKind::Invoke)?;
        let len = self.len();
        let columns = EventColumns {
            kind: self.kind.get(..len)?,
            process: self.process.get(..len)?,
            f: self.f.get(..len)?,
            key: self.key.get(..len)?,
            value: self.value.get(..len)?,
            one_key: self.key[first],
        };
        Some((columns, self.table.unpack(self.key[first])))
    }
}

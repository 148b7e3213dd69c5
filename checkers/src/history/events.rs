//! A history with one key, as columns of events.

use super::{History, Latest, WORD_NIL};
use crate::{EventKind, Value};
use std::hint::select_unpredictable;

/// How many events are looked at in one go: few enough to stay close to the processor.
const BLOCK: usize = 1024;

/// The columns of all events, equally long.
#[derive(Clone, Copy)]
pub(crate) struct EventColumns<'h> {
    kind: &'h [EventKind],
    process: &'h [u32],
    pub(crate) f: &'h [u32],
    key: &'h [u64],
    /// Packed: equal words are equal values.
    pub(crate) value: &'h [u64],
    /// The key of the first invocation, packed.
    one_key: u64,
}

/// Where an operation that certainly took effect begins and ends: indexes of events.
#[derive(Clone, Copy, Default)]
pub(crate) struct Finished {
    pub(crate) call: u32,
    pub(crate) completion: u32,
}

/// The operations of a history that are not [`Finished`], by the indexes of their invocations.
#[derive(Default)]
pub(crate) struct NotOk {
    pub(crate) failed: Vec<u32>,
    /// Nobody knows whether they took effect.
    pub(crate) unfinished: Vec<u32>,
}

impl EventColumns<'_> {
    /// Whether all operations are of one key.
    pub(crate) fn are_of_one_key(&self) -> bool {
        let is_one = |keys: &[u64]| keys.iter().fold(0, |others, key| others | (key ^ self.one_key)) == 0;
        // Some recorders name the key only when they invoke, and what is not an operation has none.
        let may_be = |(&key, &kind): (&u64, &EventKind)| match kind {
            EventKind::Nemesis | EventKind::Phase => true,
            EventKind::Invoke => key == self.one_key,
            EventKind::Ok | EventKind::Fail | EventKind::Info => key == self.one_key || key == WORD_NIL,
        };
        self.key.chunks(BLOCK).all(is_one) || self.key.iter().zip(self.kind).all(may_be)
    }

    /// Pairs the events of all operations as [`History::ops`] does, but without a look at keys, nor at what was invoked when
    /// it completes with `ok`; `None` where something is unusual, or wrong, or `take` says so. That is given what finished, in
    /// the order of completions, a few at a time: what is not kept need not be fetched again.
    ///
    /// There is no jump between invocations and completions: both write a pair, and that of an invocation is overwritten by
    /// the next one.
    pub(crate) fn pair(&self, mut take: impl FnMut(&[Finished]) -> Option<()>) -> Option<NotOk> {
        /// What a process is left at that has nothing open, and at that never invokes again.
        const NONE: u32 = u32::MAX;
        const CLOSED: u32 = NONE - 1;
        let last = self.process.iter().copied().max().unwrap_or(0);
        if last >= Latest::LOW_MAX {
            return None;
        }
        let mut latest = vec![NONE; last as usize + 1];
        let mut finished = [Finished::default(); BLOCK];
        let mut not_ok = NotOk::default();
        for (block, (kinds, processes)) in self.kind.chunks(BLOCK).zip(self.process.chunks(BLOCK)).enumerate() {
            let mut count = 0;
            for (at, (&kind, &process)) in (block * BLOCK..).zip(kinds.iter().zip(processes)) {
                let slot = &mut latest[process as usize];
                let call = *slot;
                if !matches!(kind, EventKind::Invoke | EventKind::Ok) {
                    if matches!(kind, EventKind::Nemesis | EventKind::Phase) {
                        continue;
                    }
                    if *self.f.get(call as usize)? != self.f[at] {
                        return None;
                    }
                    let is_failed = kind == EventKind::Fail;
                    if is_failed { &mut not_ok.failed } else { &mut not_ok.unfinished }.push(call);
                    *slot = if is_failed { NONE } else { CLOSED };
                    continue;
                }
                let completes = kind == EventKind::Ok;
                if ((call == NONE) == completes) | (call == CLOSED) {
                    return None;
                }
                *slot = select_unpredictable(completes, NONE, at as u32);
                finished[count] = Finished { call, completion: at as u32 };
                count += usize::from(completes);
            }
            take(&finished[..count])?;
        }
        not_ok.unfinished.extend(latest.into_iter().filter(|&call| call < CLOSED));
        Some(not_ok)
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

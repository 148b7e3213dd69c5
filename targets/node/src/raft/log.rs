//! The log in memory: a snapshot's end, and the entries after it.

use super::{Entry, Index, Snapshot, Term};

/// Law: `entries[i].index == base + 1 + i`.
#[derive(Clone, Debug)]
pub struct Log {
    snapshot: Snapshot,
    entries: Vec<Entry>,
}

impl Log {
    /// A log that continues `snapshot`. Entries up to its end are left out.
    pub fn new(snapshot: Snapshot, entries: Vec<Entry>) -> Self {
        let entries = entries.into_iter().filter(|entry| entry.index > snapshot.index).collect();
        Self { snapshot, entries }
    }

    /// The last entry that is only in the snapshot.
    pub fn base(&self) -> Index {
        self.snapshot.index
    }

    /// The snapshot that the log continues.
    pub fn snapshot(&self) -> &Snapshot {
        &self.snapshot
    }

    /// Index of the last entry.
    pub fn last_index(&self) -> Index {
        self.base() + self.entries.len() as u64
    }

    /// Term of the last entry.
    pub fn last_term(&self) -> Term {
        self.entries.last().map_or(self.snapshot.term, |entry| entry.term)
    }

    /// Term of the entry at `index`; `None` when it is not there or compacted away.
    pub fn term_at(&self, index: Index) -> Option<Term> {
        match index.checked_sub(self.base()) {
            Some(0) => Some(self.snapshot.term),
            Some(n) => self.entries.get(n as usize - 1).map(|entry| entry.term),
            None => None,
        }
    }

    /// Up to `max` entries after `index`, which must not be before the base.
    pub fn after(&self, index: Index, max: usize) -> &[Entry] {
        let from = (index.saturating_sub(self.base()) as usize).min(self.entries.len());
        &self.entries[from..self.entries.len().min(from.saturating_add(max))]
    }

    /// Entries in `from + 1 ..= to`.
    pub fn range(&self, from: Index, to: Index) -> &[Entry] {
        self.after(from, to.saturating_sub(from) as usize)
    }

    /// Puts `entries` in their places; whatever was there from the first one on is gone.
    pub fn put(&mut self, entries: &[Entry]) {
        let Some(first) = entries.first() else { return };
        self.entries.truncate((first.index - self.base() - 1) as usize);
        self.entries.extend_from_slice(entries);
    }

    /// The first index of the term that the entry at `index` has: a whole term is skipped when logs differ there.
    pub fn first_of_term(&self, index: Index) -> Index {
        let Some(term) = self.term_at(index) else { return index };
        let mut first = index;
        while first > self.base() + 1 && self.term_at(first - 1) == Some(term) {
            first -= 1;
        }
        first
    }

    /// Forgets entries that `snapshot` contains.
    pub fn compact(&mut self, snapshot: Snapshot) {
        if snapshot.index <= self.base() {
            return;
        }
        let keep = self.term_at(snapshot.index) == Some(snapshot.term);
        let gone = ((snapshot.index - self.base()) as usize).min(self.entries.len());
        self.entries.drain(..gone);
        if !keep {
            // Another history: none of it may follow this snapshot.
            self.entries.clear();
        }
        self.snapshot = snapshot;
    }

    /// All entries after the snapshot.
    pub fn entries(&self) -> &[Entry] {
        &self.entries
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn log(terms: &[Term]) -> Log {
        let entry = |(i, term): (usize, &Term)| Entry { index: i as u64 + 1, term: *term, data: Arc::from("") };
        Log::new(snapshot(0, 0), terms.iter().enumerate().map(entry).collect())
    }

    fn snapshot(index: Index, term: Term) -> Snapshot {
        Snapshot { index, term, data: Arc::from("") }
    }

    #[test]
    fn only_what_follows_a_snapshot_stays() {
        for (index, term, left) in [(2, 1, 2), (3, 3, 1), (4, 3, 0), (9, 4, 0), (2, 2, 0), (0, 0, 4)] {
            let mut log = log(&[1, 1, 3, 3]);
            log.compact(snapshot(index, term));
            assert_eq!(log.entries().len(), left, "after a snapshot up to entry {index} of term {term}");
            assert_eq!(log.last_index(), index + left as u64);
        }
    }

    #[test]
    fn positions() {
        let mut log = log(&[1, 1, 3, 3]);
        assert_eq!((log.first_of_term(4), log.first_of_term(2), log.first_of_term(9)), (3, 1, 9));
        log.compact(snapshot(1, 1));
        assert_eq!((log.term_at(0), log.term_at(1), log.term_at(4), log.term_at(5)), (None, Some(1), Some(3), None));
        assert_eq!(log.range(1, 3).iter().map(|e| e.index).collect::<Vec<_>>(), [2, 3]);
        assert_eq!(log.after(2, 9).len(), 2);
        log.put(&[Entry { index: 3, term: 4, data: Arc::from("") }]);
        assert_eq!((log.last_index(), log.last_term()), (3, 4));
    }
}

//! Configurations that a search has visited, in bounded memory.
//!
//! Entries are words in one list, found through a table of their places: nothing is allocated per entry, so the memory
//! is known exactly and given back at once. When it would outgrow its limit, the older half of the entries is forgotten.
//! That costs time, never soundness: a forgotten configuration is searched again. The table holds half a hash beside each
//! place, so that it grows without looking at the entries again: with millions of them that would outlast a deadline.

use super::problem::{FastHasher, spread};
use hashbrown::HashTable;
use std::hash::Hasher;

/// Unfinished operations that took effect: (class, how many), sorted by class, counts above 0.
pub(super) type Spent = Vec<(u32, u32)>;

/// Whether `a` has spent no more of anything than `b`.
fn is_covered(a: &[u64], b: &[(u32, u32)]) -> bool {
    a.iter().map(|&word| unpack(word)).all(|(class, count)| spent_of(b, class) >= count)
}

/// How many operations of a class are spent.
pub(super) fn spent_of(spent: &[(u32, u32)], class: u32) -> u32 {
    spent.binary_search_by_key(&class, |&(class, _)| class).map_or(0, |at| spent[at].1)
}

fn pack(low: u32, high: u32) -> u64 {
    u64::from(low) | u64::from(high) << 32
}

fn unpack(word: u64) -> (u32, u32) {
    (word as u32, (word >> 32) as u32)
}

/// A configuration but for what it has spent.
#[derive(Clone, Copy)]
pub(super) struct Place<'l> {
    pub(super) next_return: u32,
    pub(super) state: u32,
    /// Which slots hold a linearized operation; always as many words in one search.
    pub(super) lin: &'l [u64],
}

impl Place<'_> {
    fn hash(&self) -> u32 {
        let mut hasher = FastHasher::default();
        hasher.write_u64(pack(self.next_return, self.state));
        for &word in self.lin {
            hasher.write_u64(word);
        }
        hasher.finish() as u32
    }
}

/// What has been visited; see the module.
pub(super) struct Seen {
    young: Generation,
    old: Generation,
    lin_words: usize,
}

impl Seen {
    /// For configurations whose `lin` has so many words.
    pub(super) fn new(lin_words: usize) -> Self {
        // Enough for what needs hardly any search.
        let young = Generation { table: HashTable::with_capacity(28), words: Vec::with_capacity(128) };
        Self { young, old: Generation::default(), lin_words }
    }

    /// How many bytes it holds.
    #[cfg(test)]
    fn memory(&self) -> u64 {
        self.young.memory() + self.old.memory()
    }

    /// Remembers a configuration, in at most about `memory_max` bytes. `false` when one that is at least as good (that
    /// has spent no more) has been here before and is not forgotten.
    pub(super) fn insert(&mut self, place: Place<'_>, spent: &[(u32, u32)], memory_max: u64) -> bool {
        let hash = place.hash();
        let head = self.young.find(hash, place, self.lin_words);
        if head.is_some_and(|head| self.young.covers(head, spent)) {
            return false;
        }
        if !self.old.table.is_empty() {
            let old = self.old.find(hash, place, self.lin_words);
            if old.is_some_and(|head| self.old.covers(head, spent)) {
                return false;
            }
        }
        if self.young.has_room(self.lin_words + spent.len() + 4, memory_max / 2) {
            self.young.insert(hash, place, spent, head);
        } else {
            self.old = std::mem::take(&mut self.young);
            self.young.insert(hash, place, spent, None);
        }
        true
    }
}

/// Entries of about the same age.
///
/// ```text
/// entry  = next_return | state << 32, lin…, head of its list of spent
/// spent  = place of the next one | length << 32, (class | count << 32)…
/// ```
#[derive(Default)]
struct Generation {
    /// Where entries begin in `words`, and their hashes: place | hash << 32.
    table: HashTable<u64>,
    words: Vec<u64>,
}

/// The head of an entry that had spent nothing: it covers everything.
const NOTHING_SPENT: u64 = u64::MAX;

/// The end of a list of spent.
const END: u32 = u32::MAX;

impl Generation {
    fn memory(&self) -> u64 {
        (self.table.allocation_size() + self.words.capacity() * size_of::<u64>()) as u64
    }

    /// Whether so many words more fit without outgrowing a limit (bytes). Lists double when they grow.
    fn has_room(&self, words: usize, memory_max: u64) -> bool {
        let is_full = self.words.len() + words > self.words.capacity() || self.table.len() == self.table.capacity();
        let is_addressable = self.words.len() + words < END as usize;
        is_addressable && (!is_full || self.table.is_empty() || self.memory() * 2 <= memory_max)
    }

    /// Where the head of an entry is.
    fn find(&self, hash: u32, place: Place<'_>, lin_words: usize) -> Option<usize> {
        let first = pack(place.next_return, place.state);
        let is_it = |&entry: &u64| {
            let (at, its_hash) = unpack(entry);
            let at = at as usize;
            its_hash == hash && self.words[at] == first && self.words[at + 1..=at + lin_words] == *place.lin
        };
        self.table.find(spread(hash), is_it).map(|&entry| entry as u32 as usize + 1 + lin_words)
    }

    /// Whether a configuration of this entry has spent no more than this one.
    fn covers(&self, head: usize, spent: &[(u32, u32)]) -> bool {
        if self.words[head] == NOTHING_SPENT {
            return true;
        }
        let mut next = self.words[head] as u32;
        while next != END {
            let (after, len) = unpack(self.words[next as usize]);
            let at = next as usize + 1;
            if is_covered(&self.words[at..at + len as usize], spent) {
                return true;
            }
            next = after;
        }
        false
    }

    /// Adds a configuration that nothing here covers, to the entry with this head if there is one.
    fn insert(&mut self, hash: u32, place: Place<'_>, spent: &[(u32, u32)], head: Option<usize>) {
        let head = head.unwrap_or_else(|| {
            let at = self.words.len() as u32;
            self.words.push(pack(place.next_return, place.state));
            self.words.extend_from_slice(place.lin);
            self.words.push(u64::from(END));
            self.table.insert_unique(spread(hash), pack(at, hash), |&entry| spread(unpack(entry).1));
            self.words.len() - 1
        });
        if spent.is_empty() {
            self.words[head] = NOTHING_SPENT;
            return;
        }
        self.unlink_covered_by(spent, head);
        let at = self.words.len() as u32;
        self.words.push(pack(self.words[head] as u32, spent.len() as u32));
        self.words.extend(spent.iter().map(|&(class, count)| pack(class, count)));
        self.words[head] = u64::from(at);
    }

    /// Takes out of the list what has spent no less than this: it has nothing left to say.
    fn unlink_covered_by(&mut self, spent: &[(u32, u32)], head: usize) {
        let mut link = head;
        loop {
            let next = self.words[link] as u32;
            if next == END {
                return;
            }
            let (after, len) = unpack(self.words[next as usize]);
            let at = next as usize + 1;
            let other = &self.words[at..at + len as usize];
            let count_of =
                |class| other.binary_search_by_key(&class, |&word| word as u32).map(|at| unpack(other[at]).1);
            if spent.iter().all(|&(class, count)| count_of(class).is_ok_and(|more| more >= count)) {
                let high = self.words[link] & !u64::from(u32::MAX);
                self.words[link] = high | u64::from(after);
            } else {
                link = next as usize;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn place(next_return: u32, lin: &[u64]) -> Place<'_> {
        Place { next_return, state: 7, lin }
    }

    #[test]
    fn what_has_spent_no_more_covers() {
        let mut seen = Seen::new(1);
        let mut insert =
            |next_return, lin: u64, spent: &[(u32, u32)]| seen.insert(place(next_return, &[lin]), spent, 1 << 20);
        assert!(insert(1, 5, &[(3, 2)]));
        assert!(!insert(1, 5, &[(3, 2)]));
        assert!(!insert(1, 5, &[(3, 3), (4, 1)]), "spent more");
        assert!(insert(1, 5, &[(4, 1)]), "spent something else");
        assert!(insert(1, 5, &[(3, 1)]), "spent less");
        assert!(insert(1, 4, &[(3, 2)]), "another configuration");
        assert!(insert(2, 5, &[(3, 2)]), "another configuration");
        assert!(insert(1, 5, &[]));
        assert!(!insert(1, 5, &[(9, 1)]), "nothing spent covers everything");
    }

    #[test]
    fn memory_is_bounded_and_what_is_lately_seen_is_known() {
        let mut seen = Seen::new(3);
        let limit = 1 << 20;
        for n in 0..200_000 {
            let lin = [u64::from(n), 0, 9];
            assert!(seen.insert(place(n, &lin), &[(n, 1)], limit));
            assert!(!seen.insert(place(n, &lin), &[(n, 1)], limit));
            assert!(seen.memory() <= limit, "{}", seen.memory());
        }
        assert!(!seen.insert(place(199_000, &[199_000, 0, 9]), &[(199_000, 1)], limit));
        assert!(seen.insert(place(3, &[3, 0, 9]), &[(3, 1)], limit), "long forgotten");
    }
}

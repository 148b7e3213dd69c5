//! The earliest end among windows that begin after a gap.

use super::{END, Window};

/// Windows that come in one by one (a Fenwick tree over their first gaps, from the last to the first).
pub(super) struct Minima {
    /// First gaps of all windows that will ever come, ascending.
    firsts: Vec<u32>,
    tree: Vec<u32>,
}

impl Minima {
    /// None yet; those that will come begin in these gaps.
    pub(super) fn new(firsts: impl Iterator<Item = u32>) -> Self {
        let mut firsts: Vec<u32> = firsts.collect();
        firsts.sort_unstable();
        let tree = vec![END; firsts.len() + 1];
        Self { firsts, tree }
    }

    /// How many of the first gaps are at least `gap`.
    fn rank(&self, gap: u32) -> usize {
        self.firsts.len() - self.firsts.partition_point(|&first| first < gap)
    }

    pub(super) fn insert(&mut self, window: Window) {
        let mut place = self.rank(window.first);
        while place < self.tree.len() {
            self.tree[place] = self.tree[place].min(window.last);
            place += place & place.wrapping_neg();
        }
    }

    /// The smallest `last` of all windows so far that begin after `gap`; [`END`] without one.
    pub(super) fn after(&self, gap: u32) -> u32 {
        let mut smallest = END;
        let mut place = self.rank(gap.saturating_add(1));
        while place > 0 {
            smallest = smallest.min(self.tree[place]);
            place &= place - 1;
        }
        smallest
    }
}

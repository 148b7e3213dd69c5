//! Priority queues: the smallest element goes first.
//!
//! An element may not go while a smaller one is there. From the smallest up, each one is let go in the first gap in which
//! it may and no smaller one is there, and put in as late as possible before: then it is there as briefly as it can be,
//! whatever the larger ones do, which are not in its way. "Empty" must find a gap that none of them covers.

use super::contents::{Contents, Element};
use super::minima::Minima;
use super::{END, Window};

/// For each element, the gap by which it must have gone because a larger one had; [`END`] without one.
pub(super) fn deadlines(contents: &Contents<'_>) -> Vec<u32> {
    let elements = &contents.elements;
    let mut later = Minima::new(elements.iter().map(|element| element.take.first));
    let mut deadlines = vec![END; elements.len()];
    for at in ascending(elements).into_iter().rev() {
        let element = &elements[at as usize];
        // Larger ones that certainly went after this one came.
        deadlines[at as usize] = later.after(element.put.last);
        if element.is_taken() {
            later.insert(element.take);
        }
    }
    deadlines
}

fn ascending(elements: &[Element<'_>]) -> Vec<u32> {
    let mut order: Vec<u32> = (0..elements.len() as u32).collect();
    order.sort_unstable_by_key(|&at| elements[at as usize].value);
    order
}

/// Whether an order exists.
pub(super) fn fits(contents: &Contents<'_>) -> bool {
    let mut free = FreeGaps::new(contents);
    for at in ascending(&contents.elements) {
        let element = &contents.elements[at as usize];
        let gone = free.next(element.take.first);
        if gone > element.take.last {
            return false;
        }
        // Before its certain end it is there only from the moment it certainly came.
        free.take(element.put.last.saturating_add(1), gone.saturating_sub(1));
    }
    contents.empties.iter().all(|window| free.next(window.first) <= window.last)
}

/// Gaps in which no element so far is there, among those that matter.
struct FreeGaps {
    /// The gaps of interest, ascending: firsts and lasts of windows and their neighbours, then [`END`].
    gaps: Vec<u32>,
    /// Place of a gap -> the same place while it is free, otherwise one nearer to the next free one.
    next: Vec<u32>,
}

impl FreeGaps {
    fn new(contents: &Contents<'_>) -> Self {
        let of = |window: &Window| [window.first, window.last.saturating_add(1)];
        let mut gaps: Vec<u32> = contents
            .elements
            .iter()
            .flat_map(|element| [of(&element.put), of(&element.take)])
            .chain(contents.empties.iter().map(of))
            .flatten()
            .chain([END])
            .collect();
        gaps.sort_unstable();
        gaps.dedup();
        let next = (0..gaps.len() as u32).collect();
        Self { gaps, next }
    }

    fn place(&self, gap: u32) -> usize {
        self.gaps.partition_point(|&other| other < gap)
    }

    fn root(&mut self, mut place: usize) -> usize {
        while self.next[place] as usize != place {
            // Halving the way for the next one who asks.
            self.next[place] = self.next[self.next[place] as usize];
            place = self.next[place] as usize;
        }
        place
    }

    /// The first free gap from `gap` on; [`END`] is always free.
    fn next(&mut self, gap: u32) -> u32 {
        let place = self.root(self.place(gap));
        self.gaps[place]
    }

    /// From `first` to `last` somebody is there.
    fn take(&mut self, first: u32, last: u32) {
        let mut place = self.root(self.place(first));
        while self.gaps[place] <= last && self.gaps[place] != END {
            self.next[place] += 1;
            place = self.root(place + 1);
        }
    }
}

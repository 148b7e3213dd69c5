//! Last in, first out.
//!
//! The times during which elements are there must nest or be disjoint. An element that can go as soon as it comes is in
//! nobody's way. Of the others, those whose certain times overlap, directly or by way of others, form a heap of which one
//! lies at the bottom: it can have come before and gone after all of the rest. Any that can is as good as any other,
//! since what is left of a possible history is possible; so it is taken out, and what is left falls apart into smaller
//! heaps. Elements are there only for the hulls of these heaps, so "empty" is wrong exactly when certain times cover it
//! (compare Lee and Mathur, OOPSLA 2025, for stacks in log-linear time).

use super::contents::{Contents, Element};
use super::coverage::Coverage;
use super::minima::Minima;
use super::{END, Window};

/// For each element, the gap by which it must have gone because one below it had; [`END`] without one.
pub(super) fn deadlines(contents: &Contents<'_>) -> Vec<u32> {
    let elements = &contents.elements;
    let mut later = Minima::new(elements.iter().map(|element| element.take.first));
    let mut below: Vec<&Element<'_>> = elements.iter().filter(|element| element.is_taken()).collect();
    below.sort_unstable_by_key(|element| element.put.last);
    let mut below = below.into_iter().peekable();
    let mut order: Vec<u32> = (0..elements.len() as u32).collect();
    order.sort_unstable_by_key(|&at| elements[at as usize].put.first);
    let mut deadlines = vec![END; elements.len()];
    for at in order {
        let element = &elements[at as usize];
        while let Some(lower) = below.next_if(|lower| lower.put.last < element.put.first) {
            later.insert(lower.take);
        }
        // Those that certainly lay below this one and went after it had come.
        deadlines[at as usize] = later.after(element.put.last);
    }
    // Where the times of others cover all moments at which it may have come, it came upon some heap, and went before the
    // bottom of that heap.
    let taken = || elements.iter().filter(|element| element.is_taken());
    let heaps = Coverage::new(taken().map(Element::core));
    let mut until = vec![0; heaps.len()];
    for element in taken() {
        if let Some(heap) = heaps.run_around(element.core()).filter(|_| element.core().first <= element.core().last) {
            until[heap] = element.take.last.max(until[heap]);
        }
    }
    for (deadline, element) in deadlines.iter_mut().zip(elements) {
        if let Some(heap) = heaps.run_around(element.put) {
            *deadline = until[heap].min(*deadline);
        }
    }
    deadlines
}

/// Whether an order exists.
pub(super) fn fits(contents: &Contents<'_>) -> bool {
    contents.empties_fit() && Heap::new(&contents.elements).is_none_or(Heap::falls_apart)
}

/// Elements that are not out of the way yet, by the start of their certain time.
struct Heap {
    /// The certain time of each, ascending by `start`, in places among all starts and ends: from `start` until before
    /// `end`.
    start: Vec<u32>,
    end: Vec<u32>,
    /// Where a heap must begin at the latest so that an element may lie below it: `put.first` is before that start.
    below_from: MinTree,
    /// The place up to which it may lie below others, upside down: the larger the place, the smaller the number.
    until: Vec<u32>,
    /// `until` of those that may lie below their heap as far as its start goes.
    below_until: MinTree,
    /// How many certain times cover each place.
    cover: CoverTree,
    /// Place among `start` -> itself while it is there, else nearer to the next one that is.
    next: Vec<u32>,
}

impl Heap {
    fn new(elements: &[Element<'_>]) -> Option<Self> {
        let mut elements: Vec<(Window, &Element<'_>)> = elements
            .iter()
            .map(|element| (element.core(), element))
            .filter(|(core, _)| core.first <= core.last)
            .collect();
        if elements.is_empty() {
            return None;
        }
        elements.sort_unstable_by_key(|(core, _)| core.first);
        let mut gaps: Vec<u32> = elements.iter().flat_map(|(core, _)| [core.first, core.last + 1]).collect();
        gaps.sort_unstable();
        gaps.dedup();
        let place = |gap: u32| gaps.partition_point(|&other| other < gap) as u32;
        let start: Vec<u32> = elements.iter().map(|(core, _)| place(core.first)).collect();
        let end: Vec<u32> = elements.iter().map(|(core, _)| place(core.last + 1)).collect();
        // It comes in a gap before the heap's start, and goes in one that is not before its end.
        let below_from = elements.iter().map(|(_, element)| place(element.put.first + 1));
        let below_from = MinTree::new(below_from, elements.len());
        let until = elements.iter().map(|(_, element)| match element.take.last {
            END => 0,
            last => u32::MAX - gaps.partition_point(|&other| other <= last) as u32,
        });
        let until = until.collect();
        let below_until = MinTree::new(std::iter::empty(), elements.len());
        let cover = CoverTree::new(&start, &end, gaps.len());
        let next = (0..=elements.len() as u32).collect();
        Some(Self { start, end, below_from, until, below_until, cover, next })
    }

    /// The first element from place `at` on that is there.
    fn alive(&mut self, mut at: usize) -> usize {
        while self.next[at] as usize != at {
            self.next[at] = self.next[self.next[at] as usize];
            at = self.next[at] as usize;
        }
        at
    }

    fn falls_apart(mut self) -> bool {
        // Elements `from..to` whose heaps are to be taken apart, the later ones deeper in the list.
        let mut todo: Vec<(usize, usize)> = vec![(0, self.start.len())];
        while let Some((from, to)) = todo.pop() {
            let first = self.alive(from);
            if first >= to {
                continue;
            }
            let (start, end) = (self.start[first], self.cover.first_free(self.start[first]));
            let beyond = first + self.start[first..to].partition_point(|&other| other < end);
            while let Some(at) = self.below_from.find(first, beyond, start) {
                self.below_from.set(at, u32::MAX);
                self.below_until.set(at, self.until[at]);
            }
            let Some(bottom) = self.below_until.find(first, beyond, u32::MAX - 1 - end) else { return false };
            self.below_until.set(bottom, u32::MAX);
            self.cover.uncover(self.start[bottom], self.end[bottom]);
            self.next[bottom] += 1;
            todo.push((beyond, to));
            todo.push((first, beyond));
        }
        true
    }
}

/// Numbers in a row, of which one that is small enough can be found.
struct MinTree {
    /// A heap-shaped tree: the leaves are the numbers, inner nodes the smaller of their children.
    nodes: Vec<u32>,
    leaves: usize,
}

impl MinTree {
    /// A tree of so many numbers; those not given are as large as can be.
    fn new(numbers: impl Iterator<Item = u32>, len: usize) -> Self {
        let leaves = len.next_power_of_two();
        let mut nodes = vec![u32::MAX; 2 * leaves];
        for (at, number) in numbers.enumerate() {
            nodes[leaves + at] = number;
        }
        for at in (1..leaves).rev() {
            nodes[at] = nodes[2 * at].min(nodes[2 * at + 1]);
        }
        Self { nodes, leaves }
    }

    fn set(&mut self, at: usize, number: u32) {
        let mut node = self.leaves + at;
        self.nodes[node] = number;
        while node > 1 {
            node /= 2;
            let smaller = self.nodes[2 * node].min(self.nodes[2 * node + 1]);
            if self.nodes[node] == smaller {
                return;
            }
            self.nodes[node] = smaller;
        }
    }

    /// A place in `from..to` whose number is at most `most`.
    fn find(&self, from: usize, to: usize, most: u32) -> Option<usize> {
        let (mut left, mut right) = (self.leaves + from, self.leaves + to);
        while left < right {
            for node in [(left & 1 == 1).then_some(left), (right & 1 == 1).then(|| right - 1)].into_iter().flatten() {
                if self.nodes[node] <= most {
                    return Some(self.descend(node, most));
                }
            }
            left = left.div_ceil(2);
            right /= 2;
        }
        None
    }

    fn descend(&self, mut node: usize, most: u32) -> usize {
        while node < self.leaves {
            node = 2 * node + usize::from(self.nodes[2 * node] > most);
        }
        node - self.leaves
    }
}

/// How many times cover each place.
struct CoverTree {
    /// The smallest count below a node, without what covers the node as a whole.
    smallest: Vec<i32>,
    /// What covers a node as a whole.
    whole: Vec<i32>,
    leaves: usize,
}

impl CoverTree {
    fn new(start: &[u32], end: &[u32], len: usize) -> Self {
        let leaves = len.next_power_of_two();
        let mut count = vec![0i32; leaves + 1];
        for (&start, &end) in start.iter().zip(end) {
            count[start as usize] += 1;
            count[end as usize] -= 1;
        }
        let mut smallest = vec![0; 2 * leaves];
        let mut sum = 0;
        for at in 0..leaves {
            sum += count[at];
            smallest[leaves + at] = sum;
        }
        for at in (1..leaves).rev() {
            smallest[at] = smallest[2 * at].min(smallest[2 * at + 1]);
        }
        Self { smallest, whole: vec![0; 2 * leaves], leaves }
    }

    fn sum(&self, node: usize) -> i32 {
        self.smallest[node] + self.whole[node]
    }

    /// One less from `start` until before `end`.
    fn uncover(&mut self, start: u32, end: u32) {
        let (mut left, mut right) = (self.leaves + start as usize, self.leaves + end as usize);
        let (first, last) = (left, right - 1);
        while left < right {
            if left & 1 == 1 {
                self.whole[left] -= 1;
                left += 1;
            }
            if right & 1 == 1 {
                right -= 1;
                self.whole[right] -= 1;
            }
            left /= 2;
            right /= 2;
        }
        for mut node in [first, last] {
            while node > 1 {
                node /= 2;
                self.smallest[node] = self.sum(2 * node).min(self.sum(2 * node + 1));
            }
        }
    }

    /// The first place from `from` on that nothing covers. There is one: the last end.
    fn first_free(&self, from: u32) -> u32 {
        let mut node = self.leaves + from as usize;
        let mut above: i32 = 0;
        let mut up = node;
        while up > 1 {
            up /= 2;
            above += self.whole[up];
        }
        // `above` is what covers all of `node` by way of its ancestors.
        loop {
            if self.sum(node) + above == 0 {
                while node < self.leaves {
                    above += self.whole[node];
                    node *= 2;
                    if self.sum(node) + above != 0 {
                        node += 1;
                    }
                }
                return (node - self.leaves) as u32;
            }
            // The next node to the right that is not inside of one looked at already.
            while node & 1 == 1 {
                node /= 2;
                above -= self.whole[node];
            }
            node += 1;
        }
    }
}

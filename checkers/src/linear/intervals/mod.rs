//! Containers, sets, counters and locks without a search: O(n log n).
//!
//! Time is counted in *gaps*: gap `g` lies between the events `g` and `g + 1`, and an operation takes effect in one of
//! the gaps of its [`Window`]. What must hold of an element (present, held, counted) holds for certain in the gaps
//! between the last one in which it may begin and the first one in which it may end; a clever order lets it hold there
//! only. So most questions become: do such intervals overlap, nest, or cover a window?
//!
//! | file | objects | precondition |
//! |---|---|---|
//! | `contents`, `fifo`, `lifo`, `smallest` | unordered queue, queue, stack, priority queue | no value is put twice; no capacity |
//! | `set` | sets | no `read` of everything beside `remove` |
//! | `counter` | counters | all steps are equal, or every one answered |
//! | `lock` | locks, semaphores | a process does one thing at a time |
//!
//! Each returns `None` where its precondition does not hold. The sources of the conditions are named in the files; all
//! of them are compared with brute force by this crate's property tests, published proofs in this field having been
//! wrong before.

mod contents;
mod counter;
mod coverage;
mod fifo;
mod lifo;
mod lock;
mod minima;
mod set;
mod smallest;
#[cfg(test)]
mod tests;

pub(super) use contents::decide as container;
pub(super) use counter::decide as counter;
pub(super) use lock::decide as lock;
pub(super) use set::decide as set;

use super::problem::{Item, NEVER};

/// The end of time: the last gap of an operation that nobody saw end.
const END: u32 = u32::MAX;

/// The gaps in which an operation may take effect, both ends included.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Window {
    first: u32,
    last: u32,
}

impl Window {
    /// After everything: what never happens.
    const NEVER: Self = Self { first: END, last: END };

    fn of<O>(item: &Item<O>) -> Self {
        Self { first: item.call, last: if item.ret == NEVER { END } else { item.ret - 1 } }
    }
}

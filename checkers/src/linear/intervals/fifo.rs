//! First in, first out.
//!
//! Values come and go in the same order, so there is none when one was certainly put in before another and certainly
//! taken after it. Two interval orders that do not contradict each other on any pair have a common extension, so
//! looking at pairs is enough; and "empty" is wrong exactly when certain presences cover its whole window (Henzinger,
//! Sezgin and Vafeiadis, "Aspect-oriented linearizability proofs", CONCUR 2013, theorem 1; Bouajjani, Emmi, Enea and
//! Hamza, "On reducing linearizability to state reachability", ICALP 2015, section 5.1).

use super::END;
use super::Window;
use super::contents::{Contents, suffix_minimum};

/// For each element, the gap by which it must have gone because one that came later had; [`END`] without one.
pub(super) fn deadlines(contents: &Contents<'_>) -> Vec<u32> {
    let taken = contents.elements.iter().filter(|element| element.is_taken());
    let mut later: Vec<Window> =
        taken.map(|element| Window { first: element.put.first, last: element.take.last }).collect();
    later.sort_unstable_by_key(|window| window.first);
    suffix_minimum(&mut later);
    let deadline = |put: Window| later.get(later.partition_point(|window| window.first <= put.last));
    contents.elements.iter().map(|element| deadline(element.put).map_or(END, |window| window.last)).collect()
}

/// Whether an order exists.
pub(super) fn fits(contents: &Contents<'_>) -> bool {
    let elements = &contents.elements;
    let mut by_first: Vec<u32> = (0..elements.len() as u32).collect();
    let mut by_last = by_first.clone();
    by_first.sort_unstable_by_key(|&at| elements[at as usize].put.first);
    by_last.sort_unstable_by_key(|&at| elements[at as usize].put.last);
    // Those certainly put in before the one at hand, and the latest first gap of their takes.
    let mut before = by_last.iter().map(|&at| &elements[at as usize]).peekable();
    let mut latest_take = 0;
    for element in by_first.iter().map(|&at| &elements[at as usize]) {
        while let Some(earlier) = before.next_if(|earlier| earlier.put.last < element.put.first) {
            latest_take = latest_take.max(earlier.take.first);
        }
        if latest_take > element.take.last {
            return false;
        }
    }
    contents.empties_fit()
}

//! A queue that gives back any element: elements do not stand in each other's way, only in that of "empty".

use super::contents::Contents;

/// Whether an order exists.
pub(super) fn fits(contents: &Contents<'_>) -> bool {
    contents.empties_fit()
}

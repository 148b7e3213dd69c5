//! Gaps in which something holds for certain.

use super::Window;

/// A set of gaps, as disjoint runs in ascending order.
pub(super) struct Coverage {
    runs: Vec<Window>,
}

impl Coverage {
    /// All gaps of these windows; those that end before they begin are empty.
    pub(super) fn new(windows: impl Iterator<Item = Window>) -> Self {
        let mut windows: Vec<Window> = windows.filter(|window| window.first <= window.last).collect();
        windows.sort_unstable_by_key(|window| window.first);
        let mut runs: Vec<Window> = Vec::new();
        for window in windows {
            match runs.last_mut() {
                Some(run) if window.first <= run.last.saturating_add(1) => run.last = run.last.max(window.last),
                _ => runs.push(window),
            }
        }
        Self { runs }
    }

    /// Whether it leaves no gap of a window.
    pub(super) fn covers(&self, window: Window) -> bool {
        self.run_around(window).is_some()
    }

    /// The place of the run that leaves no gap of a window.
    pub(super) fn run_around(&self, window: Window) -> Option<usize> {
        let at = self.runs.partition_point(|run| run.first <= window.first).checked_sub(1)?;
        (self.runs[at].last >= window.last).then_some(at)
    }

    /// How many runs there are.
    pub(super) fn len(&self) -> usize {
        self.runs.len()
    }
}

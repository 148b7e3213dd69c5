//! What a run exercised: which faults hit nodes in which role, and in what state the cluster was then.
//!
//! Recorded with each injection in the history, so that an old run can be looked at again.

use crate::faults::Hit;
use crate::in_force::field;
use squall_checkers::{EventKind, History};
use squall_harness::nemesis::Cell;
use std::collections::BTreeMap;
use std::time::Duration;

/// A cluster counts as recovering for this long after something was healed.
pub(crate) const RECOVERY: Duration = Duration::from_secs(3);

/// Roles of nodes.
pub(crate) const ROLES: [&str; 2] = ["leader", "follower"];

/// States of the cluster when a fault begins; the first that fits counts.
pub(crate) const PHASES: [&str; 4] = ["leaderless", "overlap", "recovery", "calm"];

/// What was going on when a fault began.
pub(crate) struct Scene<'a> {
    /// Who leads; empty when nobody does, or nobody could say.
    pub(crate) primaries: &'a [usize],
    /// Whether anybody was ever seen to lead in this run.
    pub(crate) has_leaders: bool,
    /// Whether another fault is in force.
    pub(crate) overlaps: bool,
    /// Whether something was healed a moment ago.
    pub(crate) recovers: bool,
}

impl Scene<'_> {
    /// Roles of those that are hit, separated by blanks; `any` where there are none.
    pub(crate) fn roles(&self, hit: &Hit) -> String {
        if self.primaries.is_empty() {
            return "any".to_owned();
        }
        let nodes = hit.links().iter().flat_map(|&(from, to)| [from, to]).chain(hit.nodes().iter().copied());
        let (mut leader, mut follower) = (false, false);
        for node in nodes {
            *(if self.primaries.contains(&node) { &mut leader } else { &mut follower }) = true;
        }
        let roles = [(leader, ROLES[0]), (follower, ROLES[1])];
        roles.iter().filter(|(is_hit, _)| *is_hit).map(|(_, role)| *role).collect::<Vec<_>>().join(" ")
    }

    /// One of [`PHASES`].
    pub(crate) fn phase(&self) -> &'static str {
        match self {
            Self { primaries: [], has_leaders: true, .. } => PHASES[0],
            Self { overlaps: true, .. } => PHASES[1],
            Self { recovers: true, .. } => PHASES[2],
            _ => PHASES[3],
        }
    }
}

/// How often each cell was exercised, by the injections of a history that certainly took place.
pub(crate) fn cells(history: &History) -> Vec<Cell> {
    let mut cells: BTreeMap<(String, String, String), u64> = BTreeMap::new();
    for event in history.iter().filter(|event| event.kind == EventKind::Nemesis) {
        let is = |name: &str, value: &str| field(&event, name).is_some_and(|text| text == value);
        if !is("action", "inject") || !is("outcome", "installed") {
            continue;
        }
        let (Some(roles), Some(phase)) = (field(&event, "roles"), field(&event, "phase")) else { continue };
        for role in roles.split(' ') {
            *cells.entry((event.f.to_string(), role.to_owned(), phase.clone())).or_default() += 1;
        }
    }
    cells.into_iter().map(|((fault, role, phase), times)| Cell { fault, role, phase, times }).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn roles_and_phases() {
        let scene = |primaries, has_leaders, overlaps, recovers| Scene { primaries, has_leaders, overlaps, recovers };
        let nodes = Hit::Nodes(vec![0, 2]);
        assert_eq!(scene(&[2], true, false, false).roles(&nodes), "leader follower");
        assert_eq!(scene(&[1], true, false, false).roles(&nodes), "follower");
        assert_eq!(scene(&[0], true, false, false).roles(&Hit::Links(vec![(0, 1)])), "leader follower");
        assert_eq!(scene(&[], true, true, true).phase(), "leaderless");
        assert_eq!(scene(&[], false, true, true).phase(), "overlap");
        assert_eq!(scene(&[1], true, false, true).phase(), "recovery");
        assert_eq!(scene(&[1], true, false, false).phase(), "calm");
        assert_eq!(scene(&[], false, false, false).roles(&nodes), "any");
    }
}

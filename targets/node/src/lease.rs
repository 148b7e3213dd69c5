//! The planted bug `clock-lease`: leader leases judged by the wall clock.
//!
//! A leader that a majority has just confirmed may answer reads by itself for as long as nobody of that majority would vote
//! for another (thesis, section 6.4.1). Measured with a clock that nobody can set, that is sound. This one reads
//! CLOCK_REALTIME: when that jumps back, a lease that should be over goes on, and a leader that was deposed
//! meanwhile still answers.

use crate::raft::Term;
use std::time::{Duration, SystemTime};

/// How long a leader may answer by itself, as it believes.
#[derive(Debug)]
pub(crate) struct Lease {
    length: Duration,
    /// The term that it was granted in, and its end.
    granted: Option<(Term, SystemTime)>,
}

impl Lease {
    /// None yet; `election` is how long followers are loyal to a leader that they have heard.
    pub(crate) fn new(election: Duration) -> Self {
        // Less, for their clocks may go a little faster.
        Self { length: election * 4 / 5, granted: None }
    }

    /// A majority has confirmed the leader of `term` after `asked`.
    pub(crate) fn grant(&mut self, term: Term, asked: SystemTime) {
        let until = asked + self.length;
        match &mut self.granted {
            Some((of, end)) if *of == term => *end = until.max(*end),
            other => *other = Some((term, until)),
        }
    }

    /// Whether the leader of `term` has it at `now`.
    pub(crate) fn holds(&self, term: Term, now: SystemTime) -> bool {
        self.granted.is_some_and(|(of, end)| of == term && now < end)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_lease_ends_before_followers_turn_away_unless_the_clock_jumps() {
        let begin = SystemTime::UNIX_EPOCH + Duration::from_secs(1_000_000);
        let at = |ms: u64| begin + Duration::from_millis(ms);
        let mut lease = Lease::new(Duration::from_millis(500));
        assert!(!lease.holds(3, begin));
        lease.grant(3, at(0));
        assert!(lease.holds(3, at(399)) && !lease.holds(3, at(400)) && !lease.holds(4, at(1)));
        lease.grant(3, at(300));
        assert!(lease.holds(3, at(699)) && !lease.holds(3, at(700)));
        // The bug: an hour ago it is still valid, and what is granted then does not shorten it.
        let hour = Duration::from_secs(3600);
        assert!(lease.holds(3, at(5000) - hour));
        lease.grant(3, at(5000) - hour);
        assert!(lease.holds(3, at(9000) - hour));
        lease.grant(4, at(0));
        assert!(lease.holds(4, at(399)) && !lease.holds(4, at(400)));
    }
}

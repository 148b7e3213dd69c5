//! What a leader knows of each follower, and how it sends to it.

use super::{Index, Log, Millis, Snapshot};

/// How a follower is sent entries.
#[derive(Clone, Debug)]
pub(super) enum Mode {
    /// It is not known where its log parts from ours: a few entries at a time, the next ones after the answer.
    Probe {
        /// Whether a message is on its way; signs of life repeat it.
        sent: bool,
    },
    /// It follows: messages are sent one after another without waiting.
    Stream,
    /// It lacks entries that are only in a snapshot.
    Install(Install),
}

/// A snapshot on its way, piece by piece. It is kept although a newer one may be taken meanwhile.
#[derive(Clone, Debug)]
pub(super) struct Install {
    pub(super) snapshot: Snapshot,
    /// Where the piece begins that has no answer yet (bytes).
    pub(super) offset: usize,
    /// When it was sent.
    pub(super) sent: Millis,
}

/// What a leader knows of a member.
#[derive(Clone, Debug)]
pub(super) struct Progress {
    /// The next entry to send.
    pub(super) next: Index,
    /// The last entry known to be there.
    pub(super) matched: Index,
    /// The last round that was answered.
    pub(super) round: u64,
    /// When it last answered.
    pub(super) heard: Millis,
    pub(super) mode: Mode,
}

impl Progress {
    /// A new leader knows nothing: it begins at the end of its own log (Raft, section 5.3).
    pub(super) fn new(log: &Log, now: Millis) -> Self {
        let next = log.last_index() + 1;
        Self { next, matched: 0, round: 0, heard: now, mode: Mode::Probe { sent: false } }
    }

    /// It has everything up to `matched`.
    pub(super) fn accept(&mut self, matched: Index) {
        self.matched = self.matched.max(matched);
        let known = match &self.mode {
            // Only an answer that reaches the place that is probed tells something about it.
            Mode::Probe { .. } => matched + 1 >= self.next,
            Mode::Install(install) => matched >= install.snapshot.index,
            Mode::Stream => false,
        };
        if known {
            self.mode = Mode::Stream;
        }
        self.next = self.next.max(self.matched + 1);
    }

    /// It has no entry at `prev` like ours; whatever it shares with us ends at `hint` or before. Returns whether that is
    /// news: answers may come late, twice, or about messages that were sent side by side.
    pub(super) fn refuse(&mut self, prev: Index, hint: Index) -> bool {
        let is_news = match self.mode {
            Mode::Probe { .. } => prev + 1 == self.next,
            Mode::Stream => prev >= self.matched,
            Mode::Install(_) => false,
        };
        if is_news {
            // Below what it once had: its disk has lost something. To count it less is always safe.
            self.matched = self.matched.min(hint);
            self.next = (hint + 1).min(prev).max(1);
            self.mode = Mode::Probe { sent: false };
        }
        is_news
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    fn progress(next: Index, matched: Index, mode: Mode) -> Progress {
        let log = Log::new(Snapshot { index: 0, term: 0, data: Arc::from("") }, Vec::new());
        Progress { next, matched, mode, ..Progress::new(&log, 0) }
    }

    #[test]
    fn probing_ends_with_the_answer_to_the_probe() {
        let mut p = progress(11, 0, Mode::Probe { sent: true });
        assert!(!p.refuse(20, 3), "about another message");
        assert!(p.refuse(10, 7));
        assert_eq!(p.next, 8);
        p.accept(3);
        assert!(matches!(p.mode, Mode::Probe { .. }), "3 says nothing about 7");
        p.accept(9);
        assert!(matches!(p.mode, Mode::Stream));
        assert_eq!((p.next, p.matched), (10, 9));
    }

    #[test]
    fn one_refusal_of_many_is_enough() {
        let mut p = progress(31, 10, Mode::Stream);
        assert!(p.refuse(20, 10));
        assert_eq!(p.next, 11);
        assert!(!p.refuse(25, 10), "sent before the probe");
        assert!(!p.refuse(30, 10));
        p.accept(30);
        assert!(!p.refuse(20, 10), "late");
        assert_eq!((p.next, p.matched), (31, 30));
    }

    #[test]
    fn a_lost_disk_counts_less() {
        let mut p = progress(31, 30, Mode::Stream);
        assert!(p.refuse(30, 4));
        assert_eq!((p.next, p.matched), (5, 4));
    }
}

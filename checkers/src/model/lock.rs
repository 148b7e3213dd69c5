//! Locks: `acquire` and `release`; a fencing lock's `acquire` answers a token.
//!
//! A release by somebody who does not hold the lock, and an acquire of one that is held, are impossible. Who holds it is
//! told by the process; after an operation of unknown outcome a client goes on as another process, and cannot release
//! what the old one may hold.

use super::{FailMeans, Model, no_such_op};
use crate::{HistoryError, Op, Outcome};
use std::collections::BTreeMap;
use std::fmt;

/// A lock of which there are so many permits.
#[derive(Clone, Copy, Debug)]
pub struct Lock {
    /// Its name among the models.
    pub name: &'static str,
    /// How many holds there may be at a time.
    pub permits: u32,
    /// Whether the one process that holds it may take it again and again.
    pub reentrant: bool,
    /// Whether `acquire` answers a token that must be larger than all before.
    pub fencing: bool,
}

impl Lock {
    /// One holder, once.
    pub const MUTEX: Self = Self { name: "mutex", permits: 1, reentrant: false, fencing: false };
    /// One holder, as often as it likes.
    pub const REENTRANT: Self = Self { name: "reentrant-mutex", permits: 1, reentrant: true, fencing: false };
    /// One holder, with tokens.
    pub const FENCING: Self = Self { name: "fencing-lock", permits: 1, reentrant: false, fencing: true };

    /// Up to `permits` holds, by whomever.
    pub const fn semaphore(permits: u32) -> Self {
        Self { name: "semaphore", permits, reentrant: false, fencing: false }
    }
}

/// Who holds a lock how often, and the largest token given out.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash)]
pub struct Holders {
    by_process: BTreeMap<u32, u32>,
    token: Option<i64>,
}

impl fmt::Display for Holders {
    /// `free`, `held by process 3`, `held by processes 3 3 5`, each with the last token.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let holds = self.by_process.iter().flat_map(|(process, holds)| (0..*holds).map(move |_| process.to_string()));
        match &*holds.collect::<Vec<_>>() {
            [] => f.write_str("free")?,
            [one] => write!(f, "held by process {one}")?,
            all => write!(f, "held by processes {}", all.join(" "))?,
        }
        self.token.map_or(Ok(()), |token| write!(f, ", last token {token}"))
    }
}

/// What was done to a lock.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum LockOp {
    /// Taken by this process, with a token where there are any and it is known.
    Acquire(u32, Option<i64>),
    /// Given back by this process.
    Release(u32),
}

impl Model for Lock {
    type State = Holders;
    type Op = LockOp;

    fn initial(&self) -> Holders {
        Holders::default()
    }

    fn step(&self, state: &Holders, op: &LockOp) -> Option<Holders> {
        let mut next = state.clone();
        match *op {
            LockOp::Acquire(process, token) => {
                // What a process that may take it again holds itself is not in its way.
                let in_the_way = |holder: u32| !self.reentrant || holder != process;
                let holds: u32 = state.by_process.iter().filter(|(p, _)| in_the_way(**p)).map(|(_, n)| *n).sum();
                if holds >= self.permits {
                    return None;
                }
                *next.by_process.entry(process).or_default() += 1;
                if let (true, Some(token)) = (self.fencing, token) {
                    if state.token.is_some_and(|last| token <= last) {
                        return None;
                    }
                    next.token = Some(token);
                }
            }
            LockOp::Release(process) => {
                let own = next.by_process.get_mut(&process)?;
                *own -= 1;
                if *own == 0 {
                    next.by_process.remove(&process);
                }
            }
        }
        Some(next)
    }

    fn is_read_only(&self, _: &LockOp) -> bool {
        false
    }

    fn view(&self, op: &Op<'_>, _: FailMeans) -> Result<Option<LockOp>, HistoryError> {
        // A lock that was not got is like one that was never asked for.
        let happened = op.outcome() != Outcome::Fail;
        let token = op.result().and_then(|value| value.as_int()).filter(|_| op.outcome() == Outcome::Ok);
        match op.f().as_str() {
            "acquire" => Ok(happened.then(|| LockOp::Acquire(op.process(), token))),
            "release" => Ok(happened.then(|| LockOp::Release(op.process()))),
            _ => Err(no_such_op(op, self.name, "acquire, release")),
        }
    }
}

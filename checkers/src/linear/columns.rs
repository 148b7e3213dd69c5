//! Register operations straight from the columns of a history, for speed: no [`Value`](crate::Value) is ever built.
//!
//! Says the same as [`Model::view`](crate::model::Model::view) where it says anything; for all that is unusual it says
//! `None`, and the usual way decides, and explains what is wrong.

use super::problem::{FastMap, NEVER};
use super::values::{INITIAL, NumberedRegisterOp, RegisterHistory, RegisterOpAt, UNOBSERVED};
use crate::history::Row;
use crate::model::FailMeans;
use crate::{Ops, Outcome, Sym, Value};

/// The operations of one key.
pub(crate) struct Columns<'c> {
    pub(crate) ops: &'c Ops<'c>,
    /// Their places among all.
    pub(crate) sources: &'c [u32],
    pub(crate) fail_means: FailMeans,
}

impl Columns<'_> {
    /// As a register's, where `read` and `write` are called so. `None` where something else happened.
    pub(crate) fn register(&self, read: &str, write: &str, has_cas: bool) -> Option<RegisterHistory> {
        let (read, write, cas) = (Sym::new(read), Sym::new(write), Sym::new("cas"));
        // A stored empty text reads like nil in some models, but is another state.
        let empty = crate::history::pack_small(&Value::str(""));
        let mut numbers = Numbers::new(self.sources.len());
        let mut history = Vec::with_capacity(self.sources.len());
        let mut take = |row: &Row| {
            let ret = match row.completion {
                Some(index) if row.outcome != Outcome::Unfinished => index,
                _ => NEVER,
            };
            let mut id = |word: u64| (Some(word) != empty).then(|| numbers.of(word));
            let numbered = if row.f == read {
                if row.outcome != Outcome::Ok {
                    return Some(());
                }
                NumberedRegisterOp::Read(id(row.value)?)
            } else if row.f == write {
                if row.outcome == Outcome::Fail {
                    return Some(());
                }
                NumberedRegisterOp::Write(id(row.value)?)
            } else if row.f == cas && has_cas {
                let (expected, new) = self.ops.pair_of(row.value)?;
                match (row.outcome, self.fail_means) {
                    (Outcome::Ok | Outcome::Unfinished, _) => NumberedRegisterOp::Cas(id(expected)?, id(new)?),
                    (Outcome::Fail, FailMeans::AnsweredNo) => NumberedRegisterOp::CasRefused(id(expected)?),
                    (Outcome::Fail, FailMeans::NoEffect) => return Some(()),
                }
            } else {
                return None;
            };
            history.push(RegisterOpAt { op: numbered, call: row.call, ret });
            Some(())
        };
        self.try_for_each_row(read, &mut take)?;
        Some(RegisterHistory { ops: history, values: numbers.next as usize })
    }

    /// `None` where an operation is not there, or not taken.
    #[inline]
    pub(super) fn try_for_each_row(&self, read: Sym, mut take: impl FnMut(&Row) -> Option<()>) -> Option<()> {
        if self.are_scattered() {
            // Called from one place only, `take` is compiled into the loop below.
            let take: &mut dyn FnMut(&Row) -> Option<()> = &mut take;
            let mut rows = Vec::with_capacity(ROWS.min(self.sources.len()));
            for sources in self.sources.chunks(ROWS) {
                self.ops.rows(sources, read, &mut rows)?;
                rows.iter().try_for_each(&mut *take)?;
            }
            return Some(());
        }
        self.sources.iter().try_for_each(|&source| take(&self.ops.row(source, read)?))
    }

    /// Whether the operations lie far apart among those of other keys.
    fn are_scattered(&self) -> bool {
        match self.sources {
            [first, .., last] => (last - first) as usize > 16 * self.sources.len(),
            _ => false,
        }
    }
}

/// How many operations are looked up at a time.
const ROWS: usize = 512;

/// Words of values to numbers.
pub(super) struct Numbers {
    /// Of small numbers, which most histories write: looked up without a hash. 0 is none.
    small: Vec<u32>,
    others: FastMap<u64, u32>,
    pub(super) next: u32,
}

impl Numbers {
    pub(super) fn new(ops: usize) -> Self {
        Self { small: vec![0; 2 * ops + 64], others: FastMap::default(), next: UNOBSERVED + 1 }
    }

    #[inline]
    pub(super) fn of(&mut self, word: u64) -> u32 {
        if word == crate::history::WORD_NIL {
            return INITIAL;
        }
        let small = crate::history::small_int(word).and_then(|n| self.small.get_mut(n as usize));
        let number = small.unwrap_or_else(|| self.others.entry(word).or_insert(0));
        // No branch: whether a value is new, nobody can foresee.
        let is_new = *number == 0;
        *number = if is_new { self.next } else { *number };
        self.next += u32::from(is_new);
        *number
    }
}

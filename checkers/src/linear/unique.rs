//! Registers that are only read and written, no value twice: from the columns of a history to a decision in one pass.
//!
//! Says what [`super::zones`] says, several times as fast: operations are added up by value as they are met, and nothing
//! is kept of them. Reads and writes come in no order that a processor could foresee, so there is no branch between them.

use super::columns::{Columns, Numbers};
use super::problem::{Decided, Decision, NEVER};
use super::values::INITIAL;
use super::zones::{BEFORE_ALL, Window, zones_fit};
use crate::{Outcome, Sym, Value};

/// All that happened to one value.
#[derive(Clone, Copy)]
struct Use {
    /// Of its only write.
    write: Window,
    /// The latest invocation and the earliest completion of its reads.
    reads: Window,
    writers: u32,
    readers: u32,
}

impl Use {
    const NONE: Self = Self {
        write: Window { call: BEFORE_ALL, ret: NEVER },
        reads: Window { call: BEFORE_ALL, ret: NEVER },
        writers: 0,
        readers: 0,
    };
}

/// A decision, and of how many operations; `None` where something else happened than reads and unique writes.
pub(super) fn decide(columns: &Columns<'_>, read: &str, write: &str) -> Option<(Decided, usize)> {
    let (read, write) = (Sym::new(read), Sym::new(write));
    // A stored empty text reads like nil in some models, but is another state.
    let empty = crate::history::pack_small(&Value::str(""));
    let mut numbers = Numbers::new(columns.sources.len());
    let mut uses = vec![Use::NONE; columns.sources.len() / 2 + 8];
    let mut ops = 0;
    columns.try_for_each_row(read, |row| {
        let is_read = row.f == read;
        if (!is_read & (row.f != write)) | (Some(row.value) == empty) {
            return None;
        }
        if row.outcome != Outcome::Ok && (is_read || row.outcome == Outcome::Fail) {
            return Some(());
        }
        let number = numbers.of(row.value) as usize;
        if number >= uses.len() {
            uses.resize(2 * number, Use::NONE);
        }
        let at = &mut uses[number];
        // Places are one more than indexes of events, as in zones.
        let is_finished = row.outcome == Outcome::Ok;
        let call = row.call + 1;
        let ret = row.completion.map_or(NEVER, |ret| if is_finished { ret + 1 } else { NEVER });
        at.reads.call = at.reads.call.max(if is_read { call } else { BEFORE_ALL });
        at.reads.ret = at.reads.ret.min(if is_read { ret } else { NEVER });
        at.readers += u32::from(is_read);
        at.write.call = if is_read { at.write.call } else { call };
        at.write.ret = if is_read { at.write.ret } else { ret };
        at.writers += u32::from(!is_read);
        ops += 1;
        (at.writers <= 1).then_some(())
    })?;
    uses.truncate(numbers.next as usize);
    if uses[INITIAL as usize].writers > 0 {
        return None;
    }
    let fits = zones(&uses).is_some_and(|zones| zones_fit(&zones));
    let decision = if fits { Decision::Linearizable } else { Decision::NotLinearizable };
    Some((Decided { decision, engine: "zones", configurations: 0, reach: 0, is_first: false }, ops))
}

/// The zones of all values, or `None` when one is impossible in itself.
fn zones(uses: &[Use]) -> Option<Vec<Window>> {
    let mut zones = Vec::with_capacity(uses.len());
    for (value, &Use { mut write, reads, writers, readers }) in uses.iter().enumerate() {
        if value == INITIAL as usize {
            write = Window { call: BEFORE_ALL, ret: BEFORE_ALL };
        } else if writers == 0 || write.ret == NEVER && readers == 0 {
            // Never met, read and never written, or written by nobody knows whether, and nobody cares.
            if readers > 0 {
                return None;
            }
            continue;
        }
        if reads.ret < write.call {
            return None;
        }
        zones.push(Window { call: write.call.max(reads.call), ret: write.ret.min(reads.ret) });
    }
    Some(zones)
}

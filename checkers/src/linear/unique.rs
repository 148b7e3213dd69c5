//! Registers that are only read and written, no value twice: from the columns of a history to a decision in one pass.
//!
//! Says what [`super::zones`] says, several times as fast: operations are added up by value as they are met, and nothing
//! is kept of them. Reads and writes come in no order that a processor could foresee, so there is no branch between them.

use super::columns::{Columns, Numbers};
use super::problem::{Decided, Decision, NEVER};
use super::values::INITIAL;
use super::zones::{BEFORE_ALL, Window, zones_fit};
use crate::{Outcome, Sym, Value};

/// The latest invocation and the earliest completion of all reads of a value, or of all its writes.
#[derive(Clone, Copy)]
struct Use {
    window: Window,
    count: u32,
}

impl Use {
    const NONE: Self = Self { window: Window { call: BEFORE_ALL, ret: NEVER }, count: 0 };
}

/// A decision, and of how many operations; `None` where something else happened than reads and unique writes.
pub(super) fn decide(columns: &Columns<'_>, read: &str, write: &str) -> Option<(Decided, usize)> {
    let (read, write) = (Sym::new(read), Sym::new(write));
    // A stored empty text reads like nil in some models, but is another state.
    let empty = crate::history::pack_small(&Value::str(""));
    let mut numbers = Numbers::new(columns.sources.len());
    // Per value: its writes, its reads.
    let mut uses = vec![[Use::NONE; 2]; columns.sources.len() / 2 + 8];
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
            uses.resize(2 * number, [Use::NONE; 2]);
        }
        let Use { window, count } = &mut uses[number][usize::from(is_read)];
        // Places are one more than indexes of events, as in zones.
        window.call = window.call.max(row.call + 1);
        window.ret = window.ret.min(match row.completion {
            Some(ret) if row.outcome == Outcome::Ok => ret + 1,
            _ => NEVER,
        });
        *count += 1;
        ops += 1;
        (is_read | (*count <= 1)).then_some(())
    })?;
    uses.truncate(numbers.next as usize);
    if uses[INITIAL as usize][0].count > 0 {
        return None;
    }
    let fits = zones(&uses).is_some_and(|zones| zones_fit(&zones));
    let decision = if fits { Decision::Linearizable } else { Decision::NotLinearizable };
    Some((Decided { decision, engine: "zones", configurations: 0, reach: 0, is_first: false }, ops))
}

/// The zones of all values, or `None` when one is impossible in itself.
fn zones(uses: &[[Use; 2]]) -> Option<Vec<Window>> {
    let mut zones = Vec::with_capacity(uses.len());
    for (value, [writes, reads]) in uses.iter().enumerate() {
        let (mut write, readers) = (writes.window, reads.count);
        let reads = reads.window;
        if value == INITIAL as usize {
            write = Window { call: BEFORE_ALL, ret: BEFORE_ALL };
        } else if writes.count == 0 || write.ret == NEVER && readers == 0 {
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

//! Registers that are only read and written, no value twice: from the columns of a history to a decision in one pass.
//!
//! Says what [`super::zones`] says, several times as fast: operations are added up by value as they are met, and nothing
//! is kept of them. Invocations and completions, reads and writes come in no order that a processor could foresee, so there
//! is no branch between them.

use super::columns::{Columns, Numbers};
use super::problem::{Decided, Decision, NEVER};
use super::values::INITIAL;
use super::zones::{BEFORE_ALL, Window, zones_fit};
use crate::history::pack_small;
use crate::{Outcome, Sym, Value};

/// The latest invocation and the earliest completion of the writes of a value, and of its reads. Where nothing was invoked,
/// `call` is [`BEFORE_ALL`].
type Use = [Window; 2];

const UNUSED: Use = [Window { call: BEFORE_ALL, ret: NEVER }; 2];

/// A decision, and of how many operations; `None` where something else happened than reads and unique writes.
pub(super) fn decide(columns: &Columns<'_>, read: &str, write: &str) -> Option<(Decided, usize)> {
    let (read, write) = (Sym::new(read), Sym::new(write));
    // A stored empty text reads like nil in some models, but is another state.
    let empty = pack_small(&Value::str(""));
    let mut numbers = Numbers::new(columns.sources.len());
    let mut uses = vec![UNUSED; columns.sources.len() / 2 + 8];
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
            uses.resize(2 * number, UNUSED);
        }
        let window = &mut uses[number][usize::from(is_read)];
        let is_first = window.call == BEFORE_ALL;
        // Places are one more than indexes of events, as in zones.
        window.call = window.call.max(row.call + 1);
        window.ret = window.ret.min(match row.completion {
            Some(ret) if row.outcome == Outcome::Ok => ret + 1,
            _ => NEVER,
        });
        ops += 1;
        (is_read | is_first).then_some(())
    })?;
    uses.truncate(numbers.next as usize);
    if uses[INITIAL as usize][0].call != BEFORE_ALL {
        return None;
    }
    Some((decided(zones(&uses).is_some_and(|zones| zones_fit(&zones))), ops))
}

pub(super) fn decided(fits: bool) -> Decided {
    let decision = if fits { Decision::Linearizable } else { Decision::NotLinearizable };
    Decided { decision, engine: "zones", configurations: 0, reach: 0, is_first: false }
}

/// The zones of all values, or `None` when one is impossible in itself.
fn zones(uses: &[Use]) -> Option<Vec<Window>> {
    let mut zones = Vec::with_capacity(uses.len());
    for (value, &[mut write, reads]) in uses.iter().enumerate() {
        let is_read = reads.call != BEFORE_ALL;
        if value == INITIAL as usize {
            write = Window { call: BEFORE_ALL, ret: BEFORE_ALL };
        } else if write.call == BEFORE_ALL || write.ret == NEVER && !is_read {
            // Never met, read and never written, or written by nobody knows whether, and nobody cares.
            if is_read {
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

//! Registers that are only read and written, no value twice: from the columns of a history to a decision in one pass.
//!
//! Says what [`super::zones`] says, several times as fast: operations are added up by value as they are met, and nothing
//! is kept of them. Invocations and completions, reads and writes come in no order that a processor could foresee, so there
//! is no branch between them.

use super::columns::{Columns, Numbers};
use super::problem::{Decided, Decision, NEVER};
use super::values::INITIAL;
use super::zones::{BEFORE_ALL, Window, zones_fit};
use crate::history::{EventColumns, WORD_NIL, pack_small, small_int};
use crate::{EventKind, Outcome, Sym, Value};
use std::hint::select_unpredictable;

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

/// A whole history that is decided.
pub(crate) struct Whole {
    pub(crate) decided: Decided,
    /// Operations that entered.
    pub(crate) entered: u64,
    /// Operations that were invoked.
    pub(crate) invoked: u64,
    /// Operations that certainly took effect.
    pub(crate) ok: u64,
}

/// Where in the list of zones something lands that is of no use.
const NOWHERE: usize = INITIAL as usize + 1;

/// Decides all events of one key without pairing them first; `None` where something else happened than reads and unique writes of
/// small numbers, where a write failed, or something is wrong.
///
/// In the order of events, a value that is read before its write was invoked is noticed at once, so that one window for a
/// value is enough: the latest invocation and the earliest completion of all its operations.
pub(super) fn decide_events(events: &EventColumns<'_>, read: &str, write: &str) -> Option<Whole> {
    /// What a process is left at that has nothing open, and at that never invokes again.
    const NONE: u32 = u32::MAX;
    const CLOSED: u32 = NONE - 1;
    const UNMET: Window = Window { call: BEFORE_ALL, ret: NEVER };
    let (read, write) = (Sym::new(read).id(), Sym::new(write).id());
    let zero = pack_small(&Value::Int(0))?;
    let len = events.kind.len();
    let mut latest = vec![NONE; events.processes()?];
    // Whoever writes larger numbers than there are events is left to a table.
    let numbers_max = len as u64 + 64;
    let mut zones = vec![UNMET; len / 2 + 8];
    zones[INITIAL as usize].ret = BEFORE_ALL;
    let (mut entered, mut invoked, mut ok, mut last, mut is_impossible) = (0, 0, 0, NOWHERE, false);
    for at in 0..len {
        let kind = events.kind[at];
        if matches!(kind, EventKind::Nemesis | EventKind::Phase) {
            continue;
        }
        let (f, key, slot) = (events.f[at], events.key[at], &mut latest[events.process[at] as usize]);
        let invokes = kind == EventKind::Invoke;
        let call = select_unpredictable(invokes, at as u32, *slot);
        let is_free = *slot == NONE;
        *slot = select_unpredictable(invokes, at as u32, NONE);
        let is_read = f == read;
        // Some recorders name the key only when they invoke.
        let is_other = (key != events.one_key) & (invokes | (key != WORD_NIL));
        let is_wrong = (invokes != is_free) | (call >= CLOSED) | (!is_read & (f != write)) | is_other;
        if is_wrong || events.f[call as usize] != f {
            return None;
        }
        if matches!(kind, EventKind::Fail | EventKind::Info) {
            if kind == EventKind::Info {
                *slot = CLOSED;
            } else if !is_read {
                return None;
            }
            continue;
        }
        invoked += u64::from(invokes);
        ok += u64::from(!invokes);
        entered += u64::from(invokes != is_read);
        // Of a read its answer counts, of a write its argument.
        let is_nothing = invokes & is_read;
        let word = events.value[select_unpredictable(is_read, at as u32, call) as usize];
        let number = match small_int(select_unpredictable(is_nothing, zero, word)) {
            Some(n) if n < numbers_max => n as usize + NOWHERE + 1,
            None if word == WORD_NIL && is_read => INITIAL as usize,
            _ => return None,
        };
        let number = select_unpredictable(is_nothing, NOWHERE, number);
        if number >= zones.len() {
            zones.resize(2 * number, UNMET);
        }
        last = last.max(number);
        let zone = &mut zones[number];
        let is_new = (zone.call == BEFORE_ALL) & (number > NOWHERE);
        if is_new != (invokes & !is_read) {
            if invokes {
                // Written a second time.
                return None;
            }
            // Read before it was written.
            is_impossible = true;
            continue;
        }
        // Places are one more than indexes of events, as in zones.
        zone.call = zone.call.max(call + 1);
        zone.ret = zone.ret.min(select_unpredictable(invokes, NEVER, at as u32 + 1));
    }
    zones[NOWHERE] = UNMET;
    zones.truncate(last + 1);
    // Never met, or written by nobody knows whether, and nobody cares.
    zones.retain(|zone| zone.ret != NEVER);
    Some(Whole { decided: decided(!is_impossible && zones_fit(&zones)), entered, invoked, ok })
}

fn decided(fits: bool) -> Decided {
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

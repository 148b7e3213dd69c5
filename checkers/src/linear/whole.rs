//! Whole histories of one register that is only read and written, no value twice: from events to a decision in O(n).
//!
//! Says what [`super::zones`] says, several times as fast, without sorting: completions come in order, and with them the
//! values by their first completion. Invocations and completions, reads and writes come in no order that a processor could
//! foresee, so there is no jump between them.

use super::problem::Decided;
use super::unique::decided;
use super::values::INITIAL;
use crate::Sym;
use crate::history::{EventColumns, Finished, NotOk, small_number};
use std::hint::select_unpredictable;

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

/// What happened to a value: the invocation of its only write, the latest invocation of its write and its reads, and the
/// earliest completion of these. Places are two more than indexes of events: there is one before all, and none.
///
/// Zeros, of which memory is full when it is fresh: what is never used costs nothing.
type Use = [u32; 3];

const NO_PLACE: u32 = 0;
const BEFORE_ALL: u32 = 1;

fn place(index: u32) -> u32 {
    // There are fewer events than that: see `History::push`.
    index + 2
}

/// Decides all events; `None` where there are several keys, something else happened than reads and unique writes of small
/// numbers, or something is wrong.
pub(super) fn decide(events: &EventColumns<'_>, read: &str, write: &str) -> Option<Whole> {
    if !events.are_of_one_key() {
        return None;
    }
    let (read, write) = (Sym::new(read).id(), Sym::new(write).id());
    let mut uses = Uses::new(events.f.len());
    let mut ok = 0;
    let NotOk { failed, unfinished } = events.pair(|finished| {
        for &Finished { call, completion } in finished {
            let f = events.f[completion as usize];
            let is_read = f == read;
            if (events.f[call as usize] != f) | (!is_read & (f != write)) {
                return None;
            }
            // Of a read its answer counts, of a write its argument.
            let word = events.value[select_unpredictable(is_read, completion, call) as usize];
            uses.add_finished(small_number(word), is_read, place(call), place(completion))?;
        }
        ok += finished.len();
        Some(())
    })?;
    let is_other = |&call: &u32| events.f[call as usize] != read && events.f[call as usize] != write;
    if failed.iter().chain(&unfinished).any(is_other) {
        return None;
    }
    let writes = unfinished.iter().filter(|&&call| events.f[call as usize] == write);
    let entered = ok + writes.clone().count();
    for &call in writes {
        uses.add_unfinished_write(small_number(events.value[call as usize]), place(call))?;
    }
    let invoked = ok + failed.len() + unfinished.len();
    Some(Whole { decided: decided(uses.fit()), entered: entered as u64, invoked: invoked as u64, ok: ok as u64 })
}

/// What happened to all values.
struct Uses {
    /// By the numbers of values.
    of: Vec<Use>,
    /// The numbers of values in the order of their first completions, and how many of them count.
    order: Vec<u32>,
    known: usize,
}

impl Uses {
    /// With room for values about as high as there are events. Whoever writes higher ones is left to a table.
    fn new(events: usize) -> Self {
        let mut of = vec![[NO_PLACE; 3]; events + 64];
        // The initial value was written before all.
        of[INITIAL as usize] = [BEFORE_ALL; 3];
        let mut order = vec![0; events / 2 + 2];
        order[0] = INITIAL;
        Self { of, order, known: 1 }
    }

    /// `None` where the number of the value is too high, or it was written before. Operations come in the order of their
    /// completions.
    #[inline]
    fn add_finished(&mut self, number: u64, is_read: bool, call: u32, ret: u32) -> Option<()> {
        let [written, latest, first] = self.of.get_mut(number as usize)?;
        if !is_read & (*written != NO_PLACE) {
            return None;
        }
        *written = select_unpredictable(is_read, *written, call);
        *latest = call.max(*latest);
        let is_first = *first == NO_PLACE;
        *first = select_unpredictable(is_first, ret, *first);
        self.order[self.known] = number as u32;
        self.known += usize::from(is_first);
        Some(())
    }

    /// The same of a write of which nobody knows. When nobody read it either, it does not matter.
    fn add_unfinished_write(&mut self, number: u64, call: u32) -> Option<()> {
        let [written, latest, _] = self.of.get_mut(number as usize)?;
        if *written != NO_PLACE {
            return None;
        }
        *written = call;
        *latest = call.max(*latest);
        Some(())
    }

    /// Whether every value that was read had been written when the first read of it completed, no two forward zones overlap
    /// and no backward zone lies inside a forward zone.
    fn fit(&self) -> bool {
        // Where the latest forward zone begins and ends. The next one must come after it, unless it is a backward zone that
        // begins before it (which no forward zone does: it ends after its beginning, and that comes later still).
        let (mut from, mut to, mut fits) = (NO_PLACE, NO_PLACE, true);
        for &number in &self.order[..self.known] {
            let [written, call, ret]: Use = self.of[number as usize];
            let is_forward = ret < call;
            fits &= (written != NO_PLACE) & (written <= ret);
            fits &= (to < ret) | (call < from);
            from = select_unpredictable(is_forward, ret, from);
            to = select_unpredictable(is_forward, call, to);
        }
        fits
    }
}

#[cfg(test)]
mod tests {
    use super::super::*;
    use super::*;
    use crate::{Event, EventKind};
    use proptest::prelude::*;

    /// A history of one register as recorders write it down, or nearly: what `oddities` allows is not as it should be.
    fn recorded(script: &[(u8, u8, u8)], processes: u8, has_key: bool, oddities: u8) -> History {
        let key = |is_named: bool| if has_key && is_named { Value::Int(7) } else { Value::Nil };
        let (mut history, mut state, mut written) = (History::new(), Value::Nil, 0);
        let mut open: Vec<Option<(&str, Value)>> = vec![None; usize::from(processes)];
        let mut first = 0;
        for &(process, what, skew) in script {
            let is_odd = |oddity: u8| oddities >> oddity & 1 == 1 && skew.is_multiple_of(16);
            let process = process % processes;
            let mut event = Event {
                index: history.len() as u64,
                time_ns: history.len() as u64,
                kind: EventKind::Invoke,
                process: first + u32::from(process),
                f: "read".into(),
                key: key(true),
                value: Value::Nil,
                node: None,
                intended_ns: None,
                error: None,
            };
            if what == 255 {
                (event.kind, event.key) = (EventKind::Nemesis, Value::Nil);
                history.push(event).unwrap();
                continue;
            }
            let at = &mut open[usize::from(process)];
            if at.is_some() == is_odd(0) {
                if what % 2 == 0 {
                    written += 1;
                    let value = match skew {
                        _ if is_odd(1) => Value::Int(1),
                        _ if is_odd(2) => [Value::Nil, Value::Int(-1), Value::str(""), Value::Int(1 << 59)]
                            [usize::from(skew / 64)]
                        .clone(),
                        _ => Value::Int(written),
                    };
                    (event.f, event.value) = ("write".into(), value);
                }
                *at = Some((event.f.as_str(), event.value.clone()));
            } else {
                let (f, argument) = at.take().unwrap_or(("read", Value::Nil));
                event.f = if is_odd(3) { ["write", "cas"][usize::from(skew / 128)].into() } else { f.into() };
                event.key = key(what % 4 < 2);
                event.kind = match what / 16 {
                    0 => EventKind::Fail,
                    1 => EventKind::Info,
                    _ => EventKind::Ok,
                };
                if f == "write" && (event.kind == EventKind::Ok || skew % 2 == 0) {
                    state = argument;
                }
                event.value = match skew {
                    0..16 => Value::Int(i64::from(skew) % (written + 2)),
                    16..20 => Value::Nil,
                    _ => state.clone(),
                };
                if event.kind == EventKind::Info && !is_odd(4) {
                    // Who does not know how it ended goes on under another number.
                    first += u32::from(processes);
                    open = vec![None; usize::from(processes)];
                }
            }
            history.push(event).unwrap();
        }
        history
    }

    fn is_whole(history: &History) -> bool {
        history.event_columns().is_some_and(|(events, _)| decide(&events, "read", "write").is_some())
    }

    proptest! {
        #![proptest_config(super::super::model_tests::cases())]

        #[test]
        fn whole_histories_are_decided_as_the_reference_does(
            script in prop::collection::vec(any::<(u8, u8, u8)>(), 1..30),
            processes in 1u8..5,
            has_key: bool,
            oddities in prop_oneof![2 => Just(0), 1 => 0u8..32],
        ) {
            let history = recorded(&script, processes, has_key, oddities);
            let check = |engine| {
                let options = CheckOptions { deadline: None, threads: 1, engine, explain: false, ..CheckOptions::default() };
                let CheckResult { verdict, reason, keys, stats, .. } = check(&history, ModelKind::Register, &options);
                let keys: Vec<_> = keys.into_iter().map(|key| (key.key, key.verdict, key.reason, key.ops)).collect();
                (verdict, reason, keys, stats.ops, stats.ops_ok)
            };
            prop_assert_eq!(check(EngineChoice::Auto), check(EngineChoice::Wgl));
            // Otherwise nothing would be compared with anything.
            if oddities == 0 && history.ops().is_ok_and(|ops| !ops.is_empty()) {
                prop_assert!(is_whole(&history));
            }
        }
    }
}

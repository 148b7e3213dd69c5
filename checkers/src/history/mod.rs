//! A history in memory: columns of numbers, not a tree per event.
//!
//! An event costs 37 bytes plus what is rare (intended starts, errors, lists and maps). Small values live inside their
//! column ([`word`]).
//!
//! What it does not do: decide anything. [`History::ops`] pairs invocations with completions; models and checkers take
//! it from there.

mod events;
mod ops;
mod word;

pub(crate) use events::{EventColumns, Finished, NotOk};
pub use ops::{Op, Ops, Outcome};
pub(crate) use ops::{OpsByKey, Row};
pub(crate) use word::{WORD_NIL, pack_small, small_int, small_number};

use crate::linear::FastMap;
use crate::{Event, EventKind, HistoryError, Sym, Value};
use std::hint::select_unpredictable;
use word::ValueTable;

/// Events are addressed by 32 bits in views.
const EVENTS_MAX: u64 = u32::MAX as u64 - 1;

/// No node, no error.
const SYM_NONE: u32 = u32::MAX;

/// A recorded run: all events, in the order of their indexes.
#[derive(Clone, Debug, Default)]
pub struct History {
    time_ns: Vec<u64>,
    kind: Vec<EventKind>,
    process: Vec<u32>,
    f: Vec<u32>,
    key: Vec<u64>,
    value: Vec<u64>,
    node: Vec<u32>,
    /// Sorted by position: few invocations start late.
    intended_ns: Vec<(u32, u64)>,
    /// Sorted by position: few completions have one.
    error: Vec<(u32, u32)>,
    table: ValueTable,
}

impl History {
    /// An empty history.
    pub fn new() -> Self {
        Self::default()
    }

    /// Appends an event.
    ///
    /// # Errors
    /// When its index is not the next one, or there are too many events.
    pub fn push(&mut self, event: Event) -> Result<(), HistoryError> {
        let expected = self.len() as u64;
        if event.index != expected {
            return Err(HistoryError::IndexGap { expected, found: event.index });
        }
        if expected >= EVENTS_MAX {
            return Err(HistoryError::TooLong { max: EVENTS_MAX });
        }
        self.push_columns(event);
        Ok(())
    }

    fn push_columns(&mut self, event: Event) {
        let at = self.len() as u32;
        self.time_ns.push(event.time_ns);
        self.kind.push(event.kind);
        self.process.push(event.process);
        self.f.push(event.f.id());
        self.key.push(self.table.pack(event.key));
        self.value.push(self.table.pack(event.value));
        self.node.push(event.node.map_or(SYM_NONE, Sym::id));
        if let Some(intended_ns) = event.intended_ns {
            self.intended_ns.push((at, intended_ns));
        }
        if let Some(error) = event.error {
            self.error.push((at, error.id()));
        }
    }

    /// Appends all events of another history; their indexes follow on.
    ///
    /// # Errors
    /// When there are too many events.
    pub(crate) fn append(&mut self, other: &Self) -> Result<(), HistoryError> {
        let len = self.len();
        if (len + other.len()) as u64 > EVENTS_MAX {
            return Err(HistoryError::TooLong { max: EVENTS_MAX });
        }
        self.time_ns.extend_from_slice(&other.time_ns);
        self.kind.extend_from_slice(&other.kind);
        self.process.extend_from_slice(&other.process);
        self.f.extend_from_slice(&other.f);
        self.node.extend_from_slice(&other.node);
        for (words, others) in [(&mut self.key, &other.key), (&mut self.value, &other.value)] {
            if other.table.is_empty() {
                words.extend_from_slice(others);
                continue;
            }
            words.extend(others.iter().map(|&word| match other.table.get(word) {
                Some(value) => self.table.pack(value.clone()),
                None => word,
            }));
        }
        self.intended_ns.extend(other.intended_ns.iter().map(|&(at, value)| (len as u32 + at, value)));
        self.error.extend(other.error.iter().map(|&(at, value)| (len as u32 + at, value)));
        Ok(())
    }

    /// A history of these events.
    ///
    /// # Errors
    /// As [`History::push`].
    pub fn from_events(events: impl IntoIterator<Item = Event>) -> Result<Self, HistoryError> {
        let mut history = Self::new();
        for event in events {
            history.push(event)?;
        }
        Ok(history)
    }

    /// How many events there are.
    pub fn len(&self) -> usize {
        self.kind.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.kind.is_empty()
    }

    /// The event with this index.
    pub fn get(&self, index: usize) -> Option<Event> {
        (index < self.len()).then(|| Event {
            index: index as u64,
            time_ns: self.time_ns[index],
            kind: self.kind[index],
            process: self.process[index],
            f: Sym::from_id(self.f[index]),
            key: self.table.unpack(self.key[index]),
            value: self.table.unpack(self.value[index]),
            node: self.node(index),
            intended_ns: sparse(&self.intended_ns, index),
            error: sparse(&self.error, index).map(Sym::from_id),
        })
    }

    /// All events in order.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Event> + ExactSizeIterator + '_ {
        (0..self.len()).map(|index| self.get(index).expect("index below the length"))
    }

    fn node(&self, index: usize) -> Option<Sym> {
        (self.node[index] != SYM_NONE).then(|| Sym::from_id(self.node[index]))
    }

    /// Forgets everything before and holds the operation of these events, as the first and the second. Their indexes do
    /// not matter.
    pub(crate) fn pair(&mut self, call: &Event, completion: Option<&Event>) -> Op<'_> {
        self.clear();
        self.push_columns(call.clone());
        if let Some(completion) = completion {
            self.push_columns(completion.clone());
        }
        Op { history: self, call: 0, completion: if completion.is_some() { 1 } else { u32::MAX } }
    }

    fn clear(&mut self) {
        self.time_ns.clear();
        self.kind.clear();
        self.process.clear();
        self.f.clear();
        self.key.clear();
        self.value.clear();
        self.node.clear();
        self.intended_ns.clear();
        self.error.clear();
        self.table.clear();
    }

    /// Client operations, in the order of their invocations: each invocation with its completion, if it has one.
    /// Nemesis and phase events are not among them.
    ///
    /// # Errors
    /// When a completion has no invocation or contradicts it, or a process invokes while it may not.
    pub fn ops(&self) -> Result<Ops<'_>, HistoryError> {
        let pairs = self.plain_pairs().map_or_else(|| self.pairs(), Ok)?;
        Ok(Ops { history: self, pairs })
    }

    /// The places of invocations and completions; `None` where something is unusual, or wrong.
    ///
    /// Invocations and completions come in no order that a processor could foresee: what is done for both is chosen by
    /// values, not by jumps, which is several times as fast.
    fn plain_pairs(&self) -> Option<Vec<(u32, u32)>> {
        /// What a process is left at that never invokes again: no place of an operation.
        const CLOSED: u32 = Latest::NONE - 1;
        let len = self.len();
        let (kinds, fs, keys) = (self.kind.get(..len)?, self.f.get(..len)?, self.key.get(..len)?);
        let processes = self.process.get(..len)?;
        let last = processes.iter().copied().max().unwrap_or(0);
        if len as u64 >= u64::from(CLOSED) / 2 || last >= Latest::LOW_MAX {
            return None;
        }
        let mut latest = vec![Latest::NONE; last as usize + 1];
        let mut pairs = vec![(0, 0); len / 2 + 1];
        let mut count = 0;
        for at in 0..len {
            let kind = kinds[at];
            if matches!(kind, EventKind::Nemesis | EventKind::Phase) {
                continue;
            }
            if count as usize == pairs.len() {
                pairs.resize(len, (0, 0));
            }
            let invokes = kind == EventKind::Invoke;
            let slot = &mut latest[processes[at] as usize];
            let before = *slot;
            let pair = pairs.get_mut(select_unpredictable(invokes, count, before) as usize)?;
            let call = select_unpredictable(invokes, at as u32, pair.0);
            let key = keys[at];
            // Some recorders name the key only when they invoke.
            let is_other = (fs[call as usize] != fs[at]) | ((keys[call as usize] != key) & (key != WORD_NIL));
            if is_other | (invokes != (before == Latest::NONE)) {
                return None;
            }
            *pair = (call, select_unpredictable(invokes, u32::MAX, at as u32));
            let after = if kind == EventKind::Info { CLOSED } else { Latest::NONE };
            *slot = select_unpredictable(invokes, count, after);
            count += u32::from(invokes);
        }
        pairs.truncate(count as usize);
        Some(pairs)
    }

    /// As [`History::plain_pairs`], of any history, and what is wrong with it.
    fn pairs(&self) -> Result<Vec<(u32, u32)>, HistoryError> {
        let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(self.len() / 2 + 1);
        // The latest operation of a process, unless the process may invoke another one.
        let mut latest = Latest::new(&self.process);
        let columns = self.kind.iter().zip(&self.process).zip(self.f.iter().zip(&self.key));
        for (at, ((&kind, &process), (&f, &key))) in columns.enumerate() {
            match kind {
                EventKind::Nemesis | EventKind::Phase => {}
                EventKind::Invoke => {
                    let slot = latest.of(process);
                    if *slot != Latest::NONE {
                        return Err(self.double_invoke(at, pairs[*slot as usize]));
                    }
                    *slot = pairs.len() as u32;
                    pairs.push((at as u32, u32::MAX));
                }
                EventKind::Ok | EventKind::Fail | EventKind::Info => {
                    let slot = latest.of(process);
                    let pair = pairs.get_mut(*slot as usize).filter(|pair| pair.1 == u32::MAX);
                    let Some(pair) = pair else {
                        return Err(HistoryError::CompletionWithoutInvocation {
                            index: at as u64,
                            process,
                            f: Sym::from_id(self.f[at]).to_string(),
                            kind,
                        });
                    };
                    let call = pair.0 as usize;
                    // Some recorders name the key only when they invoke.
                    if self.f[call] != f || self.key[call] != key && key != WORD_NIL {
                        return Err(self.mismatch(call, at));
                    }
                    pair.1 = at as u32;
                    if kind != EventKind::Info {
                        *slot = Latest::NONE;
                    }
                }
            }
        }
        Ok(pairs)
    }

    /// What is wrong when a process invokes that may not, because of this operation.
    #[cold]
    fn double_invoke(&self, at: usize, (call, completion): (u32, u32)) -> HistoryError {
        HistoryError::DoubleInvoke {
            index: at as u64,
            process: self.process[at],
            f: Sym::from_id(self.f[at]).to_string(),
            open_index: u64::from(call),
            state: if completion == u32::MAX { "still open" } else { "of unknown outcome" },
        }
    }

    /// What is wrong with a completion of another operation than its process invoked.
    #[cold]
    fn mismatch(&self, call: usize, completion: usize) -> HistoryError {
        let name = |at: usize| {
            let f = Sym::from_id(self.f[at]);
            match self.table.unpack(self.key[at]) {
                Value::Nil => format!("{f}"),
                key => format!("{f} of key {key}"),
            }
        };
        HistoryError::CompletionMismatch {
            index: completion as u64,
            process: self.process[call],
            open_index: call as u64,
            expected: name(call),
            found: name(completion),
        }
    }
}

/// The latest operation of each process, by its place.
struct Latest {
    low: Vec<u32>,
    high: FastMap<u32, u32>,
}

impl Latest {
    const NONE: u32 = u32::MAX;

    /// Processes are numbered from 0 on as a rule: those below are looked up without a hash.
    const LOW_MAX: u32 = 1 << 20;

    fn new(processes: &[u32]) -> Self {
        let low = processes.iter().map(|&process| if process < Self::LOW_MAX { process } else { 0 }).max();
        Self { low: vec![Self::NONE; low.map_or(0, |low| low as usize + 1)], high: FastMap::default() }
    }

    #[inline]
    fn of(&mut self, process: u32) -> &mut u32 {
        match self.low.get_mut(process as usize) {
            Some(latest) => latest,
            None => self.high.entry(process).or_insert(Self::NONE),
        }
    }
}

fn sparse<T: Copy>(column: &[(u32, T)], index: usize) -> Option<T> {
    column.binary_search_by_key(&index, |&(at, _)| at as usize).ok().map(|found| column[found].1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn event(index: u64, kind: EventKind, process: u32, f: &str) -> Event {
        Event {
            index,
            time_ns: index * 10,
            kind,
            process,
            f: f.into(),
            key: Value::Nil,
            value: Value::Nil,
            node: None,
            intended_ns: None,
            error: None,
        }
    }

    #[test]
    fn events_come_back_as_they_went_in() {
        let values = [
            Value::Nil,
            Value::Bool(true),
            Value::Bool(false),
            Value::Int(0),
            Value::Int(-1),
            Value::Int(i64::MAX),
            Value::Int(i64::MIN),
            Value::Int(1 << 60),
            Value::Int((1 << 60) - 1),
            Value::Int(-(1 << 60)),
            Value::Int(-(1 << 60) - 1),
            Value::str("x"),
            Value::list([Value::Int(1), Value::list([Value::Nil])]),
            Value::Map([(Value::Int(1), Value::str("a"))].into()),
        ];
        let events: Vec<Event> = (0..values.len())
            .map(|i| Event {
                key: values[i].clone(),
                value: values[values.len() - 1 - i].clone(),
                node: (i % 2 == 0).then(|| "n1".into()),
                intended_ns: (i % 3 == 0).then_some(i as u64),
                error: (i % 4 == 1).then(|| "timeout".into()),
                ..event(i as u64, EventKind::Invoke, i as u32, "read")
            })
            .collect();
        let history = History::from_events(events.clone()).unwrap();
        assert_eq!(history.iter().collect::<Vec<_>>(), events);
        assert_eq!(history.get(events.len()), None);
    }

    #[test]
    fn a_gap_is_refused() {
        let mut history = History::new();
        let error = history.push(event(1, EventKind::Invoke, 0, "read")).unwrap_err();
        assert!(matches!(error, HistoryError::IndexGap { expected: 0, found: 1 }), "{error}");
    }

    #[test]
    fn operations_are_paired_by_process() {
        use EventKind::*;
        let history = History::from_events([
            event(0, Invoke, 0, "read"),
            event(1, Invoke, 1, "write"),
            event(2, Nemesis, 0, "kill"),
            event(3, Ok, 1, "write"),
            event(4, Fail, 0, "read"),
            event(5, Invoke, 1, "cas"),
            event(6, Info, 1, "cas"),
            event(7, Invoke, 2, "read"),
        ])
        .unwrap();
        let ops = history.ops().unwrap();
        let got: Vec<_> = ops.iter().map(|op| (op.call_index(), op.completion_index(), op.outcome())).collect();
        use Outcome as O;
        assert_eq!(
            got,
            [(0, Some(4), O::Fail), (1, Some(3), O::Ok), (5, Some(6), O::Unfinished), (7, None, O::Unfinished)]
        );
    }

    #[test]
    fn bad_pairs_are_named() {
        use EventKind::*;
        let table = [
            (vec![event(0, Ok, 3, "read")], "index 0: process 3 completes read (ok) but has no open operation"),
            (
                vec![event(0, Invoke, 3, "read"), event(1, Invoke, 3, "write")],
                "index 1: process 3 invokes write while its operation of index 0 is still open; \
                 a process has one operation at a time and never invokes again after info",
            ),
            (
                vec![event(0, Invoke, 3, "read"), event(1, Info, 3, "read"), event(2, Invoke, 3, "read")],
                "index 2: process 3 invokes read while its operation of index 0 is of unknown outcome; \
                 a process has one operation at a time and never invokes again after info",
            ),
            (
                vec![event(0, Invoke, 3, "read"), event(1, Ok, 3, "read"), event(2, Fail, 3, "read")],
                "index 2: process 3 completes read (fail) but has no open operation",
            ),
            (
                vec![event(0, Invoke, 3, "read"), event(1, Ok, 3, "write")],
                "index 1: completes write, but the operation that process 3 invoked at index 0 is read",
            ),
        ];
        for (events, expected) in table {
            let error = History::from_events(events).unwrap().ops().unwrap_err();
            assert_eq!(error.to_string(), expected);
        }
    }
}

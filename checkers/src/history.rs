//! A history in memory: columns of numbers, not a tree per event.
//!
//! An event costs 37 bytes plus what is rare (intended starts, errors, lists and maps). Small values live inside their
//! column: the low three bits of a 64-bit word say what it is, the rest is the number or a place in a table.
//!
//! What it does not do: decide anything. [`History::ops`] pairs invocations with completions; models and checkers take
//! it from there.

use crate::linear::FastMap;
use crate::{Event, EventKind, HistoryError, Sym, Value};
use std::collections::HashMap;
use std::collections::hash_map::Entry;

/// Events are addressed by 32 bits in views.
const EVENTS_MAX: u64 = u32::MAX as u64 - 1;

/// No node, no error.
const SYM_NONE: u32 = u32::MAX;

const TAG_BITS: u32 = 3;
const TAG_NIL: u64 = 0;
const TAG_BOOL: u64 = 1;
const TAG_INT: u64 = 2;
const TAG_STR: u64 = 3;
const TAG_TABLE: u64 = 4;

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

/// Values that do not fit into a word, each once.
#[derive(Clone, Debug, Default)]
struct ValueTable {
    values: Vec<Value>,
    by_value: HashMap<Value, u32>,
}

impl ValueTable {
    fn pack(&mut self, value: Value) -> u64 {
        match value {
            Value::Nil => TAG_NIL,
            Value::Bool(b) => u64::from(b) << TAG_BITS | TAG_BOOL,
            // Only numbers that survive the way back are packed.
            Value::Int(n) if n << TAG_BITS >> TAG_BITS == n => (n << TAG_BITS) as u64 | TAG_INT,
            Value::Str(s) => u64::from(s.id()) << TAG_BITS | TAG_STR,
            other => {
                let next = self.values.len() as u32;
                let id = match self.by_value.entry(other) {
                    Entry::Occupied(entry) => *entry.get(),
                    Entry::Vacant(entry) => {
                        self.values.push(entry.key().clone());
                        *entry.insert(next)
                    }
                };
                u64::from(id) << TAG_BITS | TAG_TABLE
            }
        }
    }

    fn unpack(&self, word: u64) -> Value {
        let rest = word >> TAG_BITS;
        match word & ((1 << TAG_BITS) - 1) {
            TAG_NIL => Value::Nil,
            TAG_BOOL => Value::Bool(rest != 0),
            TAG_INT => Value::Int(word as i64 >> TAG_BITS),
            TAG_STR => Value::Str(Sym::from_id(rest as u32)),
            _ => self.values[rest as usize].clone(),
        }
    }
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
        self.time_ns.push(event.time_ns);
        self.kind.push(event.kind);
        self.process.push(event.process);
        self.f.push(event.f.id());
        self.key.push(self.table.pack(event.key));
        self.value.push(self.table.pack(event.value));
        self.node.push(event.node.map_or(SYM_NONE, Sym::id));
        if let Some(intended_ns) = event.intended_ns {
            self.intended_ns.push((expected as u32, intended_ns));
        }
        if let Some(error) = event.error {
            self.error.push((expected as u32, error.id()));
        }
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

    /// Client operations, in the order of their invocations: each invocation with its completion, if it has one.
    /// Nemesis and phase events are not among them.
    ///
    /// # Errors
    /// When a completion has no invocation or contradicts it, or a process invokes while it may not.
    pub fn ops(&self) -> Result<Ops<'_>, HistoryError> {
        let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(self.len() / 2);
        // Process -> its latest pair, and whether that one is over.
        let mut latest: FastMap<u32, (u32, bool)> = FastMap::default();
        for (at, &kind) in self.kind.iter().enumerate() {
            let process = self.process[at];
            match kind {
                EventKind::Nemesis | EventKind::Phase => {}
                EventKind::Invoke => {
                    if let Some(&(pair, over)) = latest.get(&process) {
                        let (call, completion) = pairs[pair as usize];
                        let unknown = over && self.kind[completion as usize] == EventKind::Info;
                        if !over || unknown {
                            return Err(HistoryError::DoubleInvoke {
                                index: at as u64,
                                process,
                                f: Sym::from_id(self.f[at]).to_string(),
                                open_index: u64::from(call),
                                state: if unknown { "of unknown outcome" } else { "still open" },
                            });
                        }
                    }
                    latest.insert(process, (pairs.len() as u32, false));
                    pairs.push((at as u32, u32::MAX));
                }
                EventKind::Ok | EventKind::Fail | EventKind::Info => match latest.get_mut(&process) {
                    Some((pair, over)) if !*over => {
                        let pair = &mut pairs[*pair as usize];
                        self.check_same_op(pair.0 as usize, at)?;
                        pair.1 = at as u32;
                        *over = true;
                    }
                    _ => {
                        return Err(HistoryError::CompletionWithoutInvocation {
                            index: at as u64,
                            process,
                            f: Sym::from_id(self.f[at]).to_string(),
                            kind,
                        });
                    }
                },
            }
        }
        Ok(Ops { history: self, pairs })
    }

    fn check_same_op(&self, call: usize, completion: usize) -> Result<(), HistoryError> {
        // Some recorders name the key only when they invoke.
        let same_key = self.key[call] == self.key[completion] || self.key[completion] == TAG_NIL;
        if self.f[call] == self.f[completion] && same_key {
            return Ok(());
        }
        let name = |at: usize| {
            let f = Sym::from_id(self.f[at]);
            match self.table.unpack(self.key[at]) {
                Value::Nil => format!("{f}"),
                key => format!("{f} of key {key}"),
            }
        };
        Err(HistoryError::CompletionMismatch {
            index: completion as u64,
            process: self.process[call],
            open_index: call as u64,
            expected: name(call),
            found: name(completion),
        })
    }
}

fn sparse<T: Copy>(column: &[(u32, T)], index: usize) -> Option<T> {
    column.binary_search_by_key(&index, |&(at, _)| at as usize).ok().map(|found| column[found].1)
}

/// The client operations of a history; see [`History::ops`].
#[derive(Clone, Debug)]
pub struct Ops<'h> {
    history: &'h History,
    pairs: Vec<(u32, u32)>,
}

impl<'h> Ops<'h> {
    /// How many there are.
    pub fn len(&self) -> usize {
        self.pairs.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.pairs.is_empty()
    }

    /// The `at`-th operation in the order of invocations.
    pub fn get(&self, at: usize) -> Option<Op<'h>> {
        let &(call, completion) = self.pairs.get(at)?;
        Some(Op { history: self.history, call, completion })
    }

    /// All operations in the order of invocations.
    pub fn iter(&self) -> impl DoubleEndedIterator<Item = Op<'h>> + ExactSizeIterator + '_ {
        self.pairs.iter().map(|&(call, completion)| Op { history: self.history, call, completion })
    }
}

/// How an operation ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// It certainly took effect.
    Ok,
    /// It certainly did not take effect and never will.
    Fail,
    /// Unknown, or never completed: it may take effect at any time from its invocation on, or never.
    Unfinished,
}

/// A client operation: an invocation and its completion, if it has one.
#[derive(Clone, Copy, Debug)]
pub struct Op<'h> {
    history: &'h History,
    call: u32,
    completion: u32,
}

impl Op<'_> {
    fn at(&self) -> usize {
        self.call as usize
    }

    fn completed_at(&self) -> Option<usize> {
        (self.completion != u32::MAX).then_some(self.completion as usize)
    }

    /// How it ended.
    pub fn outcome(&self) -> Outcome {
        match self.completed_at().map(|at| self.history.kind[at]) {
            Some(EventKind::Ok) => Outcome::Ok,
            Some(EventKind::Fail) => Outcome::Fail,
            _ => Outcome::Unfinished,
        }
    }

    /// Who did it.
    pub fn process(&self) -> u32 {
        self.history.process[self.at()]
    }

    /// The node that the process talked to.
    pub fn node(&self) -> Option<Sym> {
        self.history.node(self.at())
    }

    /// The operation, e.g. `read`.
    pub fn f(&self) -> Sym {
        Sym::from_id(self.history.f[self.at()])
    }

    /// The independent object it acted on.
    pub fn key(&self) -> Value {
        self.history.table.unpack(self.history.key[self.at()])
    }

    /// The argument.
    pub fn argument(&self) -> Value {
        self.history.table.unpack(self.history.value[self.at()])
    }

    /// The value of the completion, whatever its type; `None` without one.
    pub fn result(&self) -> Option<Value> {
        self.completed_at().map(|at| self.history.table.unpack(self.history.value[at]))
    }

    /// Index of the invocation.
    pub fn call_index(&self) -> usize {
        self.at()
    }

    /// Index of the completion, of whatever type.
    pub fn completion_index(&self) -> Option<usize> {
        self.completed_at()
    }

    /// When it was invoked (nanoseconds since the run's start).
    pub fn call_ns(&self) -> u64 {
        self.history.time_ns[self.at()]
    }

    /// When it was completed, in whatever way (nanoseconds since the run's start). An unfinished operation that
    /// completed `info` has one, too: the moment at which the client gave up.
    pub fn completion_ns(&self) -> Option<u64> {
        self.completed_at().map(|at| self.history.time_ns[at])
    }

    /// When the generator meant it to start, if not at once (nanoseconds since the run's start).
    pub fn intended_ns(&self) -> Option<u64> {
        sparse(&self.history.intended_ns, self.at())
    }

    /// Why it is `fail` or `info`.
    pub fn error(&self) -> Option<Sym> {
        self.completed_at().and_then(|at| sparse(&self.history.error, at)).map(Sym::from_id)
    }
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

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
        pack_small(&value).unwrap_or_else(|| {
            let next = self.values.len() as u32;
            let id = match self.by_value.entry(value) {
                Entry::Occupied(entry) => *entry.get(),
                Entry::Vacant(entry) => {
                    self.values.push(entry.key().clone());
                    *entry.insert(next)
                }
            };
            u64::from(id) << TAG_BITS | TAG_TABLE
        })
    }

    /// The word of a value; `None` when it is in no column.
    fn word_of(&self, value: &Value) -> Option<u64> {
        let in_table = || self.by_value.get(value).map(|&id| u64::from(id) << TAG_BITS | TAG_TABLE);
        pack_small(value).or_else(in_table)
    }

    /// The value of a word that stands for a place in this table.
    fn get(&self, word: u64) -> Option<&Value> {
        let is_here = word & ((1 << TAG_BITS) - 1) == TAG_TABLE;
        is_here.then(|| &self.values[(word >> TAG_BITS) as usize])
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

/// The word of a value that fits into one.
pub(crate) fn pack_small(value: &Value) -> Option<u64> {
    Some(match *value {
        Value::Nil => TAG_NIL,
        Value::Bool(b) => u64::from(b) << TAG_BITS | TAG_BOOL,
        // Only numbers that survive the way back are packed.
        Value::Int(n) if n << TAG_BITS >> TAG_BITS == n => (n << TAG_BITS) as u64 | TAG_INT,
        Value::Str(s) => u64::from(s.id()) << TAG_BITS | TAG_STR,
        _ => return None,
    })
}

/// [`Value::Nil`], packed.
pub(crate) const WORD_NIL: u64 = TAG_NIL;

/// The number in a packed value, if it is one that is not negative.
pub(crate) fn small_int(word: u64) -> Option<u64> {
    (word & ((1 << TAG_BITS) - 1) == TAG_INT && word as i64 >= 0).then_some(word >> TAG_BITS)
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
        self.table.values.clear();
        self.table.by_value.clear();
    }

    /// Client operations, in the order of their invocations: each invocation with its completion, if it has one.
    /// Nemesis and phase events are not among them.
    ///
    /// # Errors
    /// When a completion has no invocation or contradicts it, or a process invokes while it may not.
    pub fn ops(&self) -> Result<Ops<'_>, HistoryError> {
        let mut pairs: Vec<(u32, u32)> = Vec::with_capacity(self.len() / 2 + 1);
        let mut latest = Latest::new(&self.process);
        for (at, (&kind, &process)) in self.kind.iter().zip(&self.process).enumerate() {
            match kind {
                EventKind::Nemesis | EventKind::Phase => {}
                EventKind::Invoke => {
                    let slot = latest.of(process);
                    if *slot != Latest::NONE {
                        let (call, completion) = pairs[*slot as usize];
                        let is_over = completion != u32::MAX;
                        let is_unknown = is_over && self.kind[completion as usize] == EventKind::Info;
                        if !is_over || is_unknown {
                            return Err(HistoryError::DoubleInvoke {
                                index: at as u64,
                                process,
                                f: Sym::from_id(self.f[at]).to_string(),
                                open_index: u64::from(call),
                                state: if is_unknown { "of unknown outcome" } else { "still open" },
                            });
                        }
                    }
                    *slot = pairs.len() as u32;
                    pairs.push((at as u32, u32::MAX));
                }
                EventKind::Ok | EventKind::Fail | EventKind::Info => {
                    let pair = pairs.get_mut(*latest.of(process) as usize).filter(|pair| pair.1 == u32::MAX);
                    let Some(pair) = pair else {
                        return Err(HistoryError::CompletionWithoutInvocation {
                            index: at as u64,
                            process,
                            f: Sym::from_id(self.f[at]).to_string(),
                            kind,
                        });
                    };
                    self.check_same_op(pair.0 as usize, at)?;
                    pair.1 = at as u32;
                }
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

    /// The operation that is invoked at this index.
    pub fn invoked_at(&self, index: usize) -> Option<Op<'h>> {
        let found = self.pairs.binary_search_by_key(&index, |&(call, _)| call as usize);
        found.ok().and_then(|at| self.get(at))
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

impl Ops<'_> {
    /// The operations of each key.
    pub(crate) fn by_key(&self) -> OpsByKey {
        let key_of = |pair: &(u32, u32)| self.history.key[pair.0 as usize];
        // Many histories have one key only.
        if let Some(word) = self.pairs.first().map(key_of)
            && self.pairs.iter().all(|pair| key_of(pair) == word)
        {
            let count = self.pairs.len() as u32;
            let keys = vec![self.history.table.unpack(word)];
            return OpsByKey { keys, start: vec![0, count], ops: (0..count).collect() };
        }
        let mut numbers: FastMap<u64, u32> = FastMap::default();
        let mut words: Vec<u64> = Vec::new();
        let mut counts: Vec<u32> = Vec::new();
        let number_of_each: Vec<u32> = (self.pairs.iter().map(key_of))
            .map(|word| {
                let number = *numbers.entry(word).or_insert_with(|| {
                    words.push(word);
                    counts.push(0);
                    words.len() as u32 - 1
                });
                counts[number as usize] += 1;
                number
            })
            .collect();
        let mut start = Vec::with_capacity(words.len() + 1);
        let mut next = Vec::with_capacity(words.len());
        let mut sum = 0;
        for count in counts {
            start.push(sum);
            next.push(sum);
            sum += count;
        }
        start.push(sum);
        let mut ops = vec![0; self.pairs.len()];
        for (op, number) in number_of_each.into_iter().enumerate() {
            let at = &mut next[number as usize];
            ops[*at as usize] = op as u32;
            *at += 1;
        }
        OpsByKey { keys: words.into_iter().map(|word| self.history.table.unpack(word)).collect(), start, ops }
    }
}

/// The operations of each key, in the order of invocations; keys in the order of their first operation.
pub(crate) struct OpsByKey {
    keys: Vec<Value>,
    /// `ops[start[k]..start[k + 1]]` are the places of the operations on key `k` among all.
    start: Vec<u32>,
    ops: Vec<u32>,
}

impl OpsByKey {
    /// How many keys there are.
    pub(crate) fn len(&self) -> usize {
        self.keys.len()
    }

    /// The key with this number.
    pub(crate) fn key(&self, number: usize) -> &Value {
        &self.keys[number]
    }

    /// Places of its operations among all; there is at least one.
    pub(crate) fn ops(&self, number: usize) -> &[u32] {
        &self.ops[self.start[number] as usize..self.start[number + 1] as usize]
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

    /// The argument, packed: equal words are equal values.
    pub(crate) fn argument_word(&self) -> u64 {
        self.history.value[self.at()]
    }

    /// The value of the completion, packed; [`WORD_NIL`] without one.
    pub(crate) fn result_word(&self) -> u64 {
        self.completed_at().map_or(WORD_NIL, |at| self.history.value[at])
    }

    /// Both items of an argument that is a list of two, packed; `None` for another argument, or where an item is in no
    /// column by itself.
    pub(crate) fn argument_pair(&self) -> Option<(u64, u64)> {
        let table = &self.history.table;
        match table.get(self.argument_word())?.as_list()? {
            [first, second] => Some((table.word_of(first)?, table.word_of(second)?)),
            _ => None,
        }
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

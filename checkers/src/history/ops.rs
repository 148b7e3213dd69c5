//! Operations of a history: an invocation with its completion, as a view of the columns.

use super::{History, WORD_NIL, sparse};
use crate::linear::FastMap;
use crate::{EventKind, Sym, Value};
use std::hint::select_unpredictable;

/// The client operations of a history; see [`History::ops`].
#[derive(Clone, Debug)]
pub struct Ops<'h> {
    pub(super) history: &'h History,
    pub(super) pairs: Vec<(u32, u32)>,
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

/// No key has this number.
const NO_NUMBER: u32 = u32::MAX;

/// Keys below this are small.
const SMALL_KEYS: usize = 1 << 16;

/// An operation without what costs time to build.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Row {
    pub(crate) call: u32,
    pub(crate) completion: Option<u32>,
    pub(crate) f: Sym,
    pub(crate) outcome: Outcome,
    /// The result of what reads, the argument of all others; packed: equal words are equal values.
    pub(crate) value: u64,
}

impl Ops<'_> {
    /// The operation at this place, with its result if it is called `read`.
    #[inline(always)]
    pub(crate) fn row(&self, place: u32, read: Sym) -> Option<Row> {
        let &(call, completion) = self.pairs.get(place as usize)?;
        let completion = (completion != u32::MAX).then_some(completion);
        let (f, outcome) = (Sym::from_id(self.history.f[call as usize]), self.outcome(completion));
        // Reads and writes come in no order that a processor could foresee.
        let at = select_unpredictable(f == read, completion.unwrap_or(call), call);
        Some(Row { call, completion, f, outcome, value: self.history.value[at as usize] })
    }

    #[inline]
    fn outcome(&self, completion: Option<u32>) -> Outcome {
        match completion.map(|at| self.history.kind[at as usize]) {
            Some(EventKind::Ok) => Outcome::Ok,
            Some(EventKind::Fail) => Outcome::Fail,
            _ => Outcome::Unfinished,
        }
    }

    /// As [`Ops::row`], of several; `None` where there is no such place.
    ///
    /// The operations of one of many keys lie far apart in memory. Column by column, the processor waits for many of them
    /// at once; operation by operation, it would wait for each in turn.
    pub(crate) fn rows(&self, places: &[u32], read: Sym, rows: &mut Vec<Row>) -> Option<()> {
        let History { f, value, .. } = self.history;
        rows.clear();
        for &place in places {
            let &(call, completion) = self.pairs.get(place as usize)?;
            let completion = (completion != u32::MAX).then_some(completion);
            rows.push(Row { call, completion, f: read, outcome: Outcome::Unfinished, value: WORD_NIL });
        }
        for row in rows.iter_mut() {
            row.f = Sym::from_id(f[row.call as usize]);
        }
        for row in rows.iter_mut() {
            row.outcome = self.outcome(row.completion);
        }
        for row in rows.iter_mut() {
            let at = select_unpredictable(row.f == read, row.completion.unwrap_or(row.call), row.call);
            row.value = value[at as usize];
        }
        Some(())
    }

    /// Both items of a packed list of two, packed; `None` for another value, or where an item is in no column by itself.
    pub(crate) fn pair_of(&self, word: u64) -> Option<(u64, u64)> {
        let table = &self.history.table;
        match table.get(word)?.as_list()? {
            [first, second] => Some((table.word_of(first)?, table.word_of(second)?)),
            _ => None,
        }
    }

    /// How many certainly took effect.
    pub(crate) fn ok_count(&self) -> u64 {
        self.history.kind.iter().filter(|&&kind| kind == EventKind::Ok).count() as u64
    }

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
        // Of keys that are small numbers, looked up without a hash.
        let mut small = vec![NO_NUMBER; self.pairs.len().min(SMALL_KEYS)];
        let mut words: Vec<u64> = Vec::new();
        let mut counts: Vec<u32> = Vec::new();
        let number_of_each: Vec<u32> = (self.pairs.iter().map(key_of))
            .map(|word| {
                let known = super::small_int(word).and_then(|n| small.get_mut(n as usize));
                let number = known.unwrap_or_else(|| numbers.entry(word).or_insert(NO_NUMBER));
                if *number == NO_NUMBER {
                    *number = words.len() as u32;
                    words.push(word);
                    counts.push(0);
                }
                counts[*number as usize] += 1;
                *number
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
    pub(super) history: &'h History,
    pub(super) call: u32,
    pub(super) completion: u32,
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

//! From events to steps of operations on keys.

use super::key::{Follower, Move, Step};
use super::streamed::Streamed;
use super::{Broken, Finding, Limits, OnlineOptions, Violation};
use crate::linear::problem::FastMap;
use crate::linear::{explain, finish, summary};
use crate::verdict::{CheckResult, CheckStats, Explanation, KeyResult, OpLine, Verdict};
use crate::{Event, EventKind, History, HistoryError, Sym, Value};
use std::collections::VecDeque;
use std::time::Instant;

/// Ended operations of a key that are kept to be shown.
const RECENT_MAX: usize = 8;

/// The memory of a key is measured again after this many of its events.
const MEASURE_EVERY: u32 = 64;

/// What a process takes in the map of all (bytes).
const PROCESS_BYTES: u64 = 48;

/// Stands for an operation of unknown outcome: its process never invokes again.
const UNKNOWN: u32 = u32::MAX;

/// [`super::Online`] for whatever model.
pub(super) trait Feed: Send {
    fn push(&mut self, event: &Event) -> Result<Option<Finding>, HistoryError>;
    fn memory(&self) -> u64;
    fn finish(self: Box<Self>) -> CheckResult;
}

struct Open<O> {
    key: u32,
    call: Event,
    /// What it does should nobody see it end.
    op: Option<O>,
}

struct Key<M: Streamed> {
    name: Value,
    follower: Follower<M>,
    ops: u64,
    recent: VecDeque<(Event, Event)>,
    /// When last measured.
    bytes: u64,
    measured: u32,
    result: Option<KeyResult>,
}

pub(super) struct Front<M: Streamed> {
    name: &'static str,
    model: M,
    options: OnlineOptions,
    start: Instant,
    next_index: u64,
    /// Process -> its open operation, or [`UNKNOWN`] and where that was called.
    processes: FastMap<u32, (u32, u64)>,
    open: Vec<Option<Open<M::Op>>>,
    unused: Vec<u32>,
    by_key: FastMap<Value, u32>,
    keys: Vec<Key<M>>,
    stats: CheckStats,
    /// One operation at a time, for the model to look at.
    scratch: History,
    bytes: u64,
    /// Texts that were there before.
    texts_before: u64,
    /// Why nothing is checked any more.
    error: Option<String>,
}

impl<M: Streamed> Front<M> {
    pub(super) fn new(name: &'static str, model: M, options: OnlineOptions) -> Self {
        Self {
            name,
            model,
            options,
            start: Instant::now(),
            next_index: 0,
            processes: FastMap::default(),
            open: Vec::new(),
            unused: Vec::new(),
            by_key: FastMap::default(),
            keys: Vec::new(),
            stats: CheckStats::default(),
            scratch: History::new(),
            bytes: 0,
            texts_before: Sym::table_bytes(),
            error: None,
        }
    }

    fn take(&mut self, event: &Event) -> Result<Option<Finding>, HistoryError> {
        if event.index != self.next_index {
            return Err(HistoryError::IndexGap { expected: self.next_index, found: event.index });
        }
        self.next_index += 1;
        match event.kind {
            EventKind::Nemesis | EventKind::Phase => Ok(None),
            EventKind::Invoke => self.invoke(event),
            EventKind::Ok | EventKind::Fail | EventKind::Info => self.complete(event),
        }
    }

    fn invoke(&mut self, event: &Event) -> Result<Option<Finding>, HistoryError> {
        if let Some(&(open, open_index)) = self.processes.get(&event.process) {
            return Err(HistoryError::DoubleInvoke {
                index: event.index,
                process: event.process,
                f: event.f.to_string(),
                open_index,
                state: if open == UNKNOWN { "of unknown outcome" } else { "still open" },
            });
        }
        self.stats.ops += 1;
        let key = self.key_of(&event.key);
        // Whether it fits matters once it is known how it ended.
        let op = self.view(event, None).ok().flatten();
        let open = Open { key, call: event.clone(), op: op.clone() };
        let id = match self.unused.pop() {
            Some(id) => {
                self.open[id as usize] = Some(open);
                id
            }
            None => {
                self.open.push(Some(open));
                self.open.len() as u32 - 1
            }
        };
        self.processes.insert(event.process, (id, event.index));
        let position = event.index + 1;
        Ok(self.follow(key, event, Move { id, call: position, position, at_call: None, step: Step::Call(op) }))
    }

    fn complete(&mut self, event: &Event) -> Result<Option<Finding>, HistoryError> {
        let process = event.process;
        let open = self.processes.get(&process).filter(|&&(id, _)| id != UNKNOWN);
        let Some(&(id, _)) = open else {
            let (index, f, kind) = (event.index, event.f.to_string(), event.kind);
            return Err(HistoryError::CompletionWithoutInvocation { index, process, f, kind });
        };
        let Some(Open { key, call, op: at_call }) = self.open[id as usize].take() else { return Ok(None) };
        self.unused.push(id);
        check_same_op(&call, event)?;
        if event.kind == EventKind::Info {
            self.processes.insert(process, (UNKNOWN, call.index));
        } else {
            self.processes.remove(&process);
        }
        let op = self.view(&call, Some(event))?;
        self.stats.ops_ok += u64::from(event.kind == EventKind::Ok);
        let of = &mut self.keys[key as usize];
        of.ops += u64::from(op.is_some());
        if of.recent.len() == RECENT_MAX {
            of.recent.pop_front();
        }
        let call_position = call.index + 1;
        of.recent.push_back((call, event.clone()));
        let step = match event.kind {
            EventKind::Ok => Step::Ok(op),
            EventKind::Fail => Step::Fail(op),
            _ => Step::Leave(op),
        };
        Ok(self.follow(key, event, Move { id, call: call_position, position: event.index + 1, at_call, step }))
    }

    fn key_of(&mut self, name: &Value) -> u32 {
        if let Some(&key) = self.by_key.get(name) {
            return key;
        }
        let follower = Follower::new(&self.model);
        let recent = VecDeque::new();
        self.keys.push(Key { name: name.clone(), follower, ops: 0, recent, bytes: 0, measured: 0, result: None });
        let key = self.keys.len() as u32 - 1;
        self.by_key.insert(name.clone(), key);
        self.bytes += size_of::<Key<M>>() as u64 + 48;
        key
    }

    fn view(&mut self, call: &Event, completion: Option<&Event>) -> Result<Option<M::Op>, HistoryError> {
        let op = self.scratch.pair(call, completion);
        self.model.view(&op, self.options.fail_means).map_err(|error| match error {
            HistoryError::DoesNotFit { message, .. } => HistoryError::DoesNotFit { index: call.index, message },
            other => other,
        })
    }

    /// Lets a key take a step; says what comes of it.
    fn follow(&mut self, key: u32, event: &Event, step: Move<M::Op>) -> Option<Finding> {
        let of = &mut self.keys[key as usize];
        let is_ending = !matches!(step.step, Step::Call(_));
        let memory_max = self.options.memory_max.saturating_sub(self.bytes - of.bytes);
        let limits = Limits { configurations_max: self.options.configurations_max, memory_max };
        let mut result = of.follower.follow(&self.model, step, &limits);
        of.measured += 1;
        if of.measured >= MEASURE_EVERY && result.is_ok() {
            of.measured = 0;
            let bytes = of.follower.bytes() + (of.recent.len() * size_of::<(Event, Event)>()) as u64;
            self.bytes = self.bytes - of.bytes + bytes;
            of.bytes = bytes;
            let texts = Sym::table_bytes() - self.texts_before;
            // A process that does not know what became of its operation is remembered for good.
            let processes = self.processes.len() as u64 * PROCESS_BYTES;
            if self.bytes + processes + texts > self.options.memory_max {
                let text = if texts > self.bytes { ": there are too many different texts" } else { "" };
                result = Err(Broken::GaveUp(format!("out of memory{text}")));
            }
        }
        let broken = result.err()?;
        self.stats.configurations += of.follower.configurations();
        let engine = of.follower.engine();
        of.follower = Follower::Nobody;
        self.bytes -= std::mem::take(&mut of.bytes);
        let name = of.name.to_string();
        let mut result = KeyResult {
            key: name.clone(),
            verdict: Verdict::Unknown,
            reason: None,
            ops: 0,
            engine: engine.to_owned(),
            explanation: None,
        };
        let finding = match broken {
            Broken::GaveUp(reason) => {
                result.reason = Some(format!("{reason}, at event {}", event.index));
                Finding::GaveUp { key: name, index: event.index, reason }
            }
            Broken::Impossible => {
                let violation = self.violation(key, name, event, is_ending);
                result.verdict = Verdict::Invalid;
                result.reason = Some(format!("no order of its operations up to event {} is possible", event.index));
                result.explanation = Some(explanation(&violation));
                Finding::Violation(violation)
            }
        };
        self.keys[key as usize].result = Some(result);
        Some(finding)
    }

    fn violation(&mut self, key: u32, name: String, event: &Event, is_ending: bool) -> Violation {
        let recent = std::mem::take(&mut self.keys[key as usize].recent);
        let culprit = recent.back().filter(|_| is_ending).map(|(call, _)| call.index);
        let open = self.open.iter().flatten().filter(|open| open.key == key).map(|open| open.call.clone());
        let open: Vec<Event> = open.collect();
        let mut ops: Vec<OpLine> = Vec::new();
        for (call, completion) in
            recent.iter().map(|(call, end)| (call, Some(end))).chain(open.iter().map(|c| (c, None)))
        {
            let mut line = explain::line(&self.scratch.pair(call, completion));
            (line.call_index, line.completion_index) = (call.index, completion.map(|completion| completion.index));
            ops.push(line);
        }
        ops.sort_by_key(|line| line.call_index);
        let culprit = ops.iter().position(|line| Some(line.call_index) == culprit).unwrap_or(ops.len());
        Violation { key: name, index: event.index, time_ns: event.time_ns, ops, culprit }
    }
}

/// For results: the window that was left.
fn explanation(violation: &Violation) -> Explanation {
    Explanation {
        key: violation.key.clone(),
        ops: violation.ops.clone(),
        culprit: violation.culprit,
        why: format!("with event {} no order of all operations so far is possible", violation.index),
        prefix_index: violation.index,
        ..Explanation::default()
    }
}

fn check_same_op(call: &Event, completion: &Event) -> Result<(), HistoryError> {
    // Some recorders name the key only when they invoke.
    if call.f == completion.f && (call.key == completion.key || completion.key.is_nil()) {
        return Ok(());
    }
    let name = |event: &Event| match &event.key {
        Value::Nil => event.f.to_string(),
        key => format!("{} of key {key}", event.f),
    };
    Err(HistoryError::CompletionMismatch {
        index: completion.index,
        process: call.process,
        open_index: call.index,
        expected: name(call),
        found: name(completion),
    })
}

impl<M: Streamed> Feed for Front<M> {
    fn push(&mut self, event: &Event) -> Result<Option<Finding>, HistoryError> {
        if self.error.is_some() {
            return Ok(None);
        }
        let result = self.take(event);
        if let Err(error) = &result {
            self.error = Some(error.to_string());
        }
        result
    }

    fn memory(&self) -> u64 {
        self.bytes + self.processes.len() as u64 * PROCESS_BYTES
    }

    fn finish(mut self: Box<Self>) -> CheckResult {
        for at in 0..self.open.len() {
            let Some(open) = self.open[at].take().filter(|_| self.error.is_none()) else { continue };
            match self.view(&open.call, None) {
                Ok(op) => self.keys[open.key as usize].ops += u64::from(op.is_some()),
                Err(error) => self.error = Some(error.to_string()),
            }
        }
        let mut stats = std::mem::take(&mut self.stats);
        stats.keys = self.keys.len() as u64;
        let mut results = Vec::with_capacity(self.keys.len());
        for (at, key) in self.keys.iter_mut().enumerate() {
            stats.configurations += key.follower.configurations();
            let mut result = key.result.take().unwrap_or_else(|| KeyResult {
                key: key.name.to_string(),
                verdict: Verdict::Valid,
                reason: None,
                ops: 0,
                engine: key.follower.engine().to_owned(),
                explanation: None,
            });
            result.ops = key.ops;
            results.push((at, result));
        }
        let is_invalid = results.iter().any(|(_, result)| result.verdict == Verdict::Invalid);
        let unknown = match self.error {
            Some(error) if !is_invalid => Some(format!("the history cannot be checked as {}: {error}", self.name)),
            _ if stats.ops_ok == 0 => Some(format!("none of {} operations succeeded", stats.ops)),
            _ => None,
        };
        let result = match unknown {
            Some(reason) => CheckResult { verdict: Verdict::Unknown, reason, stats, ..CheckResult::default() },
            None => summary(results, stats),
        };
        finish(Ok(result), self.name, self.start)
    }
}

//! What is known from elsewhere about operations that were never answered.
//!
//! A system's own log often tells what its clients never learned: that a write was applied, or never reached it, or was
//! applied before some moment. Each such statement shrinks the search: an operation that did not happen is left out; one
//! that did has to be in the order; one that happened by a moment is as if it had returned then, but for its answer,
//! which stays unknown. As a file, one JSON object a line:
//!
//! ```json
//! {"index": 17, "happened": true, "by": 120}
//! {"index": 23, "happened": true, "by_ns": 14201000000}
//! {"index": 31, "happened": true}
//! {"index": 40, "happened": false}
//! ```
//!
//! `index` is that of the invocation. `by` is the index of an event: it had taken effect before that event. `by_ns`: it
//! had taken effect at that time of the history (nanoseconds since its start) at the latest. Statements are believed,
//! not checked: a wrong one makes the verdict wrong.
//!
//! ```
//! use squall_checkers::linear::{self, Evidence};
//! use squall_checkers::{CheckOptions, ModelKind, Verdict, read_text};
//!
//! // A write that timed out, and two reads after it: did it happen?
//! let text = "{:process 0 :type :invoke :f :write :value 1}\n{:process 0 :type :info :f :write :value 1}\n\
//!             {:process 1 :type :invoke :f :read :value nil}\n{:process 1 :type :ok :f :read :value nil}\n";
//! let history = read_text(text.as_bytes(), &Default::default()).unwrap();
//! let check = |evidence: &str| {
//!     let evidence = Evidence::read(evidence.as_bytes(), &history).unwrap();
//!     linear::check(&history, ModelKind::Register, &CheckOptions { evidence, ..Default::default() }).verdict
//! };
//! assert_eq!(check(""), Verdict::Valid);
//! assert_eq!(check(r#"{"index": 0, "happened": true}"#), Verdict::Valid);
//! // It had happened before the read began: then the read is stale.
//! assert_eq!(check(r#"{"index": 0, "happened": true, "by": 2}"#), Verdict::Invalid);
//!
//! let error = Evidence::read(br#"{"index": 2, "happened": true}"#, &history).unwrap_err();
//! assert_eq!(
//!     error.to_string(),
//!     "line 1, column 1: evidence about index 2: that read is no question: it ended ok at index 3"
//! );
//! ```

use super::problem::NEVER;
use crate::{History, HistoryError, Ops, Outcome};
use serde::Deserialize;
use std::collections::HashMap;

/// What is known of one unfinished operation.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Evidence {
    /// Index of its invocation.
    pub index: u64,
    /// Whether it took effect.
    pub happened: bool,
    /// It had taken effect before the event with this index.
    #[serde(default)]
    pub by: Option<u64>,
    /// It had taken effect at this time at the latest (nanoseconds since the start of the run).
    #[serde(default)]
    pub by_ns: Option<u64>,
}

impl Evidence {
    /// Reads statements, one a line, and holds them against the history that they are about. Empty lines are skipped.
    ///
    /// # Errors
    /// When a line is no statement, or the history has no such unfinished operation, or a statement contradicts the
    /// history or another statement. Errors name the line and the index.
    pub fn read(text: &[u8], history: &History) -> Result<Vec<Self>, HistoryError> {
        let ops = history.ops()?;
        let mut known = Known::new(&ops, history);
        let mut all = Vec::new();
        for (at, line) in text.split(|&byte| byte == b'\n').enumerate() {
            if line.trim_ascii().is_empty() {
                continue;
            }
            let syntax = |column: usize, message| HistoryError::Syntax {
                line: at as u64 + 1,
                column: column.max(1) as u64,
                message,
            };
            let statement: Self = serde_json::from_slice(line).map_err(|error| {
                let message = error.to_string();
                let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what);
                syntax(
                    error.column(),
                    format!("{message}; a statement is {{\"index\": 17, \"happened\": true, \"by\": 120}}"),
                )
            })?;
            known.believe(&statement).map_err(|error| syntax(1, error.to_string()))?;
            all.push(statement);
        }
        Ok(all)
    }
}

/// When an unfinished operation happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Happened {
    Never,
    /// Before the event with this index; the length of the history stands for its end.
    Before(u32),
}

/// Positions of events and returns where some unfinished operations have a return.
///
/// Each such return lies just before an event and needs a position of its own, so events move up: a position is the index
/// of an event and the number of returns before it.
#[derive(Debug)]
pub(crate) struct Timeline {
    by_call: HashMap<u32, (Happened, u32)>,
    /// The events before which the returns lie, ascending.
    before: Vec<u32>,
    /// How many events there are.
    events: u32,
}

impl Timeline {
    /// Believes all statements.
    pub(crate) fn new(ops: &Ops<'_>, history: &History, evidence: &[Evidence]) -> Result<Self, HistoryError> {
        let mut known = Known::new(ops, history);
        evidence.iter().try_for_each(|statement| known.believe(statement))?;
        let mut returns: Vec<(u32, u32)> = Vec::new();
        for (&call, &happened) in &known.by_call {
            if let Happened::Before(event) = happened {
                returns.push((event, call));
            }
        }
        returns.sort_unstable();
        let mut by_call: HashMap<u32, (Happened, u32)> =
            known.by_call.into_iter().map(|(call, happened)| (call, (happened, NEVER))).collect();
        for (rank, (event, call)) in returns.iter().enumerate() {
            by_call.insert(*call, (Happened::Before(*event), event + rank as u32));
        }
        let before = returns.into_iter().map(|(event, _)| event).collect();
        Ok(Self { by_call, before, events: history.len() as u32 })
    }

    /// The position of an event.
    pub(crate) fn position(&self, index: u32) -> u32 {
        index + self.before.partition_point(|&before| before <= index) as u32
    }

    /// The event at a position, or that after the return there.
    pub(crate) fn index(&self, position: u32) -> u32 {
        let (mut low, mut high) = (position.saturating_sub(self.before.len() as u32), position);
        while low < high {
            let middle = low + (high - low) / 2;
            if self.position(middle) < position { low = middle + 1 } else { high = middle }
        }
        low.min(self.events.saturating_sub(1))
    }

    /// Where an operation that was never answered returns; `None` when it never happened.
    pub(crate) fn unfinished(&self, call: u32) -> Option<u32> {
        match self.by_call.get(&call) {
            Some((Happened::Never, _)) => None,
            Some((Happened::Before(_), position)) => Some(*position),
            None => Some(NEVER),
        }
    }
}

/// Statements that fit the history.
struct Known<'h> {
    ops: &'h Ops<'h>,
    history: &'h History,
    by_call: HashMap<u32, Happened>,
}

impl<'h> Known<'h> {
    fn new(ops: &'h Ops<'h>, history: &'h History) -> Self {
        Self { ops, history, by_call: HashMap::new() }
    }

    fn believe(&mut self, statement: &Evidence) -> Result<(), HistoryError> {
        let index = statement.index;
        let bad = |message: String| HistoryError::Evidence { index, message };
        let op = usize::try_from(index).ok().and_then(|index| self.ops.invoked_at(index));
        let op = op.ok_or_else(|| bad(format!("no operation is invoked there (of {} events)", self.history.len())))?;
        if let (Outcome::Ok | Outcome::Fail, Some(end)) = (op.outcome(), op.completion_index()) {
            let how = if op.outcome() == Outcome::Ok { "ok" } else { "fail" };
            return Err(bad(format!("that {} is no question: it ended {how} at index {end}", op.f())));
        }
        let happened = match (statement.happened, statement.by, statement.by_ns) {
            (false, None, None) => Happened::Never,
            (true, None, None) => Happened::Before(self.history.len() as u32),
            (true, Some(by), None) => {
                let is_there = by > index && by <= self.history.len() as u64;
                let range = format!("`by` is the index of an event after it, at most {}, not {by}", self.history.len());
                Happened::Before(u32::try_from(by).ok().filter(|_| is_there).ok_or_else(|| bad(range))?)
            }
            (true, None, Some(by_ns)) if by_ns < op.call_ns() => {
                return Err(bad(format!("it cannot have happened by {by_ns} ns: it began at {} ns", op.call_ns())));
            }
            (true, None, Some(by_ns)) => Happened::Before(self.first_after(op.call_index(), by_ns)),
            (true, Some(_), Some(_)) => return Err(bad("`by` and `by_ns` are one too many".into())),
            (false, ..) => return Err(bad("what did not happen has no `by`".into())),
        };
        match self.by_call.insert(op.call_index() as u32, happened) {
            Some(before) if before != happened => Err(bad("another statement about it says otherwise".into())),
            _ => Ok(()),
        }
    }

    /// The first event after an invocation, and after a time.
    fn first_after(&self, call: usize, time_ns: u64) -> u32 {
        let events = call + 1..self.history.len();
        let first = events.into_iter().find(|&at| self.history.get(at).is_some_and(|event| event.time_ns > time_ns));
        first.unwrap_or(self.history.len()) as u32
    }
}

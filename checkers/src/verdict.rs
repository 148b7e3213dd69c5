//! What a checker says about a history.

use serde::{Deserialize, Serialize};
use std::fmt;

/// The answer of a checker. Ordered by weight: merged verdicts are as bad as the worst of them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Verdict {
    /// The history keeps the promise.
    #[default]
    Valid,
    /// Nobody knows: out of time or memory, nothing happened, a fault did not bite. Never a pass.
    Unknown,
    /// The history breaks the promise.
    Invalid,
}

impl Verdict {
    /// The worse of both: invalid > unknown > valid.
    pub fn merge(self, other: Self) -> Self {
        self.max(other)
    }

    /// As in reports: `VALID`, `INVALID`, `UNKNOWN`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Valid => "VALID",
            Self::Unknown => "UNKNOWN",
            Self::Invalid => "INVALID",
        }
    }
}

impl fmt::Display for Verdict {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

/// A verdict with its reasons, as saved in `results.json`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckResult {
    /// Which checker this is: `linearizable`.
    pub checker: String,
    /// The answer.
    pub verdict: Verdict,
    /// Why, in one sentence without a full stop: `key 17 is not linearizable (1 of 40 keys)`.
    pub reason: String,
    /// One entry per key, worst first; empty when the checker does not work by key.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub keys: Vec<KeyResult>,
    /// What it took.
    pub stats: CheckStats,
}

/// The verdict about one key.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct KeyResult {
    /// As a person would write it; `nil` when the history has only one object.
    pub key: String,
    /// The answer for this key.
    pub verdict: Verdict,
    /// Why, when it is not valid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
    /// Client operations on this key that entered the check.
    pub ops: u64,
    /// Which engine decided: `zones`, `search`, `wgl`.
    pub engine: String,
    /// A small set of operations that contradict each other, when invalid.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub explanation: Option<Explanation>,
}

/// What a check took.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct CheckStats {
    /// Client operations in the history, of whatever outcome.
    pub ops: u64,
    /// Operations that certainly took effect.
    pub ops_ok: u64,
    /// Independent objects.
    pub keys: u64,
    /// Configurations that searches visited, over all keys.
    pub configurations: u64,
    /// Duration (seconds).
    pub duration_s: f64,
}

/// A small set of operations on one key for which no order exists.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Explanation {
    /// As a person would write it.
    pub key: String,
    /// The operations in the order of their invocations.
    pub ops: Vec<OpLine>,
    /// Which of `ops` cannot be placed: the first to return with nothing left to try.
    pub culprit: usize,
    /// What is wrong with the culprit: `cannot come after the read of 881: 640 was overwritten at 14.201 s`.
    pub why: String,
    /// The history up to this event is the shortest prefix without an order (index of an event).
    pub prefix_index: u64,
    /// Where the operations begin, when that does not matter: `whatever the register holds before`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub start: Option<String>,
    /// Operations of this key that are not shown, because they change nothing about it.
    #[serde(default)]
    pub others: u64,
    /// The states that are possible when the culprit should take effect; a few of them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub states: Vec<String>,
    /// How many more there are.
    #[serde(default)]
    pub states_more: u64,
    /// The operations open then that are possible in none of these states, the culprit among them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub blocked: Vec<Blocked>,
}

/// Why an operation cannot take effect.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Blocked {
    /// Which of the explanation's operations.
    pub op: usize,
    /// `needs 640; the register holds 881 in every possible order`.
    pub why: String,
}

/// One operation of an explanation.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct OpLine {
    /// Index of the invocation.
    pub call_index: u64,
    /// Index of the completion, if there is one.
    pub completion_index: Option<u64>,
    /// Start (nanoseconds since the run's start).
    pub call_ns: u64,
    /// End, if it ended (nanoseconds since the run's start).
    pub completion_ns: Option<u64>,
    /// Who.
    pub process: u32,
    /// The node that the process talked to.
    pub node: Option<String>,
    /// What was done: `write 881`, `read -> 640`, `cas 1 -> 2`.
    pub text: String,
    /// `ok`, `fail` or `unknown`.
    pub outcome: String,
    /// Whether the others contradict each other no matter whether this one took effect.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub optional: bool,
}

/// Longer texts are shortened where a person reads them (characters).
const TEXT_LEN_MAX: usize = 60;

/// Lines of an explanation are no longer than this (characters), so that two more fit before them in a report.
const LINE_LEN_MAX: usize = 98;

/// The narrowest column of operations (characters).
const OP_LEN_MIN: usize = 18;

impl OpLine {
    /// With a column of this width for the operation.
    fn in_columns(&self, width: usize) -> String {
        let node = self.node.clone().unwrap_or_else(|| format!("p{}", self.process));
        let took = match self.completion_ns {
            Some(end) => format!("after {} ms", milliseconds(end.saturating_sub(self.call_ns))),
            None => "never answered".to_owned(),
        };
        let optional = if self.optional { ", or not at all" } else { "" };
        let text = shortened(&self.text);
        format!("{:>10} s  {node:<4} {text:<width$} {:<8} {took}{optional}", seconds(self.call_ns), self.outcome)
    }
}

impl fmt::Display for OpLine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.in_columns(OP_LEN_MIN))
    }
}

impl Explanation {
    /// The first operations, at most, of those that are too many to be read.
    const LINES_MAX: usize = 40;

    /// What is possible when the culprit should take effect, without the culprit itself.
    fn notes(&self) -> Vec<String> {
        let mut notes = Vec::new();
        if let Some(start) = &self.start {
            notes.push(format!("from     {start}"));
        }
        for blocked in self.blocked.iter().filter(|blocked| blocked.op != self.culprit) {
            notes.push(format!("blocked  `{}` {}", shortened(&self.ops[blocked.op].text), blocked.why));
        }
        let culprit = self.blocked.iter().find(|blocked| blocked.op == self.culprit);
        if let Some(culprit) = culprit.filter(|culprit| culprit.why != self.why) {
            notes.push(format!("here     {}", culprit.why));
        }
        notes
    }
}

impl fmt::Display for Explanation {
    /// One line an operation, the culprit marked; then what was possible there.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let width = self.ops.iter().map(|op| shortened(&op.text).chars().count()).max().unwrap_or(0).max(OP_LEN_MIN);
        let is_shown = |at: usize| at < Self::LINES_MAX || at >= self.culprit;
        for (at, op) in self.ops.iter().enumerate().filter(|(at, _)| is_shown(*at)) {
            let line = op.in_columns(width);
            let marked = format!("{line}   <- {}", self.why);
            if at != self.culprit {
                writeln!(f, "{line}")?;
            } else if marked.chars().count() <= LINE_LEN_MAX {
                writeln!(f, "{marked}")?;
            } else {
                writeln!(f, "{line}   <-")?;
                write_wrapped(f, &self.why)?;
            }
        }
        if self.ops.len() > Self::LINES_MAX {
            writeln!(f, "           {} operations in all", self.ops.len())?;
        }
        self.notes().iter().try_for_each(|note| write_wrapped(f, note))
    }
}

/// A note below the operations, broken between words.
fn write_wrapped(f: &mut fmt::Formatter<'_>, text: &str) -> fmt::Result {
    let mut line = " ".repeat(10);
    for word in text.split(' ') {
        if line.chars().count() + 1 + word.chars().count() > LINE_LEN_MAX && !line.trim().is_empty() {
            writeln!(f, "{line}")?;
            line = " ".repeat(19);
        }
        line.push(' ');
        line.push_str(word);
    }
    writeln!(f, "{line}")
}

/// The text, or both ends of a long one: the interesting part of a grown value is its end.
pub(crate) fn shortened(text: &str) -> String {
    let len = text.chars().count();
    if len <= TEXT_LEN_MAX {
        return text.to_owned();
    }
    let head: String = text.chars().take(TEXT_LEN_MAX / 2).collect();
    let tail: String = text.chars().skip(len - TEXT_LEN_MAX / 2).collect();
    format!("{head} … {tail}")
}

/// `14.201`: seconds with milliseconds, as everywhere in reports.
pub fn seconds(time_ns: u64) -> String {
    format!("{}.{:03}", time_ns / 1_000_000_000, time_ns / 1_000_000 % 1000)
}

/// Milliseconds, with a decimal where whole ones would say nothing.
fn milliseconds(duration_ns: u64) -> String {
    if duration_ns < 10_000_000 {
        format!("{}.{}", duration_ns / 1_000_000, duration_ns / 100_000 % 10)
    } else {
        format!("{}", duration_ns / 1_000_000)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_worst_verdict_wins() {
        use Verdict::*;
        for (a, b, merged) in [(Valid, Unknown, Unknown), (Unknown, Invalid, Invalid), (Valid, Invalid, Invalid)] {
            assert_eq!(a.merge(b), merged);
            assert_eq!(b.merge(a), merged);
        }
        assert_eq!(Valid.merge(Valid), Valid);
    }

    #[test]
    fn times_read_like_the_rest_of_the_report() {
        assert_eq!(seconds(14_201_999_999), "14.201");
        assert_eq!(milliseconds(6_040_000), "6.0");
        assert_eq!(milliseconds(5_000_000_000), "5000");
    }
}

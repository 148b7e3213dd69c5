//! One line of a history: what a process did, or what was done to the cluster.

use crate::Sym;
use std::fmt;

/// A small typed value: what an operation carries and returns.
#[derive(Clone, Debug, Default, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Value {
    /// Nothing: an unset register, an operation without an argument.
    #[default]
    Nil,
    /// A truth value.
    Bool(bool),
    /// A whole number.
    Int(i64),
    /// A string.
    Str(Sym),
    /// A short list, for instance `[expected, new]` of a compare-and-set.
    List(Box<[Value]>),
    /// A small map, in the order in which it was written.
    Map(Box<[(Value, Value)]>),
}

impl Value {
    /// A list of `items`.
    pub fn list(items: impl IntoIterator<Item = Value>) -> Self {
        Self::List(items.into_iter().collect())
    }

    /// An interned string.
    pub fn str(text: &str) -> Self {
        Self::Str(Sym::new(text))
    }

    /// The number, if this is one.
    pub fn as_int(&self) -> Option<i64> {
        match self {
            Self::Int(n) => Some(*n),
            _ => None,
        }
    }

    /// The items, if this is a list.
    pub fn as_list(&self) -> Option<&[Value]> {
        match self {
            Self::List(items) => Some(items),
            _ => None,
        }
    }

    /// Whether this is [`Value::Nil`].
    pub fn is_nil(&self) -> bool {
        matches!(self, Self::Nil)
    }
}

impl From<i64> for Value {
    fn from(n: i64) -> Self {
        Self::Int(n)
    }
}

impl From<&str> for Value {
    fn from(text: &str) -> Self {
        Self::str(text)
    }
}

impl fmt::Display for Value {
    /// As a person would write it: `nil`, `7`, `abc`, `[1 2]`, `{a 1}`.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Nil => f.write_str("nil"),
            Self::Bool(b) => write!(f, "{b}"),
            Self::Int(n) => write!(f, "{n}"),
            Self::Str(s) => write!(f, "{s}"),
            Self::List(items) => {
                f.write_str("[")?;
                for (i, item) in items.iter().enumerate() {
                    write!(f, "{}{item}", if i == 0 { "" } else { " " })?;
                }
                f.write_str("]")
            }
            Self::Map(pairs) => {
                f.write_str("{")?;
                for (i, (k, v)) in pairs.iter().enumerate() {
                    write!(f, "{}{k} {v}", if i == 0 { "" } else { ", " })?;
                }
                f.write_str("}")
            }
        }
    }
}

/// What kind of line this is.
///
/// A client operation is one [`EventKind::Invoke`] and at most one of the three completions, all by one process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum EventKind {
    /// A process starts an operation. Stamped before its first byte can leave.
    Invoke,
    /// It certainly took effect.
    Ok,
    /// It certainly did not take effect and never will.
    Fail,
    /// Unknown: it may take effect at any time from its invocation to the end of the history, or never.
    Info,
    /// The nemesis did something: `f` is the fault, `value` its resolved targets and outcome.
    Nemesis,
    /// The run enters a phase: `f` is its name (`main`, `heal`, `quiesce`, `final`).
    Phase,
}

/// All of them, for readers.
pub(crate) const ALL_KINDS: [EventKind; 6] =
    [EventKind::Invoke, EventKind::Ok, EventKind::Fail, EventKind::Info, EventKind::Nemesis, EventKind::Phase];

impl EventKind {
    /// The word used in files: `invoke`, `ok`, `fail`, `info`, `nemesis`, `phase`.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Invoke => "invoke",
            Self::Ok => "ok",
            Self::Fail => "fail",
            Self::Info => "info",
            Self::Nemesis => "nemesis",
            Self::Phase => "phase",
        }
    }

    /// Whether this completes an operation.
    pub fn is_completion(self) -> bool {
        matches!(self, Self::Ok | Self::Fail | Self::Info)
    }
}

/// One line of a history.
///
/// Units: `time_ns` and `intended_ns` are nanoseconds of the controller's CLOCK_MONOTONIC since the start of the run.
#[derive(Clone, Debug, PartialEq)]
pub struct Event {
    /// Dense from 0 in the order of the journal.
    pub index: u64,
    /// When it happened.
    pub time_ns: u64,
    /// What kind of line this is.
    pub kind: EventKind,
    /// The process; 0 for nemesis and phase lines, where it means nothing.
    pub process: u32,
    /// The operation (`read`), the fault (`partition`) or the phase (`final`).
    pub f: Sym,
    /// The independent object it acts on; [`Value::Nil`] when there is only one.
    pub key: Value,
    /// Argument (invoke) or result (completion).
    pub value: Value,
    /// The node that the process talks to.
    pub node: Option<Sym>,
    /// When an open-loop generator meant this invocation to start, if it did not start at once.
    pub intended_ns: Option<u64>,
    /// Why a completion is `fail` or `info`, in a short word or phrase (`timeout`, `connection refused`).
    pub error: Option<Sym>,
}

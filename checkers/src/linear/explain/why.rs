//! Why an operation cannot take effect, in a sentence.

use super::few::Walk;
use super::rules::Rules;
use super::{STATES_MAX, text::text};
use crate::verdict::{seconds, shortened};
use crate::{Op, Outcome, Value};

/// The last states that can be reached.
pub(super) struct States {
    /// Some of them in words.
    pub(super) texts: Vec<String>,
    /// How many there are besides.
    pub(super) more: u64,
}

/// The distinct states of configurations.
pub(super) fn states<M: Rules>(model: &M, walk: &Walk<M::State>, frontier: &[u32]) -> States {
    let mut distinct: Vec<&M::State> = Vec::new();
    for node in frontier {
        let state = walk.state(*node);
        if !distinct.contains(&state) {
            distinct.push(state);
        }
    }
    let mut texts: Vec<String> = distinct.iter().map(|state| model.state_text(state)).collect();
    texts.sort();
    let more = texts.len().saturating_sub(STATES_MAX) as u64;
    texts.truncate(STATES_MAX);
    States { texts, more }
}

/// `needs 640; the register holds 881 in every possible order`.
pub(super) fn blocked<M: Rules>(model: &M, op: &M::Op, states: &States) -> String {
    let subject = model.subject();
    let needs = model.needs(op).map_or("is impossible here".to_owned(), |needs| format!("needs {}", shortened(&needs)));
    let all: Vec<String> = states.texts.iter().map(|state| shortened(state)).collect();
    match (&*all, states.more) {
        ([one], 0) => format!("{needs}; {subject} {one} in every possible order"),
        (some, 0) => format!("{needs}; {subject} {}, depending on the order", some.join(" or ")),
        (some, more) => format!("{needs}; {subject} {}, or one of {more} more", some.join(" or ")),
    }
}

/// The value that an operation found, if it says so.
fn observed(op: &Op<'_>) -> Option<Value> {
    match (op.f().as_str(), op.outcome(), op.argument()) {
        ("read" | "get", Outcome::Ok, _) => op.result(),
        ("cas", Outcome::Ok, Value::List(pair)) => pair.first().cloned(),
        _ => None,
    }
}

/// The value that an operation leaves behind, if it depends on its argument alone.
fn produced(op: &Op<'_>) -> Option<Value> {
    match (op.f().as_str(), op.outcome(), op.argument()) {
        (_, Outcome::Fail, _) => None,
        ("write" | "put", _, value) => Some(value),
        ("delete", _, _) => Some(Value::Nil),
        ("cas", _, Value::List(pair)) => pair.get(1).cloned(),
        _ => None,
    }
}

/// Whether `a` ended before `b` began.
fn precedes(a: &Op<'_>, b: &Op<'_>) -> bool {
    a.outcome() != Outcome::Unfinished && a.completion_index().is_some_and(|end| end < b.call_index())
}

/// What is wrong with a register's operation, where one of the common stories tells it.
pub(super) fn register(ops: &[Op<'_>], culprit: usize, all: &[Op<'_>]) -> Option<String> {
    let op = &ops[culprit];
    let Some(value) = observed(op) else {
        let mut others = ops.iter().enumerate();
        let (_, other) = others.rfind(|(at, other)| *at != culprit && observed(other).is_some())?;
        return Some(format!("it leaves no place for `{}`", text(other)));
    };
    let writers: Vec<&Op<'_>> = ops
        .iter()
        .filter(|other| produced(other).as_ref() == Some(&value) && other.call_index() != op.call_index())
        .collect();
    if writers.is_empty() && !value.is_nil() {
        return Some(never_written(op, &value, all));
    }
    // Some other value was there after every write of this one and before the culprit.
    let follows_all = |other: &&Op<'_>| writers.iter().all(|writer| precedes(writer, other));
    let overwritten = ops
        .iter()
        .filter(|other| precedes(other, op) && produced(other).is_some_and(|new| new != value))
        // A compare-and-set that found the only write of this value follows it, too.
        .filter(|other| follows_all(other) || writers.len() == 1 && observed(other).as_ref() == Some(&value))
        .max_by_key(|other| other.completion_index());
    let seen = ops
        .iter()
        .filter(|other| precedes(other, op) && observed(other).is_some_and(|other| other != value))
        .max_by_key(|other| other.completion_index());
    Some(match (overwritten, seen) {
        (Some(write), Some(read)) if observed(read) == produced(write) => format!(
            "cannot come after the {} of {}: {value} was overwritten at {} s",
            read.f(),
            produced(write).unwrap_or_default(),
            seconds(write.call_ns())
        ),
        (Some(write), _) => format!("{value} was overwritten by `{}` at {} s", text(write), seconds(write.call_ns())),
        (None, Some(read)) => {
            let new = observed(read);
            let mut writers_of_new = ops.iter().filter(|other| produced(other) == new).peekable();
            if writers_of_new.peek().is_some() && writers_of_new.all(|other| follows_all(&other)) {
                format!("cannot come after `{}`: {value} was overwritten by then", text(read))
            } else {
                format!("cannot come after `{}`: nothing brings {value} back", text(read))
            }
        }
        (None, None) => return None,
    })
}

/// What is wrong with reading a value that nobody had begun to write.
fn never_written(op: &Op<'_>, value: &Value, all: &[Op<'_>]) -> String {
    let writes = |other: &&Op<'_>| {
        let argument = match (other.f().as_str(), other.argument()) {
            ("write" | "put", value) => Some(value),
            ("cas", Value::List(pair)) => pair.get(1).cloned(),
            _ => None,
        };
        argument.as_ref() == Some(value)
    };
    let failed = all.iter().filter(writes).find(|other| other.outcome() == Outcome::Fail);
    let later = all.iter().filter(writes).find(|other| precedes(op, other));
    match (failed, later) {
        (Some(write), _) => {
            let at = seconds(write.call_ns());
            format!("{value} was never written: `{}` at {at} s failed", text(write))
        }
        (None, Some(write)) => format!("{value} was written only later, at {} s", seconds(write.call_ns())),
        (None, None) => format!("nobody ever wrote {value}"),
    }
}

//! Operations in words.

use crate::verdict::OpLine;
use crate::{Op, Outcome, Value};

/// The line about an operation.
pub(crate) fn line(op: &Op<'_>) -> OpLine {
    OpLine {
        call_index: op.call_index() as u64,
        completion_index: op.completion_index().map(|index| index as u64),
        call_ns: op.call_ns(),
        completion_ns: op.completion_ns(),
        process: op.process(),
        node: op.node().map(|node| node.to_string()),
        text: text(op),
        outcome: match op.outcome() {
            Outcome::Ok => "ok",
            Outcome::Fail => "fail",
            Outcome::Unfinished => "unknown",
        }
        .into(),
        optional: false,
    }
}

/// `read -> 640`, `cas 1 -> 2`, `write 881`, `dequeue -> 7`, `contains 3 -> true`.
pub(crate) fn text(op: &Op<'_>) -> String {
    let f = op.f();
    let answer = op.result().filter(|_| op.outcome() == Outcome::Ok);
    match (f.as_str(), op.argument(), answer) {
        ("read" | "get" | "dequeue" | "pop" | "delete-min", _, Some(value)) => format!("{f} -> {value}"),
        ("read" | "get" | "dequeue" | "pop" | "delete-min", _, None) => f.to_string(),
        ("cas", Value::List(pair), _) if pair.len() == 2 => format!("{f} {} -> {}", pair[0], pair[1]),
        ("contains" | "fetch-add", argument, Some(value)) => format!("{f} {argument} -> {value}"),
        ("acquire", Value::Nil, Some(Value::Int(token))) => format!("{f} -> {token}"),
        ("txn", argument, answer) => format!("{f} {}", answer.unwrap_or(argument)),
        (_, Value::Nil, _) => f.to_string(),
        (_, value, _) => format!("{f} {value}"),
    }
}

//! Logs of concurrent objects: `[process] call push(x)`, `[process] return y`.
//!
//! Names of methods become those of our models: `enqueue` and `dequeue` for a queue, `push` and `pop` for a stack,
//! known from the header `# @object atomic-queue` or from the method's own name. `return empty` is nil. A call
//! without a return is unfinished.

use super::blank;
use crate::{EventKind, History, HistoryError, Sym, Value};
use std::collections::HashMap;

/// Whether a line is one of this format.
pub(super) fn looks_like(line: &[u8]) -> bool {
    std::str::from_utf8(line).ok().and_then(split).is_some_and(|(_, rest)| is_call(rest) || is_return(rest))
}

fn is_call(rest: &str) -> bool {
    rest.starts_with("call ")
}

fn is_return(rest: &str) -> bool {
    rest == "return" || rest.starts_with("return ")
}

/// `[process]` and the rest of the line.
fn split(line: &str) -> Option<(&str, &str)> {
    let (process, rest) = line.trim().strip_prefix('[')?.split_once(']')?;
    Some((process.trim(), rest.trim()))
}

/// Reads all events of a text.
pub(super) fn read(bytes: &[u8]) -> Result<History, HistoryError> {
    let mut history = History::new();
    let mut stack = false;
    let mut open: HashMap<u32, Sym> = HashMap::new();
    for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let syntax = |message: String| HistoryError::Syntax { line: at as u64 + 1, column: 1, message };
        let line = std::str::from_utf8(line).map_err(|_| syntax("not UTF-8".into()))?.trim();
        if let Some(comment) = line.strip_prefix('#') {
            stack |= comment.contains("@object") && comment.contains("stack");
            continue;
        }
        if line.is_empty() {
            continue;
        }
        let (process, rest) = split(line)
            .ok_or_else(|| syntax("a line is `[process] call method(value)` or `[process] return value`".into()))?;
        let process: u32 = process.parse().map_err(|_| syntax(format!("`{process}` is no process number")))?;
        let event = if is_call(rest) {
            let (method, argument) = call(rest.trim_start_matches("call").trim());
            let f = Sym::new(method_name(method, stack));
            open.insert(process, f);
            (EventKind::Invoke, f, argument)
        } else if is_return(rest) {
            let f = open.remove(&process).ok_or_else(|| syntax(format!("process {process} returns without a call")))?;
            (EventKind::Ok, f, value(rest.trim_start_matches("return").trim()))
        } else {
            return Err(syntax(format!("`{rest}` is neither a call nor a return")));
        };
        let mut line = blank(history.len(), event.0, event.1);
        line.process = process;
        line.value = event.2;
        history.push(line)?;
    }
    Ok(history)
}

fn call(text: &str) -> (&str, Value) {
    match text.split_once('(') {
        Some((method, argument)) => (method.trim(), value(argument.trim_end().trim_end_matches(')').trim())),
        None => (text, Value::Nil),
    }
}

fn value(text: &str) -> Value {
    match text {
        "" | "empty" => Value::Nil,
        _ => text.parse().map_or_else(|_| Value::str(text), Value::Int),
    }
}

fn method_name(method: &str, stack: bool) -> &str {
    match (method, stack) {
        ("add", true) => "push",
        ("remove", true) => "pop",
        ("add" | "enq", false) => "enqueue",
        ("remove" | "deq", false) => "dequeue",
        (other, _) => other,
    }
}

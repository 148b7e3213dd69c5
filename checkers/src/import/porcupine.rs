//! Operations as Porcupine has them, written as JSON: one array of them, or one a line.
//!
//! ```json
//! [{"ClientId":0,"Input":{"Op":"put","Key":"x","Value":"a"},"Call":10,"Output":{},"Return":20},
//!  {"ClientId":1,"Input":{"Op":"get","Key":"x"},"Call":15,"Output":{"Value":"a"},"Return":30}]
//! ```
//!
//! `Call` and `Return` are whole numbers that grow with time; without a `Return` (or with null) an operation is
//! unfinished. At the same time calls come first, as in Porcupine. Names of fields may be in any case. What Porcupine
//! leaves to its user is read so:
//!
//! | `Input` | is |
//! |---|---|
//! | `op`, `f` or `type`: a name | that operation (`get`, `put`, `append`, `read`, `write`, `cas`, `enqueue`, …) |
//! | `op`: a truth value | Porcupine's register: true reads, false writes |
//! | `op`: 0, 1, 2, with `arg1` | Porcupine's etcd: read, write, cas |
//! | `op`: 0, 1, 2, otherwise | Porcupine's kv: get, put, append |
//! | `key` | the independent object |
//! | `arg1` and `arg2`, or `expected` and `new` | `[expected, new]` of a cas |
//! | `value`, or `arg1` | any other argument |
//!
//! | `Output` | is |
//! |---|---|
//! | `unknown`: true | nobody knows whether it took effect |
//! | `ok`: false | `fail` |
//! | `exists`: false | an answer of nil |
//! | `value`, or anything that is no object | the answer |
//!
//! A client that goes on after an operation of unknown outcome, or before its last one is over, becomes another process.

use super::blank;
use crate::{Event, EventKind, History, HistoryError, Sym, Value};
use serde::de::{Deserializer, Error, SeqAccess, Visitor};
use serde_json::Value as Json;
use std::collections::HashMap;
use std::fmt;

/// Numbers above are left for the processes that clients become.
const CLIENT_MAX: u32 = u32::MAX / 2;

/// How a line begins, mostly.
const CLIENT_ID: &[u8] = b"\"clientid\"";

/// Whether a text is one of this format: an array of objects, or an object with an `Input` and a `Call` a line.
pub(super) fn looks_like(text: &[u8]) -> bool {
    let text = text.trim_ascii_start();
    match text.strip_prefix(b"[").map(<[u8]>::trim_ascii_start) {
        Some(rest) => rest.strip_prefix(b"{").is_some_and(|rest| rest.trim_ascii_start().starts_with(b"\"")),
        None => {
            let line = text.split(|&byte| byte == b'\n').next().unwrap_or_default();
            match serde_json::from_slice::<Json>(line) {
                // Fields of the object itself: a value of an event of ours may be anything.
                Ok(json) => field(&json, "input").is_some() && field(&json, "call").is_some(),
                Err(_) => {
                    let start = line.strip_prefix(b"{").unwrap_or_default().trim_ascii_start();
                    start.len() >= CLIENT_ID.len() && start[..CLIENT_ID.len()].eq_ignore_ascii_case(CLIENT_ID)
                }
            }
        }
    }
}

/// An operation, understood.
struct Operation {
    client: u32,
    f: Sym,
    key: Value,
    argument: Value,
    answer: Value,
    end: EventKind,
    call: i64,
    ret: Option<i64>,
}

/// Reads all operations of a text.
pub(super) fn read(bytes: &[u8]) -> Result<History, HistoryError> {
    let mut operations = Vec::new();
    if bytes.trim_ascii_start().starts_with(b"[") {
        let mut json = serde_json::Deserializer::from_slice(bytes);
        json.deserialize_seq(Operations { into: &mut operations })
            .and_then(|()| json.end())
            .map_err(|e| syntax(&e, 0))?;
    } else {
        for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
            if !line.trim_ascii().is_empty() {
                let json = serde_json::from_slice(line).map_err(|e| syntax(&e, at))?;
                let bad = |message| HistoryError::Syntax { line: at as u64 + 1, column: 1, message };
                operations.push(operation(&json).map_err(bad)?);
            }
        }
    }
    History::from_events(events(operations))
}

/// The line counts from the one after `lines_before`.
fn syntax(error: &serde_json::Error, lines_before: usize) -> HistoryError {
    let message = error.to_string();
    let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what).to_owned();
    let line = error.line().max(1) + lines_before;
    HistoryError::Syntax { line: line as u64, column: error.column().max(1) as u64, message }
}

/// One after the other, so that no tree of the whole is ever built.
struct Operations<'o> {
    into: &'o mut Vec<Operation>,
}

impl<'de> Visitor<'de> for Operations<'_> {
    type Value = ();

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an array of operations")
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<(), A::Error> {
        while let Some(json) = seq.next_element::<Json>()? {
            self.into.push(operation(&json).map_err(A::Error::custom)?);
        }
        Ok(())
    }
}

/// The field with this name in any case; null is none.
fn field<'j>(json: &'j Json, name: &str) -> Option<&'j Json> {
    let fields = json.as_object()?.iter();
    fields.filter(|(field, _)| field.eq_ignore_ascii_case(name)).map(|(_, value)| value).find(|value| !value.is_null())
}

fn operation(json: &Json) -> Result<Operation, String> {
    if !json.is_object() {
        return Err("an operation is an object with ClientId, Input, Call, Output and Return".into());
    }
    let time = |name: &str| match field(json, name) {
        None => Ok(None),
        Some(time) => {
            time.as_i64().map(Some).ok_or_else(|| format!("`{name}` is a whole number of 64 bits, not {time}"))
        }
    };
    let number = |id: &Json| id.as_u64().and_then(|id| u32::try_from(id).ok()).filter(|id| *id <= CLIENT_MAX);
    let client = field(json, "ClientId").map_or(Some(0), number);
    let input = field(json, "Input").ok_or("an operation needs an `Input`")?;
    let (call, ret) = (time("Call")?.ok_or("an operation needs a `Call`")?, time("Return")?);
    if ret.is_some_and(|ret| ret < call) {
        return Err("the operation returns before it is called".into());
    }
    let f = name(input)?;
    let (answer, end) = answer(field(json, "Output").unwrap_or(&Json::Null));
    Ok(Operation {
        client: client.ok_or_else(|| format!("`ClientId` is a number from 0 to {CLIENT_MAX}"))?,
        key: field(input, "key").map_or(Value::Nil, value),
        argument: argument(f, input),
        f: Sym::new(f),
        answer,
        end,
        call,
        ret,
    })
}

fn name(input: &Json) -> Result<&str, String> {
    let op = ["op", "f", "type"].iter().find_map(|name| field(input, name));
    let etcd = field(input, "arg1").is_some();
    match op {
        Some(Json::String(name)) => Ok(match name.as_str() {
            "Get" | "GET" => "get",
            "Put" | "PUT" => "put",
            "Append" | "APPEND" => "append",
            other => other,
        }),
        Some(Json::Bool(reads)) => Ok(if *reads { "read" } else { "write" }),
        Some(Json::Number(number)) => match (number.as_u64(), etcd) {
            (Some(0), true) => Ok("read"),
            (Some(1), true) => Ok("write"),
            (Some(2), true) => Ok("cas"),
            (Some(0), false) => Ok("get"),
            (Some(1), false) => Ok("put"),
            (Some(2), false) => Ok("append"),
            _ => Err(format!("`op` is 0, 1 or 2 when it is a number, not {number}")),
        },
        _ => Err("an `Input` needs an `op` (a name, a truth value, or 0, 1, 2)".into()),
    }
}

fn argument(f: &str, input: &Json) -> Value {
    let any = |names: [&str; 2]| names.iter().find_map(|name| field(input, name)).map_or(Value::Nil, value);
    match f {
        "read" | "get" => Value::Nil,
        "cas" => Value::list([any(["arg1", "expected"]), any(["arg2", "new"])]),
        _ => any(["value", "arg1"]),
    }
}

fn answer(output: &Json) -> (Value, EventKind) {
    let is = |name: &str, what: bool| field(output, name).and_then(Json::as_bool) == Some(what);
    match output {
        Json::Object(_) if is("unknown", true) => (Value::Nil, EventKind::Info),
        Json::Object(_) if is("ok", false) => (Value::Nil, EventKind::Fail),
        Json::Object(_) if is("exists", false) => (Value::Nil, EventKind::Ok),
        Json::Object(_) => (field(output, "value").map_or(Value::Nil, value), EventKind::Ok),
        other => (value(other), EventKind::Ok),
    }
}

/// Numbers that are no 64-bit integers become strings: a history has no others.
fn value(json: &Json) -> Value {
    match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(number) => number.as_i64().map_or_else(|| Value::str(&number.to_string()), Value::Int),
        Json::String(text) => Value::str(text),
        Json::Array(items) => Value::list(items.iter().map(value)),
        Json::Object(fields) => Value::Map(fields.iter().map(|(k, v)| (Value::str(k), value(v))).collect()),
    }
}

/// Calls and returns in the order of time.
fn events(mut operations: Vec<Operation>) -> impl Iterator<Item = Event> {
    operations.sort_by_key(|operation| operation.call);
    let first = operations.first().map_or(0, |operation| operation.call);
    let mut next_process = operations.iter().map(|operation| u64::from(operation.client) + 1).max().unwrap_or(0);
    // Client -> its process, and when that one may go on.
    let mut clients: HashMap<u32, (u32, Option<i64>)> = HashMap::new();
    let mut ends: Vec<(i64, bool, Event)> = Vec::with_capacity(2 * operations.len());
    for operation in operations {
        let Operation { client, f, key, argument, answer, end, call, ret } = operation;
        let (process, free) = clients.entry(client).or_insert((client, Some(i64::MIN)));
        // At the same time calls come first: then the two overlap.
        if free.is_none_or(|free| free >= call) {
            *process = next_process as u32;
            next_process += 1;
        }
        *free = ret.filter(|_| end != EventKind::Info);
        let event = |kind, time: i64, value| Event {
            process: *process,
            key: key.clone(),
            value,
            time_ns: time.abs_diff(first),
            ..blank(0, kind, f)
        };
        ends.push((call, false, event(EventKind::Invoke, call, argument)));
        if let Some(ret) = ret {
            ends.push((ret, true, event(end, ret, answer)));
        }
    }
    ends.sort_by_key(|&(time, is_return, _)| (time, is_return));
    ends.into_iter().enumerate().map(|(index, (.., event))| Event { index: index as u64, ..event })
}

//! Values of a history as JSON and back.

use serde_json::Value as Json;
use squall_checkers::Value;

/// The JSON of `value`.
pub(crate) fn to_json(value: &Value) -> Json {
    match value {
        Value::Nil => Json::Null,
        Value::Bool(b) => (*b).into(),
        Value::Int(n) => (*n).into(),
        Value::Str(text) => text.as_str().into(),
        Value::List(items) => items.iter().map(to_json).collect(),
        Value::Map(entries) => entries.iter().map(|(k, v)| (k.to_string(), to_json(v))).collect(),
    }
}

/// The value of `json`; `None` for numbers that are not whole.
pub(crate) fn from_json(json: &Json) -> Option<Value> {
    Some(match json {
        Json::Null => Value::Nil,
        Json::Bool(b) => Value::Bool(*b),
        Json::Number(n) => Value::Int(n.as_i64()?),
        Json::String(text) => Value::str(text),
        Json::Array(items) => Value::List(items.iter().map(from_json).collect::<Option<_>>()?),
        Json::Object(entries) => {
            let entry = |(k, v): (&String, &Json)| Some((Value::str(k), from_json(v)?));
            Value::Map(entries.iter().map(entry).collect::<Option<_>>()?)
        }
    })
}

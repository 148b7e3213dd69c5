//! JSON lines to events.

use super::encode::MAP_KEY;
use crate::{Event, EventKind, HistoryError, Sym, Value};
use serde::de::{DeserializeSeed, Deserializer, Error, MapAccess, SeqAccess, Visitor};
use std::borrow::Cow;
use std::fmt;

/// Parses one line. `line` (from 1) is where it stands, for errors; `index` is used where the line has none.
pub(crate) fn parse_line(text: &[u8], line: u64, index: u64) -> Result<Event, HistoryError> {
    let syntax = |e: serde_json::Error| {
        // The position is said once, by us: serde_json counts lines from the start of this one.
        let message = e.to_string();
        let message = message.rsplit_once(" at line ").map_or(message.as_str(), |(what, _)| what).to_owned();
        HistoryError::Syntax { line, column: e.column().max(1) as u64, message }
    };
    let mut json = serde_json::Deserializer::from_slice(text);
    let event = json.deserialize_map(EventVisitor { index }).map_err(syntax)?;
    json.end().map_err(syntax)?;
    Ok(event)
}

struct EventVisitor {
    index: u64,
}

impl<'de> Visitor<'de> for EventVisitor {
    type Value = Event;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("an event as a JSON object")
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Event, A::Error> {
        let (mut kind, mut f) = (None, None);
        let mut event = Event {
            index: self.index,
            time_ns: 0,
            kind: EventKind::Invoke,
            process: 0,
            f: Sym::from_id(0),
            key: Value::Nil,
            value: Value::Nil,
            node: None,
            intended_ns: None,
            error: None,
        };
        let mut seen = 0u16;
        while let Some(field) = map.next_key::<Cow<'de, str>>()? {
            let bit = match &*field {
                "index" => {
                    event.index = map.next_value()?;
                    0
                }
                "time" => {
                    event.time_ns = map.next_value()?;
                    1
                }
                "type" => {
                    kind = Some(map.next_value_seed(KindSeed)?);
                    2
                }
                "process" => {
                    event.process = map.next_value()?;
                    3
                }
                "f" => {
                    f = Some(map.next_value_seed(SymSeed)?);
                    4
                }
                "key" => {
                    event.key = map.next_value_seed(ValueSeed)?;
                    5
                }
                "value" => {
                    event.value = map.next_value_seed(ValueSeed)?;
                    6
                }
                "node" => {
                    event.node = Some(map.next_value_seed(SymSeed)?);
                    7
                }
                "intended" => {
                    event.intended_ns = Some(map.next_value()?);
                    8
                }
                "error" => {
                    event.error = Some(map.next_value_seed(SymSeed)?);
                    9
                }
                other => {
                    return Err(A::Error::custom(format_args!(
                        "unknown field `{other}`; an event has index, time, type, process, f, key, value, node, intended, error"
                    )));
                }
            };
            if seen & 1 << bit != 0 {
                return Err(A::Error::custom(format_args!("field `{field}` appears twice")));
            }
            seen |= 1 << bit;
        }
        event.kind = kind.ok_or_else(|| A::Error::custom("field `type` is missing"))?;
        event.f = f.ok_or_else(|| A::Error::custom("field `f` is missing"))?;
        Ok(event)
    }
}

struct KindSeed;

impl<'de> DeserializeSeed<'de> for KindSeed {
    type Value = EventKind;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<EventKind, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for KindSeed {
    type Value = EventKind;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("the type of an event")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<EventKind, E> {
        crate::event::ALL_KINDS.into_iter().find(|kind| kind.as_str() == text).ok_or_else(|| {
            E::custom(format_args!("unknown type `{text}`; types are invoke, ok, fail, info, nemesis, phase"))
        })
    }
}

struct SymSeed;

impl<'de> DeserializeSeed<'de> for SymSeed {
    type Value = Sym;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Sym, D::Error> {
        deserializer.deserialize_str(self)
    }
}

impl Visitor<'_> for SymSeed {
    type Value = Sym;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("a string")
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Sym, E> {
        Ok(Sym::new(text))
    }
}

#[derive(Clone, Copy)]
struct ValueSeed;

impl<'de> DeserializeSeed<'de> for ValueSeed {
    type Value = Value;

    fn deserialize<D: Deserializer<'de>>(self, deserializer: D) -> Result<Value, D::Error> {
        deserializer.deserialize_any(self)
    }
}

impl<'de> Visitor<'de> for ValueSeed {
    type Value = Value;

    fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("null, a truth value, a whole number of 64 bits, a string, a list or a map")
    }

    fn visit_unit<E: Error>(self) -> Result<Value, E> {
        Ok(Value::Nil)
    }

    fn visit_bool<E: Error>(self, b: bool) -> Result<Value, E> {
        Ok(Value::Bool(b))
    }

    fn visit_i64<E: Error>(self, n: i64) -> Result<Value, E> {
        Ok(Value::Int(n))
    }

    fn visit_u64<E: Error>(self, n: u64) -> Result<Value, E> {
        i64::try_from(n).map(Value::Int).map_err(|_| E::custom(format_args!("{n} does not fit into 64 bits with sign")))
    }

    fn visit_str<E: Error>(self, text: &str) -> Result<Value, E> {
        Ok(Value::str(text))
    }

    fn visit_seq<A: SeqAccess<'de>>(self, mut seq: A) -> Result<Value, A::Error> {
        let mut items = Vec::new();
        while let Some(item) = seq.next_element_seed(ValueSeed)? {
            items.push(item);
        }
        Ok(Value::List(items.into()))
    }

    fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Value, A::Error> {
        let mut pairs = Vec::new();
        while let Some(key) = map.next_key_seed(SymSeed)? {
            let value = map.next_value_seed(ValueSeed)?;
            if key == MAP_KEY && pairs.is_empty() {
                if map.next_key_seed(SymSeed)?.is_some() {
                    return Err(A::Error::custom("`$map` stands alone in its object"));
                }
                return pairs_of(value).ok_or_else(|| A::Error::custom("`$map` is a list of [key, value] pairs"));
            }
            pairs.push((Value::Str(key), value));
        }
        Ok(Value::Map(pairs.into()))
    }
}

fn pairs_of(value: Value) -> Option<Value> {
    let Value::List(items) = value else { return None };
    let pairs = items.into_iter().map(|item| match item {
        Value::List(pair) => <[Value; 2]>::try_from(pair.into_vec()).ok().map(|[key, value]| (key, value)),
        _ => None,
    });
    pairs.collect::<Option<Box<[_]>>>().map(Value::Map)
}

//! Jepsen's histories: a map an event, one after the other or in one vector or list.
//!
//! Client events need `:type` and `:f`. A missing `:process` is process 0. `:key` is read where there is one; with
//! [`ImportOptions::independent_keys`], `:value [k v]` is value `v` of key `k`. Whatever the process `:nemesis` does
//! becomes a nemesis event. Other fields are skipped.

use super::edn::{Edn, EdnReader};
use super::{ImportOptions, blank};
use crate::{Event, EventKind, History, HistoryError, Sym, Value};

/// Reads all events of a text.
pub(super) fn read(bytes: &[u8], options: &ImportOptions) -> Result<History, HistoryError> {
    let mut reader = EdnReader::new(bytes, 1);
    let mut history = History::new();
    // One vector (or list) of maps is read without building it.
    let mut close = None;
    loop {
        let next = reader.peek()?;
        let place = reader.place();
        match next {
            None if close.is_some() => return Err(EdnReader::error_at(place, "the history ends before its bracket")),
            None => return Ok(history),
            Some(open @ (b'[' | b'(')) if close.is_none() => {
                close = Some(if open == b'[' { b']' } else { b')' });
                reader.skip();
            }
            Some(byte) if close == Some(byte) => {
                close = None;
                reader.skip();
            }
            Some(_) => {
                let Edn::Map(fields) = reader.form()? else {
                    return Err(EdnReader::error_at(place, "an event is a map such as `{:type :invoke, :f :read}`"));
                };
                let at = history.len();
                let event = event(fields, at, options).map_err(|message| EdnReader::error_at(place, message))?;
                history.push(event)?;
            }
        }
    }
}

fn event(fields: Vec<(Edn, Edn)>, index: usize, options: &ImportOptions) -> Result<Event, String> {
    let mut event = blank(index, EventKind::Invoke, Sym::new(""));
    let (mut kind, mut has_f, mut nemesis) = (None, false, false);
    for (name, value) in fields {
        let Edn::Keyword(name) = name else { continue };
        match name.as_str() {
            "type" => kind = Some(kind_of(&value)?),
            "f" => {
                event.f = Sym::new(&text(value));
                has_f = true;
            }
            "process" => match value {
                Edn::Int(n) => {
                    event.process = u32::try_from(n).map_err(|_| format!("`:process {n}` is no process"))?;
                }
                Edn::Nil => {}
                Edn::Keyword(_) | Edn::Symbol(_) | Edn::Str(_) => nemesis = true,
                other => return Err(format!("`:process {}` is neither a number nor `:nemesis`", text(other))),
            },
            "time" => event.time_ns = time(value)?,
            "intended" => event.intended_ns = Some(time(value)?),
            "key" => event.key = value.into_value(),
            "value" => event.value = value.into_value(),
            "node" if value != Edn::Nil => event.node = Some(Sym::new(&text(value))),
            "error" if value != Edn::Nil => event.error = Some(Sym::new(&text(value))),
            _ => {}
        }
    }
    event.kind = kind.ok_or("an event needs a `:type`")?;
    if !has_f {
        return Err("an event needs an `:f`".into());
    }
    if nemesis && event.kind != EventKind::Phase {
        event.kind = EventKind::Nemesis;
    }
    if options.independent_keys && !matches!(event.kind, EventKind::Nemesis | EventKind::Phase) {
        split_tuple(&mut event)?;
    }
    Ok(event)
}

fn kind_of(value: &Edn) -> Result<EventKind, String> {
    let (Edn::Keyword(word) | Edn::Str(word) | Edn::Symbol(word)) = value else {
        return Err("`:type` is a keyword such as `:invoke`".into());
    };
    crate::event::ALL_KINDS
        .into_iter()
        .find(|kind| kind.as_str() == word)
        .ok_or_else(|| format!("unknown type `:{word}`; types are :invoke, :ok, :fail and :info"))
}

fn time(value: Edn) -> Result<u64, String> {
    match value {
        Edn::Int(n) => u64::try_from(n).map_err(|_| format!("the time {n} lies before the start of the run")),
        Edn::Nil => Ok(0),
        other => Err(format!("the time `{}` is no whole number of nanoseconds", text(other))),
    }
}

fn text(value: Edn) -> String {
    value.into_value().to_string()
}

/// `[k v]` as value `v` of key `k`.
fn split_tuple(event: &mut Event) -> Result<(), String> {
    match std::mem::take(&mut event.value) {
        // A completion that knows nothing keeps the key of its invocation.
        Value::Nil => Ok(()),
        Value::List(pair) if pair.len() == 2 => {
            let mut pair = pair.into_iter();
            event.key = pair.next().unwrap_or_default();
            event.value = pair.next().unwrap_or_default();
            Ok(())
        }
        other => Err(format!("with independent keys a value is `[key value]`, not `{other}`")),
    }
}

//! Histories for other tools: JSON Lines and Jepsen's EDN.

use crate::format::Encoder;
use crate::{Event, EventKind, History, HistoryError, Value};
use std::io::{self, Write};

/// Text is handed over in pieces of about this size (bytes).
const CHUNK_LEN: usize = 64 << 10;

/// Writes one JSON object a line, the same lines as inside a history file.
///
/// # Errors
/// When `out` does not take them.
pub fn export_jsonl(history: &History, mut out: impl Write) -> Result<(), HistoryError> {
    let mut encoder = Encoder::default();
    export(history, &mut out, |text, event| encoder.line(text, event))
}

/// Writes one EDN map a line, as Jepsen does. Nemesis events have the process `:nemesis` and the type `:info`; phases
/// are nemesis events named `:phase`. The key of an operation is `:key`, left out where it is nil. Strings stay
/// strings: what was a keyword once is not known any more, except for `:f`.
///
/// # Errors
/// When `out` does not take them.
pub fn export_edn(history: &History, mut out: impl Write) -> Result<(), HistoryError> {
    export(history, &mut out, |text, event| {
        // Writing to memory cannot fail.
        let _ = edn_line(text, event);
    })
}

fn export(
    history: &History,
    out: &mut impl Write,
    mut line: impl FnMut(&mut Vec<u8>, &Event),
) -> Result<(), HistoryError> {
    let mut text = Vec::with_capacity(CHUNK_LEN * 2);
    for event in history.iter() {
        line(&mut text, &event);
        if text.len() >= CHUNK_LEN {
            out.write_all(&text).map_err(HistoryError::Export)?;
            text.clear();
        }
    }
    out.write_all(&text).and_then(|()| out.flush()).map_err(HistoryError::Export)
}

fn edn_line(out: &mut Vec<u8>, event: &Event) -> io::Result<()> {
    write!(out, "{{:index {}, :time {}, ", event.index, event.time_ns)?;
    match event.kind {
        EventKind::Nemesis => {
            out.extend_from_slice(b":type :info, :process :nemesis, :f ");
            keyword(out, event.f.as_str())?;
        }
        EventKind::Phase => {
            out.extend_from_slice(b":type :info, :process :nemesis, :f :phase, :value ");
            keyword(out, event.f.as_str())?;
            return writeln!(out, "}}");
        }
        kind => {
            write!(out, ":type :{}, :process {}, :f ", kind.as_str(), event.process)?;
            keyword(out, event.f.as_str())?;
        }
    }
    if !event.key.is_nil() {
        out.extend_from_slice(b", :key ");
        value(out, &event.key)?;
    }
    out.extend_from_slice(b", :value ");
    value(out, &event.value)?;
    if let Some(node) = event.node {
        out.extend_from_slice(b", :node ");
        string(out, node.as_str())?;
    }
    if let Some(intended_ns) = event.intended_ns {
        write!(out, ", :intended {intended_ns}")?;
    }
    if let Some(error) = event.error {
        out.extend_from_slice(b", :error ");
        string(out, error.as_str())?;
    }
    writeln!(out, "}}")
}

/// A keyword, or a string where the text cannot be one.
fn keyword(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    let plain = text.starts_with(|c: char| c.is_ascii_alphabetic())
        && text.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_+*!?.<>=".contains(&b));
    if plain { write!(out, ":{text}") } else { string(out, text) }
}

fn string(out: &mut Vec<u8>, text: &str) -> io::Result<()> {
    out.push(b'"');
    for c in text.chars() {
        match c {
            '"' => out.extend_from_slice(b"\\\""),
            '\\' => out.extend_from_slice(b"\\\\"),
            '\n' => out.extend_from_slice(b"\\n"),
            '\r' => out.extend_from_slice(b"\\r"),
            '\t' => out.extend_from_slice(b"\\t"),
            c if c.is_ascii_control() => write!(out, "\\u{:04x}", u32::from(c))?,
            c => write!(out, "{c}")?,
        }
    }
    out.push(b'"');
    Ok(())
}

fn value(out: &mut Vec<u8>, v: &Value) -> io::Result<()> {
    match v {
        Value::Nil => write!(out, "nil"),
        Value::Bool(b) => write!(out, "{b}"),
        Value::Int(n) => write!(out, "{n}"),
        Value::Str(s) => string(out, s.as_str()),
        Value::List(items) => {
            out.push(b'[');
            for (i, item) in items.iter().enumerate() {
                out.extend_from_slice(if i > 0 { b" " } else { b"" });
                value(out, item)?;
            }
            out.push(b']');
            Ok(())
        }
        Value::Map(pairs) => {
            out.push(b'{');
            for (i, (key, item)) in pairs.iter().enumerate() {
                out.extend_from_slice(if i > 0 { b", " } else { b"" });
                value(out, key)?;
                out.push(b' ');
                value(out, item)?;
            }
            out.push(b'}');
            Ok(())
        }
    }
}

//! Events to JSON, by hand: the journal must not be what limits the rate of a test.

use crate::{Event, Sym, Value};
use std::collections::HashSet;

/// Quoted texts are remembered for symbols below this number: the vocabulary of a run is interned early.
const CACHED_SYMS_MAX: usize = 4096;

/// The name under which maps are written that are no JSON objects.
pub(super) const MAP_KEY: &str = "$map";

/// Appends events as JSON lines to a buffer.
#[derive(Default)]
pub(crate) struct Encoder {
    /// Symbol -> its text in quotes, escaped.
    quoted: Vec<Option<Box<[u8]>>>,
    digits: itoa::Buffer,
}

impl Encoder {
    /// Appends one line, newline included.
    pub(crate) fn line(&mut self, out: &mut Vec<u8>, event: &Event) {
        out.extend_from_slice(b"{\"index\":");
        self.unsigned(out, event.index);
        out.extend_from_slice(b",\"time\":");
        self.unsigned(out, event.time_ns);
        out.extend_from_slice(b",\"type\":\"");
        out.extend_from_slice(event.kind.as_str().as_bytes());
        out.extend_from_slice(b"\",\"process\":");
        self.unsigned(out, u64::from(event.process));
        out.extend_from_slice(b",\"f\":");
        self.sym(out, event.f);
        out.extend_from_slice(b",\"key\":");
        self.value(out, &event.key);
        out.extend_from_slice(b",\"value\":");
        self.value(out, &event.value);
        if let Some(node) = event.node {
            out.extend_from_slice(b",\"node\":");
            self.sym(out, node);
        }
        if let Some(intended_ns) = event.intended_ns {
            out.extend_from_slice(b",\"intended\":");
            self.unsigned(out, intended_ns);
        }
        if let Some(error) = event.error {
            out.extend_from_slice(b",\"error\":");
            self.sym(out, error);
        }
        out.extend_from_slice(b"}\n");
    }

    fn unsigned(&mut self, out: &mut Vec<u8>, n: u64) {
        out.extend_from_slice(self.digits.format(n).as_bytes());
    }

    fn sym(&mut self, out: &mut Vec<u8>, sym: Sym) {
        let id = sym.id() as usize;
        if id >= CACHED_SYMS_MAX {
            return quote(out, sym.as_str());
        }
        if id >= self.quoted.len() {
            self.quoted.resize(id + 1, None);
        }
        let text = self.quoted[id].get_or_insert_with(|| {
            let mut text = Vec::new();
            quote(&mut text, sym.as_str());
            text.into()
        });
        out.extend_from_slice(text);
    }

    fn value(&mut self, out: &mut Vec<u8>, value: &Value) {
        match value {
            Value::Nil => out.extend_from_slice(b"null"),
            Value::Bool(true) => out.extend_from_slice(b"true"),
            Value::Bool(false) => out.extend_from_slice(b"false"),
            Value::Int(n) => out.extend_from_slice(self.digits.format(*n).as_bytes()),
            Value::Str(sym) => self.sym(out, *sym),
            Value::List(items) => {
                out.push(b'[');
                for (i, item) in items.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    self.value(out, item);
                }
                out.push(b']');
            }
            Value::Map(pairs) if is_object(pairs) => {
                out.push(b'{');
                for (i, (key, value)) in pairs.iter().enumerate() {
                    if i > 0 {
                        out.push(b',');
                    }
                    self.value(out, key);
                    out.push(b':');
                    self.value(out, value);
                }
                out.push(b'}');
            }
            Value::Map(pairs) => {
                out.extend_from_slice(b"{\"$map\":[");
                for (i, (key, value)) in pairs.iter().enumerate() {
                    out.extend_from_slice(if i > 0 { b",[" } else { b"[" });
                    self.value(out, key);
                    out.push(b',');
                    self.value(out, value);
                    out.push(b']');
                }
                out.extend_from_slice(b"]}");
            }
        }
    }
}

/// Whether a JSON object says the same: other tools keep one of two equal keys, and all keys are strings.
fn is_object(pairs: &[(Value, Value)]) -> bool {
    let mut seen = HashSet::with_capacity(pairs.len());
    pairs.iter().all(|(key, _)| matches!(key, Value::Str(s) if *s != MAP_KEY && seen.insert(*s)))
}

/// `text` as a JSON string.
fn quote(out: &mut Vec<u8>, text: &str) {
    out.push(b'"');
    for &byte in text.as_bytes() {
        match byte {
            b'"' => out.extend_from_slice(b"\\\""),
            b'\\' => out.extend_from_slice(b"\\\\"),
            b'\n' => out.extend_from_slice(b"\\n"),
            b'\r' => out.extend_from_slice(b"\\r"),
            b'\t' => out.extend_from_slice(b"\\t"),
            0..0x20 | 0x7f => {
                let hex = |digit: u8| b"0123456789abcdef"[usize::from(digit)];
                out.extend_from_slice(&[b'\\', b'u', b'0', b'0', hex(byte >> 4), hex(byte & 15)]);
            }
            _ => out.push(byte),
        }
    }
    out.push(b'"');
}

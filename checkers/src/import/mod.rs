//! Histories in other people's formats, recognised by their content.
//!
//! | format | looks like |
//! |---|---|
//! | history file | zstd frames of JSON Lines, see [`crate::HistoryWriter`] |
//! | JSON Lines | `{"index":0,"type":"invoke",…}` a line |
//! | Jepsen EDN | `{:type :invoke, :process 0, …}` a line, or one vector or list of such maps |
//! | Jepsen log | `INFO  jepsen.util - 0 :invoke :read nil`, tab separated |
//! | Porcupine JSON | `[{"ClientId":0,"Input":…,"Call":1,"Output":…,"Return":2},…]`, or one a line |
//! | object log | `[1] call push(x)`, `[1] return y` |
//!
//! Indexes of formats without dense ones are assigned in the order of the lines.

mod edn;
mod jepsen;
mod jepsen_log;
mod objects;
mod porcupine;
mod stream;
#[cfg(test)]
mod tests;

pub use stream::EventStream;

use crate::format::{HistoryReader, Truncated, ZSTD_MAGIC, parse_line};
use crate::{Event, EventKind, History, HistoryError, Sym, Value};
use std::path::Path;

/// How to read what the content alone does not say.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ImportOptions {
    /// Take `:value [k v]` as value `v` of the independent key `k` (Jepsen's `independent/tuple`). EDN only.
    pub independent_keys: bool,
}

/// What the content of a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// Our own history file.
    History,
    /// One JSON object a line.
    JsonLines,
    /// Jepsen's maps.
    Edn,
    /// Lines logged by old Jepsen versions.
    JepsenLog,
    /// Calls and returns of a concurrent object.
    ObjectLog,
    /// Porcupine's operations as JSON.
    Porcupine,
}

/// Recognises a format by the first line that says something.
pub fn detect(bytes: &[u8]) -> Option<Format> {
    if bytes.starts_with(&ZSTD_MAGIC) {
        return Some(Format::History);
    }
    if porcupine::looks_like(bytes) {
        return Some(Format::Porcupine);
    }
    let first = bytes.split(|&byte| byte == b'\n').map(<[u8]>::trim_ascii).find(|line| {
        // Comments of object logs and of EDN; a set, a tag or a discarded form is not one.
        let comment = line.starts_with(b";") || line.starts_with(b"# ") || *line == b"#";
        !line.is_empty() && !comment
    })?;
    let after_bracket = |open: u8| first.strip_prefix(&[open]).map(<[u8]>::trim_ascii_start);
    if after_bracket(b'{').is_some_and(|rest| rest.starts_with(b"\"")) {
        Some(Format::JsonLines)
    } else if objects::looks_like(first) {
        Some(Format::ObjectLog)
    } else if jepsen_log::looks_like(first) || jepsen_log::holds(bytes, first) {
        Some(Format::JepsenLog)
    } else if matches!(first[0], b'{' | b'[' | b'(' | b'#') {
        Some(Format::Edn)
    } else {
        None
    }
}

/// Reads a history in any known format. The note says when the file ends in the middle of a frame.
///
/// # Errors
/// When the file cannot be read, its format is not known, or a line does not follow it.
pub fn read_any(path: impl AsRef<Path>, options: &ImportOptions) -> Result<(History, Option<Truncated>), HistoryError> {
    let path = path.as_ref();
    let io = |source| HistoryError::Io { action: "read", path: path.to_owned(), source };
    let mut file = std::fs::File::open(path).map_err(io)?;
    let mut start = Vec::new();
    std::io::Read::read_to_end(&mut std::io::Read::take(&mut file, 4), &mut start).map_err(io)?;
    if start.len() < 4 && ZSTD_MAGIC.starts_with(&start) {
        // Killed before its first frame was written: a history of nothing.
        let note = Truncated { events: 0, offset: 0, bytes_lost: start.len() as u64 };
        return Ok((History::new(), (!start.is_empty()).then_some(note)));
    }
    if start == ZSTD_MAGIC {
        return HistoryReader::read_file(path);
    }
    std::io::Read::read_to_end(&mut file, &mut start).map_err(io)?;
    read_text(&start, options).map(|history| (history, None))
}

/// Reads a history from text in any known text format.
///
/// # Errors
/// When its format is not known, or a line does not follow it.
pub fn read_text(bytes: &[u8], options: &ImportOptions) -> Result<History, HistoryError> {
    match detect(bytes) {
        Some(Format::JsonLines) => read_json_lines(bytes),
        Some(Format::Edn) => jepsen::read(bytes, options),
        Some(Format::JepsenLog) => jepsen_log::read(bytes),
        Some(Format::ObjectLog) => objects::read(bytes),
        Some(Format::Porcupine) => porcupine::read(bytes),
        Some(Format::History) | None => {
            let start = String::from_utf8_lossy(&bytes[..bytes.len().min(40)]).into_owned();
            Err(HistoryError::UnknownFormat(match start.lines().find(|line| !line.trim().is_empty()) {
                Some(line) => format!("it starts with {line:?}"),
                None => "it is empty".to_owned(),
            }))
        }
    }
}

fn read_json_lines(bytes: &[u8]) -> Result<History, HistoryError> {
    let mut history = History::new();
    for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        if !line.trim_ascii().is_empty() {
            history.push(parse_line(line, at as u64 + 1, history.len() as u64)?)?;
        }
    }
    Ok(history)
}

/// An event about which nothing is known yet but its place.
fn blank(index: usize, kind: EventKind, f: Sym) -> Event {
    Event {
        index: index as u64,
        time_ns: 0,
        kind,
        process: 0,
        f,
        key: Value::Nil,
        value: Value::Nil,
        node: None,
        intended_ns: None,
        error: None,
    }
}

//! Lines logged by Jepsen: `INFO  jepsen.util - PROCESS<tab>:TYPE<tab>:F<tab>VALUE`, with whatever comes before the process.
//!
//! A value such as `:timed-out` on an `:info` or `:fail` line is why the operation ended so, not a result.

use super::blank;
use super::edn::{Edn, EdnReader};
use crate::{EventKind, History, HistoryError, Sym};

const TYPES: [(&str, EventKind); 4] =
    [(":invoke", EventKind::Invoke), (":ok", EventKind::Ok), (":fail", EventKind::Fail), (":info", EventKind::Info)];

/// A log may begin with other lines (bytes).
const LOOKED_AT: usize = 256 << 10;

fn is_type(field: &[u8]) -> bool {
    TYPES.iter().any(|(word, _)| word.as_bytes() == field)
}

/// Whether a line is one of this format.
pub(super) fn looks_like(line: &[u8]) -> bool {
    let mut fields = line.split(|&byte| byte == b'\t');
    let who = fields.next().unwrap_or_default().rsplit(|&byte| byte == b' ').next().unwrap_or_default();
    (who.starts_with(b":") || !who.is_empty() && who.iter().all(u8::is_ascii_digit))
        && fields.next().is_some_and(is_type)
}

/// Whether a text that begins like a log (with a level or a date) holds such a line somewhere near its beginning.
pub(super) fn holds(bytes: &[u8], first: &[u8]) -> bool {
    let is_log = ["INFO", "WARN", "ERROR", "DEBUG"].iter().any(|level| first.starts_with(level.as_bytes()))
        || first.first().is_some_and(u8::is_ascii_digit);
    let near = &bytes[..bytes.len().min(LOOKED_AT)];
    is_log && near.split(|&byte| byte == b'\n').any(|line| event_start(line).is_some())
}

/// Where the field with the process begins; later Jepsen versions write tabs before it, too.
fn event_start(line: &[u8]) -> Option<usize> {
    let mut at = 0;
    while !looks_like(&line[at..]) {
        at += line[at..].iter().position(|&byte| byte == b'\t')? + 1;
    }
    Some(at)
}

/// Reads all events of a text. Lines that log something else are skipped.
pub(super) fn read(bytes: &[u8]) -> Result<History, HistoryError> {
    let mut history = History::new();
    for (at, line) in bytes.split(|&byte| byte == b'\n').enumerate() {
        let number = at as u64 + 1;
        let syntax =
            |column: usize, message: String| HistoryError::Syntax { line: number, column: column as u64 + 1, message };
        let line = std::str::from_utf8(line).map_err(|e| syntax(e.valid_up_to(), "not UTF-8".into()))?;
        let line = line.trim_end();
        let start = event_start(line.as_bytes()).unwrap_or(0);
        let mut fields = line[start..].splitn(4, '\t');
        let head = fields.next().unwrap_or_default();
        let (Some(kind), Some(f)) = (fields.next(), fields.next()) else { continue };
        if !kind.starts_with(':') {
            continue;
        }
        let who = head.rsplit(' ').next().unwrap_or_default();
        let Some(&(_, kind)) = TYPES.iter().find(|(word, _)| *word == kind) else {
            return Err(syntax(start + head.len() + 1, format!("unknown type `{kind}`")));
        };
        let mut event = blank(history.len(), kind, Sym::new(f.trim_start_matches(':')));
        if who.starts_with(':') {
            event.kind = EventKind::Nemesis;
        } else {
            event.process = who.parse().map_err(|_| {
                syntax(start + head.len() - who.len(), format!("`{who}` is neither a process number nor `:nemesis`"))
            })?;
        }
        let value = fields.next().unwrap_or("nil");
        let column = line.len() - value.len();
        match EdnReader::new(value.as_bytes(), 1).form() {
            Ok(Edn::Keyword(why)) if matches!(kind, EventKind::Info | EventKind::Fail) => {
                event.error = Some(Sym::new(&why));
            }
            Ok(form) => event.value = form.into_value(),
            Err(HistoryError::Syntax { column: inside, message, .. }) => {
                return Err(syntax(column + inside as usize - 1, message));
            }
            Err(other) => return Err(other),
        }
        history.push(event)?;
    }
    Ok(history)
}

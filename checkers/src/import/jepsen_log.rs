//! Lines logged by old Jepsen versions: `INFO  jepsen.util - PROCESS<tab>:TYPE<tab>:F<tab>VALUE`.
//!
//! A value such as `:timed-out` on an `:info` or `:fail` line is why the operation ended so, not a result.

use super::blank;
use super::edn::{Edn, EdnReader};
use crate::{EventKind, History, HistoryError, Sym};

const TYPES: [(&str, EventKind); 4] =
    [(":invoke", EventKind::Invoke), (":ok", EventKind::Ok), (":fail", EventKind::Fail), (":info", EventKind::Info)];

/// Whether a line is one of this format.
pub(super) fn looks_like(line: &[u8]) -> bool {
    let mut fields = line.split(|&byte| byte == b'\t');
    let first = fields.next().unwrap_or_default();
    (first.starts_with(b"INFO") || first.iter().all(u8::is_ascii_digit))
        && fields.next().is_some_and(|kind| TYPES.iter().any(|(word, _)| word.as_bytes() == kind))
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
        let mut fields = line.splitn(4, '\t');
        let head = fields.next().unwrap_or_default();
        let (Some(kind), Some(f)) = (fields.next(), fields.next()) else { continue };
        let who = head.rsplit(' ').next().unwrap_or_default();
        let Some(&(_, kind)) = TYPES.iter().find(|(word, _)| *word == kind) else {
            return Err(syntax(head.len() + 1, format!("unknown type `{kind}`")));
        };
        let mut event = blank(history.len(), kind, Sym::new(f.trim_start_matches(':')));
        if who.starts_with(':') {
            event.kind = EventKind::Nemesis;
        } else {
            event.process = who.parse().map_err(|_| {
                syntax(head.len() - who.len(), format!("`{who}` is neither a process number nor `:nemesis`"))
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

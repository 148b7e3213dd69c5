//! Lines exactly as our own writer writes them, read without a general JSON parser.
//!
//! Fields in their order, no spaces, numbers of up to 18 digits, texts without escapes. Anything else is not an error but
//! `None`: then [`super::parse_line`] reads the line, and says what is wrong with it if something is.

use crate::{Event, EventKind, Sym, Value};

/// Texts seen lately, so that the table of all symbols is seldom asked.
pub(crate) struct Vocabulary {
    slots: [Option<Sym>; 256],
}

impl Vocabulary {
    pub(crate) fn new() -> Self {
        Self { slots: [None; 256] }
    }

    fn sym(&mut self, text: &[u8]) -> Option<Sym> {
        let at = |place: usize| text.get(place).map_or(0, |&byte| usize::from(byte));
        let slot = at(0) + 31 * at(1) + 7 * at(text.len() / 2) + 61 * at(text.len().wrapping_sub(1)) + text.len();
        let slot = &mut self.slots[slot % 256];
        match slot {
            Some(sym) if sym.as_str().as_bytes() == text => Some(*sym),
            _ => {
                *slot = Some(Sym::new(std::str::from_utf8(text).ok()?));
                *slot
            }
        }
    }
}

/// The event of the first line of `text` and the length of that line, newline included.
pub(crate) fn parse(text: &[u8], vocabulary: &mut Vocabulary) -> Option<(Event, usize)> {
    let rest = text.strip_prefix(b"{\"index\":")?;
    let (index, rest) = unsigned(rest)?;
    let (time_ns, rest) = unsigned(rest.strip_prefix(b",\"time\":")?)?;
    let (kind, rest) = kind(rest.strip_prefix(b",\"type\":\"")?)?;
    let (process, rest) = unsigned(rest.strip_prefix(b"\",\"process\":")?)?;
    let (f, rest) = sym(rest.strip_prefix(b",\"f\":")?, vocabulary)?;
    let (key, rest) = value(rest.strip_prefix(b",\"key\":")?, vocabulary)?;
    let (value, mut rest) = value(rest.strip_prefix(b",\"value\":")?, vocabulary)?;
    let process = u32::try_from(process).ok()?;
    let mut event = Event { index, time_ns, kind, process, f, key, value, node: None, intended_ns: None, error: None };
    if let Some(after) = rest.strip_prefix(b",\"node\":") {
        let (node, after) = sym(after, vocabulary)?;
        (event.node, rest) = (Some(node), after);
    }
    if let Some(after) = rest.strip_prefix(b",\"intended\":") {
        let (intended_ns, after) = unsigned(after)?;
        (event.intended_ns, rest) = (Some(intended_ns), after);
    }
    if let Some(after) = rest.strip_prefix(b",\"error\":") {
        let (error, after) = sym(after, vocabulary)?;
        (event.error, rest) = (Some(error), after);
    }
    let rest = rest.strip_prefix(b"}\n")?;
    Some((event, text.len() - rest.len()))
}

/// More digits might not fit.
const DIGITS_MAX: usize = 18;

fn unsigned(text: &[u8]) -> Option<(u64, &[u8])> {
    let len = text.iter().take(DIGITS_MAX + 1).take_while(|byte| byte.is_ascii_digit()).count();
    // JSON knows no leading zeros.
    let is_plain = (1..=DIGITS_MAX).contains(&len) && (len == 1 || text[0] != b'0');
    let number = || text[..len].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0'));
    is_plain.then(|| (number(), &text[len..]))
}

fn kind(text: &[u8]) -> Option<(EventKind, &[u8])> {
    [EventKind::Ok, EventKind::Invoke, EventKind::Fail, EventKind::Info]
        .into_iter()
        .find_map(|kind| text.strip_prefix(kind.as_str().as_bytes()).map(|rest| (kind, rest)))
}

fn sym<'t>(text: &'t [u8], vocabulary: &mut Vocabulary) -> Option<(Sym, &'t [u8])> {
    let text = text.strip_prefix(b"\"")?;
    let len = text.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
    let rest = text[len..].strip_prefix(b"\"")?;
    Some((vocabulary.sym(&text[..len])?, rest))
}

fn value<'t>(text: &'t [u8], vocabulary: &mut Vocabulary) -> Option<(Value, &'t [u8])> {
    match *text.first()? {
        b'0'..=b'9' => unsigned(text).map(|(number, rest)| (Value::Int(number as i64), rest)),
        b'-' => {
            let (number, rest) = unsigned(&text[1..]).filter(|&(number, _)| number > 0)?;
            Some((Value::Int(-(number as i64)), rest))
        }
        b'"' => sym(text, vocabulary).map(|(sym, rest)| (Value::Str(sym), rest)),
        b'n' => text.strip_prefix(b"null").map(|rest| (Value::Nil, rest)),
        b't' => text.strip_prefix(b"true").map(|rest| (Value::Bool(true), rest)),
        b'f' => text.strip_prefix(b"false").map(|rest| (Value::Bool(false), rest)),
        _ => None,
    }
}

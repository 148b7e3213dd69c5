//! Lines exactly as our own writer writes them, read without a general JSON parser.
//!
//! Fields in their order, no spaces, numbers of up to 18 digits, texts without escapes. Anything else is not an error but
//! `None`: then [`super::parse_line`] reads the line, and says what is wrong with it if something is.

use crate::{Event, EventKind, Sym, Value};

/// Texts seen lately, so that the table of all symbols is seldom asked.
pub(crate) struct Vocabulary {
    slots: [Option<(Sym, &'static str)>; 256],
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
            Some((sym, known)) if known.as_bytes() == text => Some(*sym),
            _ => {
                let sym = Sym::new(std::str::from_utf8(text).ok()?);
                *slot = Some((sym, sym.as_str()));
                Some(sym)
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

#[inline]
fn unsigned(text: &[u8]) -> Option<(u64, &[u8])> {
    let (mut number, mut len) = digits(text);
    if len == 8 {
        let (more, more_len) = digits(&text[8..]);
        (number, len) = (number * POWERS[more_len] + more, 8 + more_len);
        if more_len == 8 {
            // Three digits more are too many already.
            let (more, more_len) = digits(&text[16..]);
            if 16 + more_len > DIGITS_MAX {
                return None;
            }
            (number, len) = (number * POWERS[more_len] + more, 16 + more_len);
        }
    }
    // JSON knows no leading zeros.
    let is_plain = len == 1 || len > 1 && text[0] != b'0';
    is_plain.then(|| (number, &text[len..]))
}

const POWERS: [u64; 9] = [1, 10, 100, 1000, 10_000, 100_000, 1_000_000, 10_000_000, 100_000_000];

/// The number that up to eight digits at the start make, and how many digits there are: all of them in one word.
#[inline]
fn digits(text: &[u8]) -> (u64, usize) {
    let Some(word) = text.first_chunk::<8>() else {
        let len = text.iter().take_while(|byte| byte.is_ascii_digit()).count();
        return (text[..len].iter().fold(0, |number, digit| number * 10 + u64::from(digit - b'0')), len);
    };
    // A digit becomes its value, anything else more than 9: adding 0x76 to it, or it itself, shows in the highest bit.
    // What is carried over only reaches bytes behind the first that is no digit.
    let word = u64::from_le_bytes(*word) ^ 0x3030_3030_3030_3030;
    let others = (word.wrapping_add(0x7676_7676_7676_7676) | word) & 0x8080_8080_8080_8080;
    let len = others.trailing_zeros() as usize / 8;
    if len == 0 {
        return (0, 0);
    }
    // Zeros in front instead of what follows; then digits, pairs and fours of them are put together.
    let word = word << (8 * (8 - len));
    let pairs = (word.wrapping_mul(10) + (word >> 8)) & 0x00ff_00ff_00ff_00ff;
    let fours = (pairs.wrapping_mul(100) + (pairs >> 16)) & 0x0000_ffff_0000_ffff;
    let number = (fours.wrapping_mul(10_000) + (fours >> 32)) & 0xffff_ffff;
    (number, len)
}

#[inline]
fn kind(text: &[u8]) -> Option<(EventKind, &[u8])> {
    let (kind, rest) = match text {
        [b'o', b'k', rest @ ..] => (EventKind::Ok, rest),
        [b'i', b'n', b'v', b'o', b'k', b'e', rest @ ..] => (EventKind::Invoke, rest),
        [b'f', b'a', b'i', b'l', rest @ ..] => (EventKind::Fail, rest),
        [b'i', b'n', b'f', b'o', rest @ ..] => (EventKind::Info, rest),
        _ => return None,
    };
    Some((kind, rest))
}

#[inline]
fn sym<'t>(text: &'t [u8], vocabulary: &mut Vocabulary) -> Option<(Sym, &'t [u8])> {
    let text = text.strip_prefix(b"\"")?;
    let len = text.iter().position(|&byte| byte == b'"' || byte == b'\\' || byte < 0x20)?;
    let rest = text[len..].strip_prefix(b"\"")?;
    Some((vocabulary.sym(&text[..len])?, rest))
}

#[inline]
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn numbers_are_read_as_by_the_standard_library(number: u64, len in 1usize..=20, after in "[^0-9]{0,9}") {
            let digits = format!("{number:020}");
            let digits = &digits[20 - len..];
            let text = format!("{digits}{after}");
            let is_plain = digits == "0" || !digits.starts_with('0') && digits.len() <= DIGITS_MAX;
            let expected = is_plain.then(|| (digits.parse::<u64>().unwrap(), after.as_bytes()));
            prop_assert_eq!(unsigned(text.as_bytes()), expected);
        }
    }
}

//! A small reader for EDN, as Clojure prints it.
//!
//! Forms are read one at a time from text in memory; nothing is built for what is not asked for. Knows nil, booleans,
//! numbers, strings, characters, keywords, symbols, lists, vectors, sets, maps, `#_` (discard) and tags, whose form is
//! taken as it is (`#jepsen.history.Op{…}`). What it does not do: namespaced maps (`#:a{…}`), metadata, and the
//! meaning of tags.

use crate::{HistoryError, Value};

/// Deeper nesting than this is refused: the reader calls itself.
const DEPTH_MAX: u32 = 64;

/// An EDN form. Map entries keep their order.
#[derive(Clone, Debug, PartialEq)]
pub(crate) enum Edn {
    Nil,
    Bool(bool),
    Int(i64),
    /// A number that is no 64-bit integer, as it was written.
    Number(String),
    Str(String),
    /// Without its colon.
    Keyword(String),
    Symbol(String),
    /// List, vector or set.
    Seq(Vec<Edn>),
    Map(Vec<(Edn, Edn)>),
}

impl Edn {
    /// The value that a history keeps. Keywords, symbols and odd numbers become strings: a history has no types beyond
    /// [`Value`]'s.
    pub(crate) fn into_value(self) -> Value {
        match self {
            Self::Nil => Value::Nil,
            Self::Bool(b) => Value::Bool(b),
            Self::Int(n) => Value::Int(n),
            Self::Number(text) | Self::Str(text) | Self::Keyword(text) | Self::Symbol(text) => Value::str(&text),
            Self::Seq(items) => Value::list(items.into_iter().map(Self::into_value)),
            Self::Map(pairs) => Value::Map(pairs.into_iter().map(|(k, v)| (k.into_value(), v.into_value())).collect()),
        }
    }
}

/// A place in EDN text.
pub(crate) struct EdnReader<'t> {
    text: &'t [u8],
    at: usize,
    line: u64,
    line_start: usize,
}

impl<'t> EdnReader<'t> {
    /// Reads `text`, whose first line is line number `line`.
    pub(crate) fn new(text: &'t [u8], line: u64) -> Self {
        Self { text, at: 0, line, line_start: 0 }
    }

    /// Where the reader stands (line, column), both from 1.
    pub(crate) fn place(&self) -> (u64, u64) {
        (self.line, (self.at - self.line_start) as u64 + 1)
    }

    /// A syntax error at a place.
    pub(crate) fn error_at((line, column): (u64, u64), message: impl Into<String>) -> HistoryError {
        HistoryError::Syntax { line, column, message: message.into() }
    }

    fn error(&self, message: impl Into<String>) -> HistoryError {
        Self::error_at(self.place(), message)
    }

    fn bump(&mut self) -> Option<u8> {
        let byte = *self.text.get(self.at)?;
        self.at += 1;
        if byte == b'\n' {
            self.line += 1;
            self.line_start = self.at;
        }
        Some(byte)
    }

    /// The next byte that means something, after blanks, commas, comments and discarded forms.
    pub(crate) fn peek(&mut self) -> Result<Option<u8>, HistoryError> {
        self.peek_at_depth(0)
    }

    fn peek_at_depth(&mut self, depth: u32) -> Result<Option<u8>, HistoryError> {
        loop {
            match self.text.get(self.at) {
                None => return Ok(None),
                Some(b' ' | b',' | b'\t' | b'\r' | b'\n' | 0x0c) => {
                    self.bump();
                }
                Some(b';') => {
                    while self.text.get(self.at).is_some_and(|&byte| byte != b'\n') {
                        self.at += 1;
                    }
                }
                Some(b'#') if self.text.get(self.at + 1) == Some(&b'_') => {
                    self.at += 2;
                    self.form_at_depth(depth + 1)?;
                }
                Some(&byte) => return Ok(Some(byte)),
            }
        }
    }

    /// Steps over the byte that [`EdnReader::peek`] saw.
    pub(crate) fn skip(&mut self) {
        self.bump();
    }

    /// The next form.
    pub(crate) fn form(&mut self) -> Result<Edn, HistoryError> {
        self.form_at_depth(0)
    }

    fn form_at_depth(&mut self, depth: u32) -> Result<Edn, HistoryError> {
        if depth > DEPTH_MAX {
            return Err(self.error(format!("nested deeper than {DEPTH_MAX} levels")));
        }
        match self.peek_at_depth(depth)? {
            None => Err(self.error("a form was expected, but the text ends here")),
            Some(b'(') => self.seq(b')', depth),
            Some(b'[') => self.seq(b']', depth),
            Some(b'{') => self.map(depth),
            Some(b'"') => self.string(),
            Some(b'\\') => self.character(),
            Some(b':') => {
                self.at += 1;
                match self.token() {
                    "" => Err(self.error("a keyword has a name after its colon")),
                    name => Ok(Edn::Keyword(name.to_owned())),
                }
            }
            Some(b'#') if self.text.get(self.at + 1) == Some(&b'{') => {
                self.at += 1;
                self.seq(b'}', depth)
            }
            Some(b'#') => {
                self.at += 1;
                if self.token().is_empty() {
                    return Err(self.error("`#` begins a set `#{…}`, a discarded form `#_…` or a tag"));
                }
                self.form_at_depth(depth + 1)
            }
            Some(b')' | b']' | b'}') => Err(self.error("a closing bracket that nothing opened")),
            Some(_) => self.atom(),
        }
    }

    fn seq(&mut self, close: u8, depth: u32) -> Result<Edn, HistoryError> {
        let open = self.place();
        self.bump();
        let mut items = Vec::new();
        loop {
            match self.peek_at_depth(depth)? {
                None => return Err(Self::error_at(open, "the bracket that opens here is never closed")),
                Some(byte) if byte == close => {
                    self.bump();
                    return Ok(Edn::Seq(items));
                }
                Some(_) => items.push(self.form_at_depth(depth + 1)?),
            }
        }
    }

    fn map(&mut self, depth: u32) -> Result<Edn, HistoryError> {
        let open = self.place();
        let Edn::Seq(items) = self.seq(b'}', depth)? else { unreachable!("seq reads sequences") };
        if items.len() % 2 != 0 {
            return Err(Self::error_at(open, "the map that opens here has a key without a value"));
        }
        let mut items = items.into_iter();
        let mut pairs = Vec::with_capacity(items.len() / 2);
        while let (Some(key), Some(value)) = (items.next(), items.next()) {
            pairs.push((key, value));
        }
        Ok(Edn::Map(pairs))
    }

    fn string(&mut self) -> Result<Edn, HistoryError> {
        let open = self.place();
        self.bump();
        let mut bytes = Vec::new();
        loop {
            match self.bump() {
                None => return Err(Self::error_at(open, "the string that begins here never ends")),
                Some(b'"') => break,
                Some(b'\\') => {
                    let place = self.place();
                    match self.bump() {
                        Some(b'n') => bytes.push(b'\n'),
                        Some(b't') => bytes.push(b'\t'),
                        Some(b'r') => bytes.push(b'\r'),
                        Some(b'b') => bytes.push(8),
                        Some(b'f') => bytes.push(12),
                        Some(byte @ (b'"' | b'\\')) => bytes.push(byte),
                        Some(b'u') => {
                            let c = self.unicode()?;
                            bytes.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                        }
                        _ => return Err(Self::error_at(place, "unknown escape in a string")),
                    }
                }
                Some(byte) => bytes.push(byte),
            }
        }
        let text = String::from_utf8(bytes).map_err(|_| Self::error_at(open, "the string here is not UTF-8"))?;
        Ok(Edn::Str(text))
    }

    /// The character of `\uXXXX`; the backslash and `u` are behind us. Surrogate pairs are Java's way to say one.
    fn unicode(&mut self) -> Result<char, HistoryError> {
        let place = self.place();
        let bad = || Self::error_at(place, "`\\u` is followed by four hexadecimal digits of a character");
        let high = self.hex4().ok_or_else(bad)?;
        if !(0xD800..0xDC00).contains(&high) {
            return char::from_u32(high).ok_or_else(bad);
        }
        if self.text.get(self.at..self.at + 2) != Some(b"\\u") {
            return Err(bad());
        }
        self.at += 2;
        let low = self.hex4().filter(|low| (0xDC00..0xE000).contains(low)).ok_or_else(bad)?;
        char::from_u32(0x10000 + ((high - 0xD800) << 10) + (low - 0xDC00)).ok_or_else(bad)
    }

    fn hex4(&mut self) -> Option<u32> {
        let digits = self.text.get(self.at..self.at + 4).filter(|d| d.iter().all(u8::is_ascii_hexdigit))?;
        let code = u32::from_str_radix(std::str::from_utf8(digits).ok()?, 16).ok()?;
        self.at += 4;
        Some(code)
    }

    fn character(&mut self) -> Result<Edn, HistoryError> {
        let place = self.place();
        self.at += 1;
        let rest = String::from_utf8_lossy(&self.text[self.at..self.text.len().min(self.at + 16)]).into_owned();
        // `\(` is a character although a bracket ends any other token.
        let Some(first) = rest.chars().next() else {
            return Err(Self::error_at(place, "a character is missing after the backslash"));
        };
        if !is_token_byte(first as u8) && first.is_ascii() {
            self.bump();
            return Ok(Edn::Str(first.to_string()));
        }
        let text = match self.token() {
            "newline" => "\n",
            "space" => " ",
            "tab" => "\t",
            "return" => "\r",
            other => other,
        };
        Ok(Edn::Str(text.to_owned()))
    }

    /// Bytes up to the next delimiter; empty where that is not UTF-8.
    fn token(&mut self) -> &'t str {
        let start = self.at;
        while self.text.get(self.at).is_some_and(|&byte| is_token_byte(byte)) {
            self.at += 1;
        }
        std::str::from_utf8(&self.text[start..self.at]).unwrap_or_default()
    }

    fn atom(&mut self) -> Result<Edn, HistoryError> {
        let place = self.place();
        let token = self.token();
        let digits = token.strip_prefix(['-', '+']).unwrap_or(token);
        Ok(match token {
            "" => return Err(Self::error_at(place, "no form of EDN begins like this")),
            "nil" => Edn::Nil,
            "true" => Edn::Bool(true),
            "false" => Edn::Bool(false),
            _ if digits.starts_with(|c: char| c.is_ascii_digit()) => {
                match token.strip_suffix('N').unwrap_or(token).parse() {
                    Ok(n) => Edn::Int(n),
                    Err(_) if digits.bytes().all(|b| b.is_ascii_alphanumeric() || b"+-./".contains(&b)) => {
                        Edn::Number(token.to_owned())
                    }
                    Err(_) => return Err(Self::error_at(place, format!("`{token}` is no number"))),
                }
            }
            _ => Edn::Symbol(token.to_owned()),
        })
    }
}

fn is_token_byte(byte: u8) -> bool {
    !matches!(byte, b' ' | b',' | b'\t' | b'\r' | b'\n' | 0x0c | b'(' | b')' | b'[' | b']' | b'{' | b'}' | b'"' | b';')
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> String {
        match EdnReader::new(text.as_bytes(), 1).form() {
            Ok(form) => form.into_value().to_string(),
            Err(error) => error.to_string(),
        }
    }

    #[test]
    fn forms() {
        let table = [
            ("nil", "nil"),
            (" , ; comment\n true", "true"),
            ("-12", "-12"),
            ("12N", "12"),
            ("1.5e3", "1.5e3"),
            ("99999999999999999999", "99999999999999999999"),
            (":a/b", "a/b"),
            (r#""a\"\n\u00e9\uD834\uDD1E""#, "a\"\né𝄞"),
            (r"[\a \newline \(]", "[a \n (]"),
            ("(1 [2 #{3}] {:a 1, nil [:b]})", "[1 [2 [3]] {a 1, nil [b]}]"),
            ("#_ {:x 1} #jepsen.history.Op{:f :read}", "{f read}"),
            ("[1 #_ 2 #_ #_ 3 4 5]", "[1 5]"),
            ("#inst \"2020\"", "2020"),
            ("(1", "line 1, column 1: the bracket that opens here is never closed"),
            ("\n {:a}", "line 2, column 2: the map that opens here has a key without a value"),
            ("[1 2)", "line 1, column 5: a closing bracket that nothing opened"),
            ("\"abc", "line 1, column 1: the string that begins here never ends"),
            (r#""\x""#, "line 1, column 3: unknown escape in a string"),
            (r#""\uD834x""#, "line 1, column 4: `\\u` is followed by four hexadecimal digits of a character"),
            ("", "line 1, column 1: a form was expected, but the text ends here"),
            (":", "line 1, column 2: a keyword has a name after its colon"),
            ("12$", "line 1, column 1: `12$` is no number"),
        ];
        for (text, expected) in table {
            assert_eq!(read(text), expected, "{text}");
        }
    }

    #[test]
    fn depth_is_bounded() {
        for open in ["[", "#_", "#a ", "{", "#{", "(#_"] {
            assert!(read(&open.repeat(100_000)).contains("nested deeper"), "{open}");
        }
    }

    proptest! {
        #[test]
        fn no_text_makes_it_panic(text in "[\\[\\](){}#_:\\\\\"a1u\u{e9}\n ;,-]{0,40}") {
            let mut reader = EdnReader::new(text.as_bytes(), 1);
            while reader.peek().ok().flatten().is_some() && reader.form().is_ok() {}
        }

        #[test]
        fn no_bytes_make_it_panic(text in prop::collection::vec(any::<u8>(), 0..60)) {
            let mut reader = EdnReader::new(&text, 1);
            while reader.peek().ok().flatten().is_some() && reader.form().is_ok() {}
        }
    }
}

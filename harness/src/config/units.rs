//! Values with units, as people write them: `5s`, `200ms`, `2000/s`, `2n`.

use super::{Doc, DocNode};
use std::time::Duration;

/// A type that a value of a test file can be read as.
pub trait FromDoc: Sized {
    /// What it is called in the reference: `duration`, `number`.
    fn kind() -> String;

    /// Reads it.
    ///
    /// # Errors
    /// What was expected, to follow the words "must be": `a duration such as 5s or 200ms`.
    fn from_doc(doc: &Doc) -> Result<Self, String>;

    /// How a person would write this value.
    fn to_text(&self) -> String;
}

fn scalar(doc: &Doc) -> Option<&str> {
    match &doc.node {
        DocNode::Scalar(text) if !text.is_empty() => Some(text),
        _ => None,
    }
}

macro_rules! whole_number {
    ($($t:ty),*) => {$(
        impl FromDoc for $t {
            fn kind() -> String {
                "number".to_owned()
            }
            fn from_doc(doc: &Doc) -> Result<Self, String> {
                let expected = || format!("a whole number from {} to {}", <$t>::MIN, <$t>::MAX);
                scalar(doc).and_then(|s| s.replace('_', "").parse().ok()).ok_or_else(expected)
            }
            fn to_text(&self) -> String {
                self.to_string()
            }
        }
    )*};
}
whole_number!(u16, u32, u64, usize, i64);

impl FromDoc for f64 {
    fn kind() -> String {
        "number".to_owned()
    }
    fn from_doc(doc: &Doc) -> Result<Self, String> {
        let number = scalar(doc).and_then(|s| s.parse::<f64>().ok()).filter(|n| n.is_finite());
        number.ok_or_else(|| "a number".to_owned())
    }
    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromDoc for bool {
    fn kind() -> String {
        "true or false".to_owned()
    }
    fn from_doc(doc: &Doc) -> Result<Self, String> {
        match scalar(doc) {
            Some("true") => Ok(true),
            Some("false") => Ok(false),
            _ => Err("true or false".to_owned()),
        }
    }
    fn to_text(&self) -> String {
        self.to_string()
    }
}

impl FromDoc for String {
    fn kind() -> String {
        "text".to_owned()
    }
    fn from_doc(doc: &Doc) -> Result<Self, String> {
        scalar(doc).map(str::to_owned).ok_or_else(|| "text".to_owned())
    }
    fn to_text(&self) -> String {
        self.clone()
    }
}

impl FromDoc for Duration {
    fn kind() -> String {
        "duration".to_owned()
    }
    fn from_doc(doc: &Doc) -> Result<Self, String> {
        let expected = || "a duration such as 5s, 200ms or 2m".to_owned();
        scalar(doc).and_then(parse_duration).ok_or_else(expected)
    }
    fn to_text(&self) -> String {
        format_duration(*self)
    }
}

/// One item or a list of them.
impl<T: FromDoc> FromDoc for Vec<T> {
    fn kind() -> String {
        format!("list of {}", T::kind())
    }
    fn from_doc(doc: &Doc) -> Result<Self, String> {
        match &doc.node {
            DocNode::List(items) => items.iter().map(T::from_doc).collect(),
            DocNode::Scalar(text) if text.is_empty() => Ok(Vec::new()),
            _ => Ok(vec![T::from_doc(doc)?]),
        }
    }
    fn to_text(&self) -> String {
        format!("[{}]", self.iter().map(T::to_text).collect::<Vec<_>>().join(", "))
    }
}

/// Operations per second: `2000/s`, `30/min`, or a bare number per second. 0 means as fast as possible.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Rate(pub f64);

impl FromDoc for Rate {
    fn kind() -> String {
        "rate".to_owned()
    }
    fn from_doc(doc: &Doc) -> Result<Self, String> {
        let expected = || "a rate such as 2000/s or 30/min (0 for as fast as possible)".to_owned();
        let text = scalar(doc).ok_or_else(expected)?;
        let (number, per_second) = match text.split_once('/') {
            None => (text, 1.0),
            Some((number, "s")) => (number, 1.0),
            Some((number, "min" | "m")) => (number, 1.0 / 60.0),
            Some(_) => return Err(expected()),
        };
        let number: f64 = number.trim().replace('_', "").parse().map_err(|_| expected())?;
        if number.is_finite() && number >= 0.0 { Ok(Self(number * per_second)) } else { Err(expected()) }
    }
    fn to_text(&self) -> String {
        format!("{}/s", self.0)
    }
}

/// A number, absolute (`10`) or per node (`2n`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Just so many.
    Absolute(usize),
    /// So many for each node.
    PerNode(usize),
}

impl Count {
    /// The number for a cluster of `nodes`.
    pub fn resolve(self, nodes: usize) -> usize {
        match self {
            Self::Absolute(n) => n,
            Self::PerNode(n) => n * nodes,
        }
    }
}

impl FromDoc for Count {
    fn kind() -> String {
        "count".to_owned()
    }
    fn from_doc(doc: &Doc) -> Result<Self, String> {
        let expected = || "a count of at least 1: 10, or 2n for two per node".to_owned();
        let text = scalar(doc).ok_or_else(expected)?;
        let parsed = match text.strip_suffix('n') {
            Some("") => Some(Self::PerNode(1)),
            Some(number) => number.parse().ok().map(Self::PerNode),
            None => text.parse().ok().map(Self::Absolute),
        };
        parsed.filter(|count| count.resolve(1) > 0).ok_or_else(expected)
    }
    fn to_text(&self) -> String {
        match self {
            Self::Absolute(n) => n.to_string(),
            Self::PerNode(n) => format!("{n}n"),
        }
    }
}

/// A duration as people write it; the reverse of [`format_duration`].
pub fn parse_duration(text: &str) -> Option<Duration> {
    let at = text.find(|c: char| c.is_ascii_alphabetic())?;
    let (number, unit) = text.split_at(at);
    let number: f64 = number.trim().parse().ok()?;
    let seconds = match unit {
        "us" => number / 1e6,
        "ms" => number / 1e3,
        "s" => number,
        "m" | "min" => number * 60.0,
        "h" => number * 3600.0,
        _ => return None,
    };
    // try_from refuses negative, infinite and overflowing numbers.
    Duration::try_from_secs_f64(seconds).ok()
}

/// `5s`, `200ms`, `1.5s`: what [`Duration::from_doc`](FromDoc::from_doc) reads back.
pub fn format_duration(duration: Duration) -> String {
    let ms = duration.as_secs_f64() * 1e3;
    if ms >= 1000.0 || ms == 0.0 { format!("{}s", ms / 1e3) } else { format!("{ms}ms") }
}

//! A history as a page: one HTML file that needs nothing else, with a timeline, the explanation of what is wrong, and
//! orders of the operations to follow step by step.
//!
//! Everything is embedded as JSON and drawn by a small script on a canvas, so that ten thousand operations scroll and
//! zoom at once. What it does not do: judge. [`crate::linear::check`] does, and its result goes in.
//!
//! ```
//! use squall_checkers::page::{PageOptions, render};
//! use squall_checkers::{CheckOptions, ModelKind, linear, read_text};
//!
//! let text = r#"{"index":0,"time":0,"type":"invoke","process":0,"f":"read","value":null}
//! {"index":1,"time":1,"type":"ok","process":0,"f":"read","value":7}"#;
//! let history = read_text(text.as_bytes(), &Default::default()).unwrap();
//! let result = linear::check(&history, ModelKind::Register, &CheckOptions::default());
//! let page = render(&history, &result, &PageOptions::new("a test", ModelKind::Register)).unwrap();
//! assert!(page.contains("nobody ever wrote 7"));
//! ```

mod data;
mod faults;
#[cfg(test)]
mod tests;

use crate::{CheckResult, FailMeans, History, HistoryError, ModelKind};
use std::time::Duration;

/// What is in a page, and how it was judged.
#[derive(Clone, Debug)]
pub struct PageOptions {
    /// What stands above it.
    pub title: String,
    /// The model that orders are followed in; without one there are none.
    pub model: Option<ModelKind>,
    /// As it was judged.
    pub fail_means: FailMeans,
    /// Only this key, as results name it; without one, violated keys first, and as many as fit.
    pub key: Option<String>,
    /// Operations of all keys together, at most; the first key is always there.
    pub ops_max: usize,
    /// To look for the orders of one key, at most.
    pub time_max: Duration,
}

impl PageOptions {
    /// All keys that fit, and a second each for their orders.
    pub fn new(title: &str, model: ModelKind) -> Self {
        Self {
            title: title.to_owned(),
            model: Some(model),
            fail_means: FailMeans::NoEffect,
            key: None,
            ops_max: 60_000,
            time_max: Duration::from_secs(1),
        }
    }
}

/// The page as HTML. Whatever values hold, they stay text.
///
/// # Errors
/// When the history does not pair, or does not have the key that is asked for.
pub fn render(history: &History, result: &CheckResult, options: &PageOptions) -> Result<String, HistoryError> {
    let data = data::of(history, result, options)?;
    // In a script element only `<` could end it; JSON allows to write it otherwise.
    let json = serde_json::to_string(&data).unwrap_or_default().replace('<', "\\u003c");
    let parts = [
        ("{{title}}", escaped(&options.title)),
        ("{{css}}", include_str!("page.css").to_owned()),
        ("{{js}}", include_str!("page.js").to_owned()),
        ("{{data}}", json),
    ];
    // In one pass, so that what is put in is never looked at again.
    let mut rest = include_str!("page.html");
    let mut page = String::with_capacity(rest.len() + parts.iter().map(|(_, text)| text.len()).sum::<usize>());
    while let Some(at) = rest.find("{{") {
        page.push_str(&rest[..at]);
        rest = &rest[at..];
        let (name, text) = parts.iter().find(|(name, _)| rest.starts_with(name)).expect("a part of the page");
        page.push_str(text);
        rest = &rest[name.len()..];
    }
    page.push_str(rest);
    Ok(page)
}

fn escaped(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;")
}

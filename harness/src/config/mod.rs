//! Test files: YAML in, typed settings out, every error with file, line and key, every key documented by the code that
//! reads it.
//!
//! A [`Section`] is a map of the file being read. Whoever reads a key states its documentation and default in the same
//! breath; reading an empty document in describing mode therefore yields the reference ([`describe`]), which cannot
//! drift from the code.

mod doc;
mod section;
mod units;

pub use doc::{Doc, DocNode, Origin};
pub use section::{KeyDoc, Section, describe};
pub use units::{Count, FromDoc, Rate, format_duration, parse_duration};

/// What is wrong with a test file or an override, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{origin}: {what}")]
pub struct ConfigError {
    /// `file:line:column`, or the argument.
    pub origin: String,
    /// What was wrong and what to do.
    pub what: String,
}

impl ConfigError {
    /// An error at `origin`.
    pub fn at(origin: &Origin, what: impl Into<String>) -> Self {
        Self { origin: origin.to_string(), what: what.into() }
    }
}

/// The candidate that `word` was probably meant to be: closest by edit distance, if close enough.
pub fn did_you_mean<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|c| (edit_distance(word, c), c))
        .filter(|&(distance, c)| distance <= 1 + c.len() / 4)
        .min()
        .map(|(_, c)| c)
}

/// `unknown X `word`; did you mean `y`?` or, when nothing is close, `unknown X `word`; known: a, b, c`.
pub fn unknown<'a>(what: &str, word: &str, known: impl IntoIterator<Item = &'a str> + Clone) -> String {
    match did_you_mean(word, known.clone()) {
        Some(close) => format!("unknown {what} `{word}`; did you mean `{close}`?"),
        None => {
            let mut names: Vec<&str> = known.into_iter().collect();
            names.sort_unstable();
            format!("unknown {what} `{word}`; known: {}", names.join(", "))
        }
    }
}

/// Optimal string alignment distance: insertions, deletions, substitutions and swaps of neighbours cost 1.
fn edit_distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![vec![0; b.len() + 1]; a.len() + 1];
    for i in 0..=a.len() {
        for j in 0..=b.len() {
            rows[i][j] = if i == 0 || j == 0 {
                i + j
            } else {
                let substituted = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
                let mut best = substituted.min(rows[i - 1][j] + 1).min(rows[i][j - 1] + 1);
                if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                    best = best.min(rows[i - 2][j - 2] + 1);
                }
                best
            };
        }
    }
    rows[a.len()][b.len()]
}

#[cfg(test)]
mod tests;

//! What can be named in a test file.

use crate::config::{ConfigError, KeyDoc, Section, describe, unknown};
use crate::nemesis::NemesisKind;
use crate::target::Target;
use crate::workload::Workload;

/// A target or workload that test files can name: its name, one line about it, and the reader of its keys.
pub struct Kind<T: ?Sized> {
    /// The word in test files.
    pub name: &'static str,
    /// One line for `squall list`.
    pub doc: &'static str,
    /// Reads its section; asks for every key it knows, so that `squall describe` can list them.
    pub read: fn(&mut Section) -> Result<Box<T>, ConfigError>,
}

impl<T: ?Sized> Kind<T> {
    /// Documentation of its keys, as they stand under `root` (`workload`, `target`).
    ///
    /// # Errors
    /// When the reader does not accept an empty section in describing mode: a bug of that reader.
    pub fn keys(&self, root: &str) -> Result<Vec<KeyDoc>, ConfigError> {
        describe(&format!("{root}.{}", self.name), |section| (self.read)(section))
    }
}

/// Everything this program knows. A user's own test crate adds its kinds to [`Registry`] and hands it to the same
/// command line.
pub struct Registry {
    /// Systems under test.
    pub targets: Vec<Kind<dyn Target>>,
    /// Workloads.
    pub workloads: Vec<Kind<dyn Workload>>,
    /// The nemesis that reads the `nemesis` list.
    pub nemesis: Box<dyn NemesisKind>,
}

/// The kind called `name` in `kinds`.
///
/// # Errors
/// The sentence `unknown target `etdc`; did you mean `etcd`?`.
pub fn find<'a, T: ?Sized>(kinds: &'a [Kind<T>], what: &str, name: &str) -> Result<&'a Kind<T>, String> {
    kinds.iter().find(|kind| kind.name == name).ok_or_else(|| unknown(what, name, kinds.iter().map(|kind| kind.name)))
}

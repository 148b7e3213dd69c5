//! Reading a map of a test file key by key.

use super::{ConfigError, Doc, DocNode, FromDoc, Origin, unknown};
use std::cell::RefCell;
use std::rc::Rc;

/// Documentation of one key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct KeyDoc {
    /// Full dotted path.
    pub path: String,
    /// What kind of value: `duration`, `number`, `list of words`, …
    pub kind: String,
    /// Its default as one would write it; `None` when it must be given.
    pub default: Option<String>,
    /// What it means, with its unit.
    pub doc: String,
}

/// A map being read. Take every key you know, then [`finish`](Section::finish): what is left over is a typo.
#[derive(Debug)]
pub struct Section {
    path: String,
    origin: Origin,
    entries: Vec<(String, Doc)>,
    known: Vec<&'static str>,
    /// Present in describing mode: keys note themselves down.
    docs: Option<Rc<RefCell<Vec<KeyDoc>>>>,
}

impl Section {
    /// Starts reading `doc`, called `path` in errors. A missing value (`register:` with nothing after it) is an empty map.
    ///
    /// # Errors
    /// When it is a list or a plain value.
    pub fn new(path: &str, doc: Doc) -> Result<Self, ConfigError> {
        let entries = match doc.node {
            DocNode::Map(entries) => entries,
            DocNode::Scalar(ref text) if text.is_empty() => Vec::new(),
            _ => {
                let what = format!("`{path}` must be a map of keys, not {}", doc.describe());
                return Err(ConfigError::at(&doc.origin, what));
            }
        };
        Ok(Self { path: path.to_owned(), origin: doc.origin, entries, known: Vec::new(), docs: None })
    }

    /// Dotted path of this section.
    pub fn path(&self) -> &str {
        &self.path
    }

    /// Where this section was written.
    pub fn origin(&self) -> &Origin {
        &self.origin
    }

    /// Whether keys are only being listed for documentation: all of them are absent, and required ones get a stand-in.
    pub fn is_describing(&self) -> bool {
        self.docs.is_some()
    }

    /// The value of `key`, or `default`.
    ///
    /// # Errors
    /// When it is there and is not a `T`.
    pub fn get<T: FromDoc>(&mut self, key: &'static str, default: T, doc: &str) -> Result<T, ConfigError> {
        self.note::<T>(key, Some(default.to_text()), doc);
        self.take(key)?.map_or(Ok(default), |value| self.convert(key, &value))
    }

    /// The value of `key`, if it is given.
    ///
    /// # Errors
    /// When it is there and is not a `T`.
    pub fn optional<T: FromDoc>(&mut self, key: &'static str, doc: &str) -> Result<Option<T>, ConfigError> {
        self.note::<T>(key, Some("none".to_owned()), doc);
        self.take(key)?.map(|value| self.convert(key, &value)).transpose()
    }

    /// The value of `key`, which must be there. In describing mode `stand_in` is returned.
    ///
    /// # Errors
    /// When it is missing or is not a `T`.
    pub fn required<T: FromDoc>(&mut self, key: &'static str, stand_in: T, doc: &str) -> Result<T, ConfigError> {
        self.note::<T>(key, None, doc);
        match self.take(key)? {
            Some(value) => self.convert(key, &value),
            None if self.is_describing() => Ok(stand_in),
            None => Err(ConfigError::at(&self.origin, format!("`{}` needs a key `{key}`: {doc}", self.path))),
        }
    }

    /// The section under `key`; an empty one when it is not given.
    ///
    /// # Errors
    /// When it is not a map.
    pub fn section(&mut self, key: &'static str) -> Result<Section, ConfigError> {
        self.known.push(key);
        let doc = self.take(key)?.unwrap_or_else(Doc::empty);
        let mut section = Section::new(&self.child(key), doc)?;
        section.docs = self.docs.clone();
        Ok(section)
    }

    /// The raw document under `key`, for readers with a shape of their own (lists of faults, one-of choices).
    ///
    /// # Errors
    /// None today.
    pub fn raw(&mut self, key: &'static str, kind: &str, doc: &str) -> Result<Option<Doc>, ConfigError> {
        self.known.push(key);
        if let Some(docs) = &self.docs {
            let (path, kind) = (self.child(key), kind.to_owned());
            docs.borrow_mut().push(KeyDoc { path, kind, default: Some("none".to_owned()), doc: doc.to_owned() });
        }
        self.take(key)
    }

    /// An error about `key`'s value, at the place where the section was written.
    pub fn error(&self, what: impl Into<String>) -> ConfigError {
        ConfigError::at(&self.origin, what)
    }

    /// Ends the reading.
    ///
    /// # Errors
    /// When keys are left that nobody asked for, with the one that was probably meant.
    pub fn finish(self) -> Result<(), ConfigError> {
        match self.entries.first() {
            None => Ok(()),
            Some((key, doc)) => {
                let what = format!("key of `{}`", self.path);
                Err(ConfigError::at(&doc.origin, unknown(&what, key, self.known.iter().copied())))
            }
        }
    }

    fn take(&mut self, key: &str) -> Result<Option<Doc>, ConfigError> {
        let at = self.entries.iter().position(|(name, _)| name == key);
        Ok(at.map(|at| self.entries.remove(at).1))
    }

    fn convert<T: FromDoc>(&self, key: &str, value: &Doc) -> Result<T, ConfigError> {
        T::from_doc(value).map_err(|expected| {
            let path = self.child(key);
            ConfigError::at(&value.origin, format!("`{path}` must be {expected}, not {}", value.describe()))
        })
    }

    fn note<T: FromDoc>(&mut self, key: &'static str, default: Option<String>, doc: &str) {
        self.known.push(key);
        if let Some(docs) = &self.docs {
            let (path, kind) = (self.child(key), T::kind());
            docs.borrow_mut().push(KeyDoc { path, kind, default, doc: doc.to_owned() });
        }
    }

    fn child(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// Lists the keys that `read` asks for, by letting it read an empty section called `path`.
///
/// # Errors
/// Whatever `read` returns; a reader must accept an empty section in describing mode.
pub fn describe<T>(
    path: &str,
    read: impl FnOnce(&mut Section) -> Result<T, ConfigError>,
) -> Result<Vec<KeyDoc>, ConfigError> {
    let mut section = Section::new(path, Doc::empty())?;
    let docs = Rc::new(RefCell::new(Vec::new()));
    section.docs = Some(docs.clone());
    read(&mut section)?;
    drop(section);
    let docs = docs.borrow().clone();
    Ok(docs)
}

//! A YAML document in which every value knows where it was written, so that every error can say so.

use super::ConfigError;
use marked_yaml::LoaderOptions;
use std::fmt;
use std::sync::Arc;

/// Where a value was written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    /// File, line and column, both from 1.
    File(Arc<str>, usize, usize),
    /// An argument of the command line, as typed.
    Argument(Arc<str>),
    /// A place in words: `inventory.ini, host db1`.
    Place(Arc<str>),
    /// Nowhere: a default.
    Default,
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(file, line, column) => write!(f, "{file}:{line}:{column}"),
            Self::Argument(argument) => write!(f, "command line ({argument})"),
            Self::Place(place) => f.write_str(place),
            Self::Default => f.write_str("default"),
        }
    }
}

/// A value and where it was written.
#[derive(Clone, Debug, PartialEq)]
pub struct Doc {
    /// The value.
    pub node: DocNode,
    /// Where.
    pub origin: Origin,
}

/// A scalar stays text until somebody asks for a number, so that `3.10` can still be a version.
#[derive(Clone, Debug, PartialEq)]
pub enum DocNode {
    /// Text of a scalar; empty or `~` for null.
    Scalar(String),
    /// Entries in the order of the file.
    Map(Vec<(String, Doc)>),
    /// Items.
    List(Vec<Doc>),
}

impl Doc {
    /// An empty map that was written nowhere.
    pub fn empty() -> Self {
        Self { node: DocNode::Map(Vec::new()), origin: Origin::Default }
    }

    /// Parses a YAML document whose top is a map.
    ///
    /// # Errors
    /// Names `file`, line and column of what is not YAML, or of a key given twice.
    pub fn parse(file: &str, text: &str) -> Result<Self, ConfigError> {
        let file: Arc<str> = file.into();
        let options = LoaderOptions::default().error_on_duplicate_keys(true);
        match marked_yaml::parse_yaml_with_options(0, text, options) {
            Ok(node) => Ok(convert(&file, &node)),
            Err(error) => Err(load_error(&file, &error)),
        }
    }

    /// Sets the value at a dotted path (`workload.register.rate`), creating maps on the way; list items are numbers
    /// (`nemesis.0.partition.every`). The value is parsed as YAML.
    ///
    /// # Errors
    /// When the path runs through something that is neither map nor list, or the value is not YAML.
    pub fn set(&mut self, argument: &str) -> Result<(), ConfigError> {
        let origin = Origin::Argument(argument.into());
        let Some((path, text)) = argument.split_once('=').filter(|(path, _)| !path.is_empty()) else {
            return Err(ConfigError::at(&origin, "expected PATH=VALUE, for instance workload.register.rate=500/s"));
        };
        let wrapped = Self::parse(argument, &format!("value: {text}"))
            .map_err(|e| ConfigError::at(&origin, format!("the value is not YAML: {}", e.what)))?;
        let DocNode::Map(mut entries) = wrapped.node else { unreachable!("parse gives a map") };
        let mut value = entries.remove(0).1;
        value.relabel(&origin);
        self.set_at(path, value, &origin)
    }

    fn set_at(&mut self, path: &str, value: Doc, origin: &Origin) -> Result<(), ConfigError> {
        let mut here = self;
        for part in path.split('.') {
            if matches!(&here.node, DocNode::Scalar(s) if s.is_empty()) {
                here.node = DocNode::Map(Vec::new());
            }
            here = match &mut here.node {
                DocNode::Map(entries) => {
                    let at = match entries.iter().position(|(key, _)| key == part) {
                        Some(at) => at,
                        None => {
                            let fresh = Doc { node: DocNode::Scalar(String::new()), origin: origin.clone() };
                            entries.push((part.to_owned(), fresh));
                            entries.len() - 1
                        }
                    };
                    &mut entries[at].1
                }
                DocNode::List(items) => {
                    let len = items.len();
                    part.parse::<usize>().ok().and_then(|i| items.get_mut(i)).ok_or_else(|| {
                        ConfigError::at(origin, format!("`{part}` in `{path}` must be an index below {len} of a list"))
                    })?
                }
                DocNode::Scalar(text) => {
                    let what = format!("`{part}` in `{path}` is inside the plain value `{text}`, not inside a map");
                    return Err(ConfigError::at(origin, what));
                }
            };
        }
        *here = value;
        Ok(())
    }

    fn relabel(&mut self, origin: &Origin) {
        self.origin = origin.clone();
        match &mut self.node {
            DocNode::Scalar(_) => {}
            DocNode::Map(entries) => entries.iter_mut().for_each(|(_, doc)| doc.relabel(origin)),
            DocNode::List(items) => items.iter_mut().for_each(|doc| doc.relabel(origin)),
        }
    }

    /// What this is, for error messages: `a map`, `a list`, `` `5s` ``.
    pub fn describe(&self) -> String {
        match &self.node {
            DocNode::Scalar(text) if text.is_empty() => "nothing".to_owned(),
            DocNode::Scalar(text) => format!("`{text}`"),
            DocNode::Map(_) => "a map".to_owned(),
            DocNode::List(_) => "a list".to_owned(),
        }
    }
}

fn convert(file: &Arc<str>, node: &marked_yaml::Node) -> Doc {
    let origin = match node.span().start() {
        Some(mark) => Origin::File(file.clone(), mark.line(), mark.column()),
        None => Origin::File(file.clone(), 1, 1),
    };
    let node = match node {
        marked_yaml::Node::Scalar(s) => {
            let text = s.as_str();
            let null = s.may_coerce() && matches!(text, "~" | "null");
            DocNode::Scalar(if null { String::new() } else { text.to_owned() })
        }
        marked_yaml::Node::Mapping(m) => {
            DocNode::Map(m.iter().map(|(key, value)| (key.as_str().to_owned(), convert(file, value))).collect())
        }
        marked_yaml::Node::Sequence(s) => DocNode::List(s.iter().map(|item| convert(file, item)).collect()),
    };
    Doc { node, origin }
}

fn load_error(file: &Arc<str>, error: &marked_yaml::LoadError) -> ConfigError {
    use marked_yaml::LoadError as E;
    let (mark, what) = match error {
        E::TopLevelMustBeMapping(m) => (*m, "expected `key: value` lines at the top of the file".to_owned()),
        E::TopLevelMustBeSequence(m) => (*m, "expected a list at the top of the file".to_owned()),
        E::UnexpectedAnchor(m) => (*m, "anchors (`&name`) are not supported: write the value out".to_owned()),
        E::MappingKeyMustBeScalar(m) => (*m, "a key must be a plain word".to_owned()),
        E::UnexpectedTag(m) => (*m, "tags (`!name`) are not supported".to_owned()),
        E::ScanError(m, e) => (*m, format!("not YAML: {}", plain_scan_error(&e.to_string()))),
        E::DuplicateKey(inner) => {
            let mark = inner.key.span().start().copied().unwrap_or_else(|| marked_yaml::Marker::new(0, 0, 1, 1));
            (mark, format!("`{}` is given twice", inner.key.as_str()))
        }
    };
    ConfigError::at(&Origin::File(file.clone(), mark.line(), mark.column()), what)
}

/// The scanner's text ends in its own idea of the position, which we print ourselves.
fn plain_scan_error(text: &str) -> &str {
    text.split(" at byte ").next().unwrap_or(text).split(" at line ").next().unwrap_or(text)
}

impl Doc {
    /// The same as plain YAML. Text that is a number stays the same text: `3.10` does not become `3.1`.
    pub fn to_yaml(&self) -> serde_yaml::Value {
        match &self.node {
            DocNode::Scalar(text) if text.is_empty() => serde_yaml::Value::Null,
            DocNode::Scalar(text) => match serde_yaml::from_str::<serde_yaml::Value>(text) {
                Ok(value @ (serde_yaml::Value::Number(_) | serde_yaml::Value::Bool(_)))
                    if serde_yaml::to_string(&value).is_ok_and(|s| s.trim_end() == text) =>
                {
                    value
                }
                _ => serde_yaml::Value::String(text.clone()),
            },
            DocNode::Map(entries) => {
                let pairs = entries.iter().map(|(key, doc)| (serde_yaml::Value::from(key.as_str()), doc.to_yaml()));
                serde_yaml::Value::Mapping(pairs.collect())
            }
            DocNode::List(items) => items.iter().map(Doc::to_yaml).collect(),
        }
    }
}

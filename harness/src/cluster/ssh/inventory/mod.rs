//! Lists of hosts in the formats that people have already. One parser a file, text in, hosts out: none of them connects to
//! anything or opens another file.
//!
//! Each gives the hosts as maps with the keys of a host in a hosts file (`squall describe hosts`), which say where they come from.

pub mod ansible;
pub mod plain;
pub mod ssh_config;
pub mod terraform;

use crate::config::{Doc, DocNode, Origin};

/// A host as a map of keys, in the making.
struct Entry {
    place: Origin,
    keys: Vec<(String, Doc)>,
}

impl Entry {
    /// At a place as people find it: `inventory.ini, host db1`.
    fn new(place: &str) -> Self {
        Self { place: Origin::Place(place.into()), keys: Vec::new() }
    }

    /// Sets a key, if there is a value.
    fn set(&mut self, key: &str, value: Option<impl ToString>) {
        if let Some(value) = value {
            let doc = self.doc(DocNode::Scalar(value.to_string()));
            self.keys.push((key.to_owned(), doc));
        }
    }

    /// Sets a key to a list of texts.
    fn set_list(&mut self, key: &str, values: Vec<String>) {
        if !values.is_empty() {
            let items = values.into_iter().map(|value| self.doc(DocNode::Scalar(value))).collect();
            self.keys.push((key.to_owned(), self.doc(DocNode::List(items))));
        }
    }

    /// Sets a key to a map of texts.
    fn set_map(&mut self, key: &str, entries: Vec<(String, String)>) {
        if !entries.is_empty() {
            let entries = entries.into_iter().map(|(key, value)| (key, self.doc(DocNode::Scalar(value)))).collect();
            self.keys.push((key.to_owned(), self.doc(DocNode::Map(entries))));
        }
    }

    fn doc(&self, node: DocNode) -> Doc {
        Doc { node, origin: self.place.clone() }
    }

    fn finish(self) -> Doc {
        Doc { node: DocNode::Map(self.keys), origin: self.place }
    }
}

/// Text of a JSON string or number; `None` of anything else.
fn scalar(value: &serde_json::Value) -> Option<String> {
    match value {
        serde_json::Value::String(text) => Some(text.clone()),
        serde_json::Value::Number(number) => Some(number.to_string()),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use crate::config::{Doc, DocNode};

    /// A host in a line, for comparisons: `name=db1 host=10.0.0.1`.
    pub(super) fn words(doc: &Doc) -> String {
        match &doc.node {
            DocNode::Scalar(text) => text.clone(),
            DocNode::List(items) => format!("[{}]", items.iter().map(words).collect::<Vec<_>>().join(", ")),
            DocNode::Map(entries) => {
                entries.iter().map(|(key, value)| format!("{key}={}", words(value))).collect::<Vec<_>>().join(" ")
            }
        }
    }
}

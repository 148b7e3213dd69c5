//! Labels of nodes: which data centre, rack or zone each of them is in, for faults that hit whole ones.
//!
//! A *label* (`dc`) has *values* (`east`, `west`), and each value has nodes. A node has one value of a label at most. They come
//! from the test file (`cluster.labels`) and from where the hosts come from.
//!
//! ```
//! use squall_harness::config::{Doc, Section};
//! use squall_harness::labels::Labels;
//!
//! let doc = Doc::parse("t.yaml", "labels: { dc: { east: [n1, n2], west: [n3] } }").unwrap();
//! let nodes = ["n1", "n2", "n3"].map(str::to_owned);
//! let labels = Labels::read(&mut Section::new("cluster", doc).unwrap(), &nodes).unwrap();
//! assert_eq!(labels.groups("dc").unwrap(), [vec![0, 1], vec![2]]);
//! assert_eq!(labels.nodes("dc", "west").unwrap(), [2]);
//! ```

use crate::config::{ConfigError, Doc, DocNode, FromDoc, Section, unknown};

const DOC: &str = "which nodes are in which data centre, rack, …: { dc: { east: [n1, n2], west: [n3] } }; faults of links then know \
                   the shapes between-dc and isolate-dc, and every list of nodes knows dc=east";

/// Labels, their values and who has them, in the order in which they were written.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Labels(Vec<Label>);

#[derive(Clone, Debug, PartialEq, Eq)]
struct Label {
    name: String,
    values: Vec<(String, Vec<usize>)>,
}

impl Labels {
    /// No labels.
    pub const NONE: &'static Self = &Self(Vec::new());

    /// Reads the key `labels` for nodes of these names.
    ///
    /// # Errors
    /// What is no label, and nodes that are not there or would have two values of one label.
    pub fn read(section: &mut Section, nodes: &[String]) -> Result<Self, ConfigError> {
        let mut labels = Self::default();
        let Some(doc) = section.raw("labels", "map", DOC)? else { return Ok(labels) };
        for (name, values) in
            entries(&doc, "`cluster.labels` must be a map of labels: { dc: { east: [n1], west: [n2] } }")?
        {
            let expected = format!("the label `{name}` must be a map of its values: {{ east: [n1], west: [n2] }}");
            for (value, members) in entries(values, &expected)? {
                let failed = |what: String| ConfigError::at(&members.origin, what);
                let members = Vec::<String>::from_doc(members)
                    .map_err(|_| failed(format!("`{name}={value}` must be a list of node names")))?;
                if members.is_empty() {
                    return Err(failed(format!("`{name}={value}` has no nodes: name at least one, or leave it out")));
                }
                for member in members {
                    let Some(node) = nodes.iter().position(|node| *node == member) else {
                        let known = nodes.iter().map(String::as_str).collect::<Vec<_>>();
                        return Err(failed(unknown(&format!("node in `{name}={value}`:"), &member, known)));
                    };
                    labels.add(name, value, node).map_err(failed)?;
                }
            }
        }
        Ok(labels)
    }

    /// Gives a node a value of a label.
    ///
    /// # Errors
    /// When it has another one already, or one of the names cannot be written in a test file.
    pub fn add(&mut self, name: &str, value: &str, node: usize) -> Result<(), String> {
        for word in [name, value] {
            if word.is_empty() || !word.chars().all(|c| c.is_alphanumeric() || "-_.".contains(c)) {
                return Err(format!("`{word}` is no name of a label or value: use letters, digits, `-`, `_` and `.`"));
            }
        }
        let at = self.0.iter().position(|label| label.name == name).unwrap_or_else(|| {
            self.0.push(Label { name: name.to_owned(), values: Vec::new() });
            self.0.len() - 1
        });
        let values = &mut self.0[at].values;
        match values.iter().find(|(_, nodes)| nodes.contains(&node)) {
            Some((other, _)) if other == value => return Ok(()),
            Some((other, _)) => {
                return Err(format!(
                    "a node is in both `{name}={other}` and `{name}={value}`: it can be in one of them only"
                ));
            }
            None => {}
        }
        match values.iter_mut().find(|(known, _)| known == value) {
            Some((_, nodes)) => nodes.push(node),
            None => values.push((value.to_owned(), vec![node])),
        }
        Ok(())
    }

    /// These and those of `others` that have other names.
    #[must_use]
    pub fn or(mut self, others: Self) -> Self {
        self.0.extend(
            others
                .0
                .into_iter()
                .filter(|other| self.0.iter().all(|label| label.name != other.name))
                .collect::<Vec<_>>(),
        );
        self
    }

    /// Names of the labels.
    pub fn names(&self) -> impl Iterator<Item = &str> {
        self.0.iter().map(|label| label.name.as_str())
    }

    /// The nodes of each value of a label.
    ///
    /// # Errors
    /// When there is no such label, with those that there are.
    pub fn groups(&self, name: &str) -> Result<Vec<Vec<usize>>, String> {
        Ok(self.label(name)?.values.iter().map(|(_, nodes)| nodes.clone()).collect())
    }

    /// The nodes that have this value of a label.
    ///
    /// # Errors
    /// When there is no such label or value, with those that there are.
    pub fn nodes(&self, name: &str, value: &str) -> Result<Vec<usize>, String> {
        let label = self.label(name)?;
        let found = label.values.iter().find(|(known, _)| known == value);
        found.map(|(_, nodes)| nodes.clone()).ok_or_else(|| {
            let known: Vec<&str> = label.values.iter().map(|(known, _)| known.as_str()).collect();
            format!("label `{name}` has no value `{value}`; known: {}", known.join(", "))
        })
    }

    fn label(&self, name: &str) -> Result<&Label, String> {
        self.0.iter().find(|label| label.name == name).ok_or_else(|| {
            if self.0.is_empty() {
                return format!(
                    "there is no label `{name}`: this cluster has none; say who is where in `cluster.labels`, for instance \
                     {{ {name}: {{ east: [n1, n2], west: [n3] }} }}"
                );
            }
            format!("unknown label `{name}`; known: {}", self.names().collect::<Vec<_>>().join(", "))
        })
    }
}

fn entries<'a>(doc: &'a Doc, expected: &str) -> Result<&'a [(String, Doc)], ConfigError> {
    match &doc.node {
        DocNode::Map(entries) => Ok(entries),
        DocNode::Scalar(text) if text.is_empty() => Ok(&[]),
        _ => Err(ConfigError::at(&doc.origin, format!("{expected}, not {}", doc.describe()))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(text: &str) -> Result<Labels, String> {
        let nodes: Vec<String> = (1..=4).map(|i| format!("n{i}")).collect();
        let doc = Doc::parse("t.yaml", &format!("labels: {text}")).unwrap();
        Labels::read(&mut Section::new("cluster", doc).unwrap(), &nodes).map_err(|error| error.to_string())
    }

    #[test]
    fn several_labels() {
        let labels = read("{ dc: { east: [n1, n3], west: n2 }, rack: { r1: [n1, n2], r2: [n3, n4] } }").unwrap();
        assert_eq!(labels.names().collect::<Vec<_>>(), ["dc", "rack"]);
        // n4 is in no data centre.
        assert_eq!(labels.groups("dc").unwrap(), [vec![0, 2], vec![1]]);
        assert_eq!(labels.nodes("rack", "r2").unwrap(), [2, 3]);
        assert_eq!(read("").unwrap(), Labels::default());
    }

    #[test]
    fn what_is_said_in_the_test_counts() {
        let mut hosts = Labels::default();
        for (name, value, node) in [("dc", "a", 0), ("zone", "z", 3)] {
            hosts.add(name, value, node).unwrap();
        }
        let both = read("{ dc: { east: [n2] } }").unwrap().or(hosts);
        assert_eq!(both.groups("dc").unwrap(), [vec![1]]);
        assert_eq!(both.groups("zone").unwrap(), [vec![3]]);
    }

    #[test]
    fn mistakes_are_named() {
        let table = [
            ("[n1]", "t.yaml:1:9: `cluster.labels` must be a map of labels"),
            ("{ dc: [n1, n2] }", "the label `dc` must be a map of its values"),
            ("{ dc: { east: {} } }", "`dc=east` must be a list of node names"),
            ("{ dc: { east: [] } }", "`dc=east` has no nodes"),
            ("{ dc: { east: [n1, n9] } }", "unknown node in `dc=east`: `n9`"),
            ("{ dc: { east: [n1], west: [n2, n1] } }", "a node is in both `dc=east` and `dc=west`"),
            ("{ 'd c': { east: [n1] } }", "`d c` is no name"),
        ];
        for (text, expected) in table {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text}: {error}");
        }
        let labels = read("{ dc: { east: [n1], west: [n2] }, rack: { a: [n1] } }").unwrap();
        assert_eq!(labels.groups("zone").unwrap_err(), "unknown label `zone`; known: dc, rack");
        assert_eq!(labels.nodes("dc", "north").unwrap_err(), "label `dc` has no value `north`; known: east, west");
        assert!(Labels::NONE.groups("dc").unwrap_err().contains("this cluster has none; say who is where"));
    }
}

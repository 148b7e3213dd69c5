//! What `ansible-inventory --list` prints: groups with their hosts and children, and the variables of each host.
//!
//! Of the variables `ansible_host`, `ansible_port`, `ansible_user`, `ansible_ssh_private_key_file` and the arguments of ssh that name
//! settings (`ansible_ssh_common_args`, `ansible_ssh_extra_args`: `-o Key=Value`, `-J HOST`) count. A group whose children are groups is
//! a label, and they are its values: with `[dc:children]` `east` and `west` a test can say `shape: between-dc`.
//!
//! Not read: passwords (squall has nobody who would type them), and variables that are templates, which Ansible itself leaves as they are.
//!
//! ```
//! use squall_harness::cluster::ssh::inventory::ansible;
//!
//! let json = r#"{ "_meta": { "hostvars": { "db1": { "ansible_host": "10.0.0.1" } } },
//!                 "all": { "children": ["db"] }, "db": { "hosts": ["db1", "db2"] } }"#;
//! assert_eq!(ansible::parse("inventory.json", json, "db", None).unwrap().len(), 2);
//! ```

use super::{Entry, scalar};
use crate::config::{ConfigError, Doc, unknown};
use serde_json::{Map, Value};
use std::collections::{BTreeMap, BTreeSet};

/// The group that everybody is in.
pub const ALL: &str = "all";

/// The hosts of a group in the order of the inventory; `data` names the variable with a host's data-plane address.
///
/// # Errors
/// With the file, the host or group and what to do.
pub fn parse(file: &str, text: &str, group: &str, data: Option<&str>) -> Result<Vec<Doc>, ConfigError> {
    let failed = |what: String| ConfigError { origin: file.to_owned(), what };
    let value: Value = serde_json::from_str(text).map_err(|error| {
        failed(format!(
            "it is not the JSON that `ansible-inventory --list` prints ({error}): save that, or name the inventory"
        ))
    })?;
    let Some(groups) = value.as_object().filter(|groups| groups.contains_key("_meta")) else {
        let what =
            "it has no `_meta`: save what `ansible-inventory --list` prints (without `--yaml`), or name the inventory";
        return Err(failed(what.to_owned()));
    };
    if group != ALL && !groups.contains_key(group) {
        let known = groups.keys().map(String::as_str).filter(|name| *name != "_meta").collect::<Vec<_>>();
        return Err(failed(unknown("group", group, known)));
    }
    let hosts = hosts_of(groups, group);
    if hosts.is_empty() {
        return Err(failed(format!("there is no host in group `{group}`: choose another `group`")));
    }
    let none = Map::new();
    let variables = value.pointer("/_meta/hostvars").and_then(Value::as_object).unwrap_or(&none);
    let mut labels = labels(groups, &hosts);
    let read = |host: &String| {
        let variables = variables.get(host).and_then(Value::as_object).unwrap_or(&none);
        Host { file, name: host, variables }.read(data, labels.remove(host).unwrap_or_default())
    };
    hosts.iter().map(read).collect()
}

/// Hosts of a group and its children, each once, in order.
fn hosts_of(groups: &Map<String, Value>, group: &str) -> Vec<String> {
    let (mut hosts, mut seen, mut waiting) = (Vec::new(), BTreeSet::new(), vec![group.to_owned()]);
    while let Some(group) = waiting.pop() {
        if !seen.insert(group.clone()) {
            continue;
        }
        let names = |key: &str| {
            let list = groups.get(&group).and_then(|group| group.get(key)).and_then(Value::as_array);
            list.into_iter().flatten().filter_map(Value::as_str).map(str::to_owned).collect::<Vec<_>>()
        };
        hosts.extend(names("hosts"));
        waiting.extend(names("children").into_iter().rev());
    }
    let mut seen = BTreeSet::new();
    hosts.retain(|host| seen.insert(host.clone()));
    hosts
}

/// The labels of each of `hosts`: a group with at least two children that have some of them, each host in one of these at most.
fn labels(groups: &Map<String, Value>, hosts: &[String]) -> BTreeMap<String, Vec<(String, String)>> {
    let mut labels: BTreeMap<String, Vec<(String, String)>> = BTreeMap::new();
    for (label, group) in groups.iter().filter(|(name, _)| *name != ALL) {
        let children = group.get("children").and_then(Value::as_array).into_iter().flatten().filter_map(Value::as_str);
        let mut values: Vec<(&str, Vec<String>)> = children.map(|child| (child, hosts_of(groups, child))).collect();
        values.iter_mut().for_each(|(_, members)| members.retain(|member| hosts.contains(member)));
        values.retain(|(_, members)| !members.is_empty());
        let mut seen = BTreeSet::new();
        let is_partition = values.iter().flat_map(|(_, members)| members).all(|member| seen.insert(member.clone()));
        if values.len() < 2 || !is_partition {
            continue;
        }
        for (value, members) in values {
            for member in members {
                labels.entry(member).or_default().push((label.clone(), value.to_owned()));
            }
        }
    }
    labels
}

/// A host and its variables.
struct Host<'a> {
    file: &'a str,
    name: &'a str,
    variables: &'a Map<String, Value>,
}

impl Host<'_> {
    fn read(&self, data: Option<&str>, labels: Vec<(String, String)>) -> Result<Doc, ConfigError> {
        // Anything else is no machine that ssh could reach.
        if let Some(connection) = self.variable(&["ansible_connection"])?
            && !["ssh", "smart", "paramiko"].contains(&connection.as_str())
        {
            let what = format!(
                "`ansible_connection` is `{connection}`, and squall needs ssh: leave it out, or choose a `group` without it"
            );
            return Err(self.error(what));
        }
        let mut host = Entry::new(&self.place());
        host.set("name", Some(self.name));
        let destination = self.variable(&["ansible_host", "ansible_ssh_host"])?;
        host.set("host", Some(destination.unwrap_or_else(|| self.name.to_owned())));
        host.set("port", self.variable(&["ansible_port", "ansible_ssh_port"])?);
        host.set("user", self.variable(&["ansible_user", "ansible_ssh_user"])?);
        host.set("identity", self.variable(&["ansible_ssh_private_key_file", "ansible_private_key_file"])?);
        if let Some(data) = data {
            let Some(address) = self.variable(&[data])? else {
                return Err(
                    self.error(format!("it has no variable `{data}`, which `data` names as the data-plane address"))
                );
            };
            host.set("address", Some(address));
        }
        let mut options = Vec::new();
        for key in ["ansible_ssh_common_args", "ansible_ssh_extra_args"] {
            if let Some(arguments) = self.variable(&[key])? {
                options.extend(settings(&arguments).map_err(|what| self.error(format!("`{key}`: {what}")))?);
            }
        }
        host.set_list("options", options);
        host.set_map("labels", labels);
        Ok(host.finish())
    }

    /// The first of these variables that is given.
    fn variable(&self, keys: &[&str]) -> Result<Option<String>, ConfigError> {
        let Some((key, value)) = keys.iter().find_map(|key| self.variables.get(*key).map(|value| (key, value))) else {
            return Ok(None);
        };
        match scalar(value) {
            Some(text) if text.contains("{{") => Err(self.error(format!(
                "`{key}` is the template `{text}`, which `ansible-inventory` does not evaluate: write its value there"
            ))),
            Some(text) => Ok(Some(text).filter(|text| !text.is_empty())),
            None if value.is_null() => Ok(None),
            None => Err(self.error(format!("`{key}` must be text or a number, not {value}"))),
        }
    }

    fn place(&self) -> String {
        format!("{}, host {}", self.file, self.name)
    }

    fn error(&self, what: String) -> ConfigError {
        ConfigError { origin: self.place(), what }
    }
}

/// `Key=Value` of each `-o Key=Value` and `-J HOST` among arguments of ssh.
fn settings(arguments: &str) -> Result<Vec<String>, String> {
    let words = super::ssh_config::words(arguments).ok_or_else(|| format!("a quote of `{arguments}` is not closed"))?;
    let (mut settings, mut words) = (Vec::new(), words.into_iter());
    while let Some(word) = words.next() {
        let (flag, rest) = word.split_at_checked(2).unwrap_or((&word, ""));
        if !["-o", "-J"].contains(&flag) {
            return Err(format!(
                "squall can use -o Key=Value and -J HOST there, not `{word}`: write it as -o, or in your ssh_config"
            ));
        }
        let value = if rest.is_empty() { words.next() } else { Some(rest.to_owned()) };
        let value = value.ok_or_else(|| format!("`{flag}` has no value"))?;
        settings.push(if flag == "-J" { format!("ProxyJump={value}") } else { value });
    }
    Ok(settings)
}

#[cfg(test)]
mod tests {
    use super::super::tests::words;
    use super::*;
    use proptest::prelude::*;

    /// As Ansible 2.14 prints an inventory of two data centres, a web server and nested groups.
    const JSON: &str = r#"{
        "_meta": { "hostvars": {
            "db1": { "ansible_host": "10.0.0.1", "ansible_port": 2222, "ansible_ssh_private_key_file": "~/.ssh/k",
                     "ansible_user": "admin", "private_ip": "10.9.0.1" },
            "db2": { "ansible_host": "10.0.0.2", "private_ip": "10.9.0.2", "note": "{{ not ours }}" },
            "db3": { "ansible_ssh_common_args": "-o ProxyJump=b -o \"ProxyCommand=ssh -W %h:%p b\" -J c", "private_ip": "10.9.0.3" },
            "w1": { "ansible_connection": "local" },
            "w2": { "ansible_host": "{{ ip }}" }, "w3": { "ansible_port": ["22"] }, "w4": { "ansible_ssh_common_args": "-C" } } },
        "all": { "children": ["ungrouped", "db", "web"] },
        "db": { "children": ["dc"], "hosts": ["db1"] },
        "dc": { "children": ["east", "west"] },
        "east": { "hosts": ["db1", "db2"] },
        "mixed": { "children": ["east", "db", "web"] },
        "one": { "hosts": ["w4"] }, "template": { "hosts": ["w2"] }, "list": { "hosts": ["w3"] }, "empty": {},
        "web": { "hosts": ["w1"] },
        "west": { "hosts": ["db3"] } }"#;

    fn read(group: &str, data: Option<&str>) -> Result<Vec<String>, String> {
        let hosts = parse("i.json", JSON, group, data).map_err(|error| error.to_string())?;
        Ok(hosts.iter().map(words).collect())
    }

    #[test]
    fn hosts_with_what_is_known_of_them() {
        let hosts = read("db", Some("private_ip")).unwrap();
        let expected = [
            "name=db1 host=10.0.0.1 port=2222 user=admin identity=~/.ssh/k address=10.9.0.1 labels=dc=east",
            "name=db2 host=10.0.0.2 address=10.9.0.2 labels=dc=east",
            "name=db3 host=db3 address=10.9.0.3 options=[ProxyJump=b, ProxyCommand=ssh -W %h:%p b, ProxyJump=c] labels=dc=west",
        ];
        assert_eq!(hosts, expected);
        // Of a single data centre there is nothing to tell apart.
        assert_eq!(read("east", None).unwrap()[1], "name=db2 host=10.0.0.2");
    }

    #[test]
    fn mistakes_are_named_with_host_and_key() {
        let table = [
            ("dbs", None, "i.json: unknown group `dbs`; did you mean `db`?"),
            ("empty", None, "i.json: there is no host in group `empty`: choose another `group`"),
            ("all", None, "i.json, host w1: `ansible_connection` is `local`, and squall needs ssh"),
            ("template", None, "i.json, host w2: `ansible_host` is the template `{{ ip }}`"),
            ("list", None, "i.json, host w3: `ansible_port` must be text or a number"),
            (
                "one",
                None,
                "i.json, host w4: `ansible_ssh_common_args`: squall can use -o Key=Value and -J HOST there, not `-C`",
            ),
            ("db", Some("public_ip"), "i.json, host db1: it has no variable `public_ip`"),
        ];
        for (group, data, expected) in table {
            let error = read(group, data).unwrap_err();
            assert!(error.contains(expected), "{group}: {error}");
        }
        for (text, expected) in [
            ("plugin: aws\n", "i.json: it is not the JSON that `ansible-inventory --list` prints"),
            ("{}", "it has no `_meta`"),
            ("[]", "it has no `_meta`"),
        ] {
            let error = parse("i.json", text, ALL, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }

    proptest! {
        #[test]
        fn groups_in_circles_end(children in proptest::collection::vec(proptest::collection::vec(0usize..5, 0..4), 5)) {
            let mut groups = Map::new();
            groups.insert("_meta".to_owned(), Value::Null);
            for (number, children) in children.iter().enumerate() {
                let children: Vec<String> = children.iter().map(|child| format!("g{child}")).collect();
                let group = serde_json::json!({ "hosts": [format!("h{number}")], "children": children });
                groups.insert(format!("g{number}"), group);
            }
            let text = Value::Object(groups).to_string();
            let hosts = parse("f", &text, "g0", None).unwrap();
            prop_assert!((1..=5).contains(&hosts.len()));
        }
    }
}

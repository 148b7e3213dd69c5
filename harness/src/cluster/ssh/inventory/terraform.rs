//! What `terraform output -json` (or `tofu output -json`) prints: an output with addresses, or with whole hosts.
//!
//! The output may be one address, a list of addresses, a map of names to addresses, or a list or map of objects with the keys of a
//! host in a hosts file (`host`, `name`, `user`, `address`, …). A second output of the same shape may hold data-plane addresses.
//!
//! ```
//! use squall_harness::cluster::ssh::inventory::terraform;
//!
//! let json = r#"{ "ips": { "sensitive": false, "type": ["list", "string"], "value": ["10.0.0.1", "10.0.0.2"] } }"#;
//! assert_eq!(terraform::parse("outputs.json", json, None, None).unwrap().len(), 2);
//! ```

use super::{Entry, scalar};
use crate::config::{ConfigError, Doc, DocNode, Origin, unknown};
use serde_json::{Map, Value};

/// The hosts of `output`, or of the only output that has any; `data` names the output with their data-plane addresses.
///
/// # Errors
/// With the file, the output and what to do.
pub fn parse(file: &str, text: &str, output: Option<&str>, data: Option<&str>) -> Result<Vec<Doc>, ConfigError> {
    let failed = |what: String| ConfigError { origin: file.to_owned(), what };
    let value: Value = serde_json::from_str(text).map_err(|error| {
        failed(format!(
            "it is not the JSON that `terraform output -json` prints ({error}): save that, or name the folder"
        ))
    })?;
    let outputs = value.as_object().filter(|outputs| outputs.values().all(|output| output.get("value").is_some()));
    let Some(outputs) = outputs else {
        let what = "it is not what `terraform output -json` prints: each output must have a `value` (no output's name after `-json`)";
        return Err(failed(what.to_owned()));
    };
    if outputs.is_empty() {
        let what = "there are no outputs: add an `output` with the addresses of the hosts, then `terraform apply`";
        return Err(failed(what.to_owned()));
    }
    let named = |name: &str| {
        let known = outputs.keys().map(String::as_str).collect::<Vec<_>>();
        outputs.get(name).map(|output| &output["value"]).ok_or_else(|| failed(unknown("output", name, known)))
    };
    let name = match output {
        Some(name) => name,
        None => the_only_one(outputs).map_err(failed)?,
    };
    let mut hosts = hosts(file, name, named(name)?)?;
    if let Some(data) = data {
        let addresses = named(data)?;
        for (key, host) in &mut hosts {
            let address = match key {
                Key::Only => Some(addresses),
                Key::Item(index) => addresses.get(*index),
                Key::Name(name) => addresses.get(name.as_str()),
            };
            let Some(address) = address.and_then(scalar) else {
                let what = format!(
                    "output `{data}` has no data-plane address for {}: it must have the shape of `{name}`",
                    host.origin
                );
                return Err(failed(what));
            };
            if let DocNode::Map(keys) = &mut host.node {
                keys.push(("address".to_owned(), Doc { node: DocNode::Scalar(address), origin: host.origin.clone() }));
            }
        }
    }
    Ok(hosts.into_iter().map(|(_, host)| host).collect())
}

/// Where a host stands in its output.
enum Key {
    Only,
    Item(usize),
    Name(String),
}

fn the_only_one(outputs: &Map<String, Value>) -> Result<&str, String> {
    let has_hosts = |value: &Value| hosts("", "", value).is_ok();
    let mut found = outputs.iter().filter(|(_, output)| has_hosts(&output["value"])).map(|(name, _)| name.as_str());
    match (found.next(), found.next()) {
        (Some(name), None) => Ok(name),
        _ => {
            let known = outputs.keys().map(String::as_str).collect::<Vec<_>>().join(", ");
            Err(format!("say which output holds the addresses of the hosts, `output: NAME`; known: {known}"))
        }
    }
}

fn hosts(file: &str, output: &str, value: &Value) -> Result<Vec<(Key, Doc)>, ConfigError> {
    let place = format!("{file}, output `{output}`");
    let hosts = match value {
        Value::String(_) => vec![(Key::Only, host(&place, None, value)?)],
        Value::Array(items) => {
            let item = |(index, item): (usize, &Value)| {
                Ok((Key::Item(index), host(&format!("{place}, item {}", index + 1), None, item)?))
            };
            items.iter().enumerate().map(item).collect::<Result<_, ConfigError>>()?
        }
        // Several hosts by name, or one of them with its keys.
        Value::Object(keys) if keys.get("host").is_some_and(Value::is_string) => {
            vec![(Key::Only, host(&place, None, value)?)]
        }
        Value::Object(entries) => {
            let entry = |(name, value): (&String, &Value)| {
                Ok((Key::Name(name.clone()), host(&format!("{place}, `{name}`"), Some(name), value)?))
            };
            entries.iter().map(entry).collect::<Result<_, ConfigError>>()?
        }
        _ => Vec::new(),
    };
    if hosts.is_empty() {
        let what = "there is no host in it: it must be an address, a list of them, a map of names to them, or of hosts with their keys";
        return Err(ConfigError { origin: place, what: what.to_owned() });
    }
    Ok(hosts)
}

fn host(place: &str, name: Option<&str>, value: &Value) -> Result<Doc, ConfigError> {
    let failed = |what: String| ConfigError { origin: place.to_owned(), what };
    let mut entry = Entry::new(place);
    match value {
        Value::String(address) if !address.is_empty() => {
            entry.set("name", name);
            entry.set("host", Some(address));
        }
        Value::String(_) => {
            return Err(failed("the address is empty: is the machine up? `terraform refresh`".to_owned()));
        }
        Value::Object(keys) => {
            if !keys.get("host").is_some_and(Value::is_string) {
                let what = "it needs `host`, its address: have the output be { host = …public_ip, name = …, user = … }, or just addresses";
                return Err(failed(what.to_owned()));
            }
            if !keys.contains_key("name") {
                entry.set("name", name);
            }
            entry.keys.extend(
                keys.iter().filter(|(_, value)| !value.is_null()).map(|(key, value)| (key.clone(), doc(place, value))),
            );
        }
        other => return Err(failed(format!("it must be an address or a host with its keys, not {other}"))),
    }
    Ok(entry.finish())
}

/// JSON as a document.
fn doc(place: &str, value: &Value) -> Doc {
    let node = match value {
        Value::Null => DocNode::Scalar(String::new()),
        Value::Array(items) => DocNode::List(items.iter().map(|item| doc(place, item)).collect()),
        Value::Object(entries) => {
            DocNode::Map(entries.iter().map(|(key, value)| (key.clone(), doc(place, value))).collect())
        }
        Value::String(text) => DocNode::Scalar(text.clone()),
        other => DocNode::Scalar(other.to_string()),
    };
    Doc { node, origin: Origin::Place(place.into()) }
}

#[cfg(test)]
mod tests {
    use super::super::tests::words;
    use super::*;

    fn read(outputs: &str, output: Option<&str>, data: Option<&str>) -> Result<Vec<String>, String> {
        let outputs: Value = serde_json::from_str(outputs).unwrap();
        let wrapped: Map<String, Value> = outputs.as_object().unwrap().iter().map(wrap).collect();
        let hosts =
            parse("o.json", &Value::Object(wrapped).to_string(), output, data).map_err(|error| error.to_string())?;
        Ok(hosts.iter().map(words).collect())
    }

    fn wrap((name, value): (&String, &Value)) -> (String, Value) {
        (name.clone(), serde_json::json!({ "sensitive": false, "type": "string", "value": value }))
    }

    const OUTPUTS: &str = r#"{ "ips": ["10.0.0.1", "10.0.0.2"], "inner": ["10.1.0.1", "10.1.0.2"], "one": "10.0.0.3",
        "named": { "a": "10.0.0.1", "b": "10.0.0.2" }, "named_inner": { "a": "10.1.0.1", "b": "10.1.0.2" },
        "hosts": [ { "host": "10.0.0.1", "name": "x", "port": 2222, "labels": { "dc": "east" }, "user": null } ],
        "hosts_by_name": { "y": { "host": "10.0.0.1" } }, "single": { "host": "h", "user": "u" },
        "count": 3, "none": [], "dead": [""], "instances": [ { "public_ip": "10.0.0.1" } ] }"#;

    #[test]
    fn every_shape() {
        let table: [(&str, Option<&str>, &[&str]); 8] = [
            ("ips", None, &["host=10.0.0.1", "host=10.0.0.2"]),
            ("ips", Some("inner"), &["host=10.0.0.1 address=10.1.0.1", "host=10.0.0.2 address=10.1.0.2"]),
            ("one", None, &["host=10.0.0.3"]),
            (
                "named",
                Some("named_inner"),
                &["name=a host=10.0.0.1 address=10.1.0.1", "name=b host=10.0.0.2 address=10.1.0.2"],
            ),
            ("hosts", None, &["host=10.0.0.1 labels=dc=east name=x port=2222"]),
            ("hosts_by_name", None, &["name=y host=10.0.0.1"]),
            ("single", None, &["host=h user=u"]),
            ("single", Some("one"), &["host=h user=u address=10.0.0.3"]),
        ];
        for (output, data, expected) in table {
            assert_eq!(read(OUTPUTS, Some(output), data).unwrap(), expected, "{output}");
        }
        // Where only one can be meant it need not be named.
        assert_eq!(read(r#"{ "ips": ["a"], "count": 3 }"#, None, None).unwrap(), ["host=a"]);
    }

    #[test]
    fn mistakes_are_named_with_the_output() {
        let table = [
            (
                None,
                None,
                "o.json: say which output holds the addresses of the hosts, `output: NAME`; known: count, dead",
            ),
            (Some("ip"), None, "o.json: unknown output `ip`; did you mean `ips`?"),
            (Some("count"), None, "o.json, output `count`: there is no host in it"),
            (Some("none"), None, "o.json, output `none`: there is no host in it"),
            (Some("dead"), None, "o.json, output `dead`, item 1: the address is empty"),
            (Some("instances"), None, "o.json, output `instances`, item 1: it needs `host`, its address"),
            (Some("ips"), Some("named"), "output `named` has no data-plane address for o.json, output `ips`, item 1"),
        ];
        for (output, data, expected) in table {
            let error = read(OUTPUTS, output, data).unwrap_err();
            assert!(error.contains(expected), "{output:?}: {error}");
        }
        for (text, expected) in [
            ("Warning: No outputs found", "o.json: it is not the JSON that `terraform output -json` prints"),
            ("{}", "there are no outputs: add an `output`"),
            ("[\"10.0.0.1\"]", "each output must have a `value`"),
            ("{ \"a\": 3 }", "each output must have a `value`"),
        ] {
            let error = parse("o.json", text, None, None).unwrap_err().to_string();
            assert!(error.contains(expected), "{text}: {error}");
        }
    }
}

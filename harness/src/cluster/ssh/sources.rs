//! Where the hosts come from: a hosts file with a list of its own, or what people have already: an inventory of Ansible's, outputs of
//! Terraform's, an ssh_config, one host a line.
//!
//! A hosts file names one of them and adds what it does not know; any of them may also stand where a hosts file is asked for.

use super::host::{self, Host, in_folder};
use super::inventory::{ansible, plain, ssh_config, terraform};
use crate::config::{ConfigError, Doc, DocNode, KeyDoc, Origin, Section, describe};
use crate::labels::Labels;
use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

/// The keys of a hosts file beside those of each host.
struct Keys {
    list: Option<Doc>,
    ansible: Option<String>,
    group: Option<String>,
    terraform: Option<String>,
    output: Option<String>,
    data: Option<String>,
    ssh_config: Option<String>,
    file: Option<String>,
    only: Option<Vec<String>>,
    defaults: Option<Doc>,
}

const EXAMPLE: &str =
    "a hosts file needs a key `hosts`, a list of hosts, or one of `ansible`, `terraform`, `ssh_config` and `file`";

fn read_keys(top: &mut Section) -> Result<Keys, ConfigError> {
    Ok(Keys {
        list: top.raw("hosts", "list", "the hosts: a name each, or a map with the keys below")?,
        ansible: top.optional(
            "ansible",
            "instead: an Ansible inventory, or a file with what `ansible-inventory --list` printed",
        )?,
        group: top.optional("group", "of Ansible's inventory: the group to take (default: all)")?,
        terraform: top.optional(
            "terraform",
            "instead: the folder for `terraform output -json`, or a file with what it printed",
        )?,
        output: top
            .optional("output", "of Terraform's: which holds addresses or hosts (default: the only one that does)")?,
        data: top.optional(
            "data",
            "data-plane addresses: a variable of Ansible's hosts, or another output of Terraform's",
        )?,
        ssh_config: top.optional("ssh_config", "instead: an ssh_config whose hosts are taken, but for jump hosts")?,
        file: top.optional("file", "instead: a file with a host a line, [USER@]HOST[:PORT] [NAME]")?,
        only: top.optional("only", "of all these, the hosts with these names, in this order")?,
        defaults: top.raw("defaults", "map", "keys that all hosts have unless they have their own: { user: admin }")?,
    })
}

/// The keys of a hosts file, for people.
pub(super) fn keys() -> Vec<KeyDoc> {
    let mut keys = describe("", |top| read_keys(top).map(|_| ())).unwrap_or_default();
    keys.extend(host::keys());
    keys
}

/// The hosts of a file.
///
/// # Errors
/// File, line and key, or host, of what is wrong.
pub(super) fn read_hosts(file: &Path) -> Result<Vec<Host>, ConfigError> {
    let base = file.parent().unwrap_or(Path::new("."));
    let here = Origin::Place(shown(file).into());
    if file.is_dir() {
        let what = "it is a folder: name a file; a hosts file may say `terraform: FOLDER` or `ansible: FOLDER`";
        return Err(ConfigError::at(&here, what));
    }
    let text = read(file, "the hosts file")?;
    match Format::of(&text) {
        Format::HostsFile => {
            let mut top = Section::new("", Doc::parse(&shown(file), &text)?)?;
            let keys = read_keys(&mut top)?;
            // A misspelt key explains a missing one.
            top.finish()?;
            let found = found(&keys, base, &here)?;
            made(found, keys.defaults, keys.only, base, &here)
        }
        Format::Ansible => made(ansible_hosts(file, &text, ansible::ALL, None)?, None, None, base, &here),
        Format::Terraform => made(terraform::parse(&shown(file), &text, None, None)?, None, None, base, &here),
        Format::SshConfig => made(ssh_config_hosts(file, &text)?, None, None, base, &here),
        Format::Plain => made(plain::parse(&shown(file), &text)?, None, None, base, &here),
    }
}

/// Where the hosts are, in the words that tests use.
///
/// # Errors
/// When a host would be in two places at once.
pub(super) fn labels(hosts: &[Host], file: &Path) -> Result<Labels, ConfigError> {
    let mut labels = Labels::default();
    for (index, host) in hosts.iter().enumerate() {
        for (label, value) in &host.labels {
            let failed = |what| ConfigError { origin: format!("{}, host {}", shown(file), host.name), what };
            labels.add(label, value, index).map_err(failed)?;
        }
    }
    Ok(labels)
}

/// What a file is, by what stands in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Format {
    HostsFile,
    Ansible,
    Terraform,
    SshConfig,
    Plain,
}

impl Format {
    fn of(text: &str) -> Self {
        let text = text.trim_start_matches('\u{feff}');
        if text.trim_start().starts_with('{')
            && let Ok(serde_json::Value::Object(json)) = serde_json::from_str(text)
        {
            if json.contains_key("_meta") || json.contains_key("all") {
                return Self::Ansible;
            }
            let are_outputs = !json.is_empty() && json.values().all(|output| output.get("sensitive").is_some());
            return if are_outputs { Self::Terraform } else { Self::HostsFile };
        }
        let lines = text
            .lines()
            .map(str::trim)
            .filter(|line| !line.is_empty() && !line.starts_with(['#', ';']) && *line != "---");
        let Some(first) = lines.clone().next() else {
            return Self::HostsFile;
        };
        let word = first.split([' ', '\t', '=']).next().unwrap_or_default();
        if text.starts_with("#!") || first.starts_with('[') || lines.clone().any(|line| line.contains(" ansible_")) {
            return Self::Ansible;
        }
        if ["host", "match", "include"].contains(&word.to_ascii_lowercase().as_str()) && word.len() < first.len() {
            return Self::SshConfig;
        }
        let is_key = |line: &str| line.ends_with(':') || line.contains(": ");
        if first.starts_with('{') || is_key(first) {
            // An inventory in YAML: groups, which are maps of `hosts`, `children` or `vars`.
            let is_of_group =
                |line: &str| ["children:", "vars:"].contains(&line) || line == "hosts:" && first != "hosts:";
            return if lines.clone().skip(1).any(is_of_group) { Self::Ansible } else { Self::HostsFile };
        }
        Self::Plain
    }
}

/// The hosts that a hosts file lists or names.
fn found(keys: &Keys, base: &Path, here: &Origin) -> Result<Vec<Doc>, ConfigError> {
    let failed = |what: String| ConfigError::at(here, what);
    let sources = [
        ("hosts", keys.list.is_some()),
        ("ansible", keys.ansible.is_some()),
        ("terraform", keys.terraform.is_some()),
        ("ssh_config", keys.ssh_config.is_some()),
        ("file", keys.file.is_some()),
    ];
    let given: Vec<&str> = sources.into_iter().filter(|(_, is_given)| *is_given).map(|(key, _)| key).collect();
    match given[..] {
        [] => return Err(failed(EXAMPLE.to_owned())),
        [_] => {}
        _ => return Err(failed(format!("hosts come from one place: choose one of the keys `{}`", given.join("`, `")))),
    }
    for (key, of, is_wrong) in [
        ("group", "`ansible`", keys.group.is_some() && keys.ansible.is_none()),
        ("output", "`terraform`", keys.output.is_some() && keys.terraform.is_none()),
        (
            "data",
            "`ansible` and `terraform`",
            keys.data.is_some() && keys.ansible.is_none() && keys.terraform.is_none(),
        ),
    ] {
        if is_wrong {
            return Err(failed(format!("`{key}` belongs to {of}, not to `{}`", given[0])));
        }
    }
    let data = keys.data.as_deref();
    if let Some(path) = &keys.ansible {
        let path = in_folder(base, path);
        // An inventory may be a folder; then there is nothing to look into.
        let text = if path.is_dir() { String::new() } else { read(&path, "the inventory")? };
        return ansible_hosts(&path, &text, keys.group.as_deref().unwrap_or(ansible::ALL), data);
    }
    if let Some(path) = &keys.terraform {
        let path = in_folder(base, path);
        let text = if path.is_dir() { terraform_outputs(&path)? } else { read(&path, "the outputs")? };
        return terraform::parse(&shown(&path), &text, keys.output.as_deref(), data);
    }
    if let Some(path) = &keys.ssh_config {
        let path = in_folder(base, path);
        return ssh_config_hosts(&path, &read(&path, "the ssh_config")?);
    }
    if let Some(path) = &keys.file {
        let path = in_folder(base, path);
        return plain::parse(&shown(&path), &read(&path, "the list of hosts")?);
    }
    match keys.list.clone() {
        Some(Doc { node: DocNode::List(items), .. }) => Ok(items.into_iter().map(spelt_out).collect()),
        Some(list) => Err(ConfigError::at(&list.origin, format!("`hosts` must be a list, not {}", list.describe()))),
        None => Ok(Vec::new()),
    }
}

/// A bare name is a map with one key: everything else is in the user's ssh_config.
fn spelt_out(item: Doc) -> Doc {
    match item.node {
        DocNode::Scalar(ref name) if !name.is_empty() => {
            let entry = ("host".to_owned(), item.clone());
            Doc { node: DocNode::Map(vec![entry]), origin: item.origin }
        }
        _ => item,
    }
}

/// Hosts from their documents: what all have is added, and only those that are wanted are kept.
fn made(
    found: Vec<Doc>,
    defaults: Option<Doc>,
    only: Option<Vec<String>>,
    base: &Path,
    here: &Origin,
) -> Result<Vec<Host>, ConfigError> {
    let defaults = match defaults {
        None => Vec::new(),
        Some(Doc { node: DocNode::Map(entries), .. }) => entries,
        Some(other) => {
            return Err(ConfigError::at(
                &other.origin,
                format!("`defaults` must be a map of keys, not {}", other.describe()),
            ));
        }
    };
    if let Some((key, doc)) = defaults.iter().find(|(key, _)| ["host", "name", "address"].contains(&key.as_str())) {
        return Err(ConfigError::at(&doc.origin, format!("`{key}` cannot be the same for all hosts")));
    }
    let mut hosts: Vec<Host> = Vec::new();
    let mut names = BTreeSet::new();
    for (number, mut item) in found.into_iter().enumerate() {
        if let DocNode::Map(keys) = &mut item.node {
            let has = |key: &str| keys.iter().any(|(known, _)| known == key);
            let missing: Vec<_> = defaults.iter().filter(|(key, _)| !has(key)).cloned().collect();
            keys.extend(missing);
        }
        let mut section = Section::new(&format!("hosts.{number}"), item)?;
        let host = host::read(&mut section, number, base)?;
        if !names.insert(host.name.clone()) {
            return Err(section.error(format!("two hosts are called `{}`: give one another `name`", host.name)));
        }
        section.finish()?;
        hosts.push(host);
    }
    if let Some(only) = only {
        let known: Vec<String> = hosts.iter().map(|host| host.name.clone()).collect();
        let mut chosen = Vec::new();
        for name in only {
            let Some(at) = hosts.iter().position(|host| host.name == name) else {
                let what = format!("`only` names `{name}`, which is not there; known: {}", known.join(", "));
                return Err(ConfigError::at(here, what));
            };
            chosen.push(hosts.remove(at));
        }
        hosts = chosen;
    }
    if hosts.is_empty() {
        return Err(ConfigError::at(here, "there is no host in the list"));
    }
    Ok(hosts)
}

/// The inventory as Ansible itself understands it; what it printed once is taken as it is.
fn ansible_hosts(path: &Path, text: &str, group: &str, data: Option<&str>) -> Result<Vec<Doc>, ConfigError> {
    let is_printed = serde_json::from_str::<serde_json::Value>(text).is_ok_and(|json| json.get("_meta").is_some());
    if is_printed {
        return ansible::parse(&shown(path), text, group, data);
    }
    let mut command = Command::new("ansible-inventory");
    command.arg("-i").arg(path).arg("--list");
    // Without this an inventory that cannot be read is an empty one.
    command.env("ANSIBLE_INVENTORY_ANY_UNPARSED_IS_FAILED", "true").env("ANSIBLE_NOCOLOR", "1");
    let missing = "apt install ansible-core, or save what it prints where it is and name that file";
    let printed = output(command, path, &["ansible-inventory"], missing)?;
    ansible::parse(&shown(path), &printed, group, data)
}

fn terraform_outputs(folder: &Path) -> Result<String, ConfigError> {
    let missing = "install Terraform (or OpenTofu), or save what `terraform output -json` prints and name that file";
    let command = |program: &str| {
        let mut command = Command::new(program);
        command.arg(format!("-chdir={}", folder.display())).args(["output", "-json", "-no-color"]);
        command
    };
    match output(command("terraform"), folder, &["terraform", "tofu"], missing) {
        Err(error) if error.what.contains(missing) => output(command("tofu"), folder, &["terraform", "tofu"], missing),
        done => done,
    }
}

/// What a program prints; `names` are it and those that would do as well, `missing` is what to do without.
fn output(mut command: Command, of: &Path, names: &[&str], missing: &str) -> Result<String, ConfigError> {
    let failed = |what: String| ConfigError { origin: shown(of), what };
    let program = command.get_program().to_string_lossy().into_owned();
    let output = command.stdin(Stdio::null()).output().map_err(|error| match error.kind() {
        std::io::ErrorKind::NotFound => failed(format!("there is no `{}` here: {missing}", names.join("` or `"))),
        _ => failed(format!("cannot start `{program}`: {error}")),
    })?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        return Err(failed(format!("`{program}` cannot read it: {}", complaint(&said))));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// The line of a program's complaints that says most, without frames, marks and warnings.
fn complaint(said: &str) -> String {
    let lines = said.lines().map(|line| line.trim_matches(|c: char| c.is_whitespace() || "│╷╵".contains(c)));
    let lines: Vec<&str> = lines.filter(|line| !line.is_empty()).collect();
    let error = lines.iter().find(|line| line.to_lowercase().starts_with("error"));
    let line = error.or(lines.last()).copied().unwrap_or("it gave no reason");
    line.trim_start_matches("ERROR!").trim_start_matches("Error:").trim().to_owned()
}

/// An ssh_config is named to ssh, so by its absolute path.
fn ssh_config_hosts(path: &Path, text: &str) -> Result<Vec<Doc>, ConfigError> {
    let absolute = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
    ssh_config::hosts(&shown(&absolute), text)
}

fn read(path: &Path, what: &str) -> Result<String, ConfigError> {
    std::fs::read_to_string(path)
        .map_err(|error| ConfigError { origin: shown(path), what: format!("cannot read {what}: {error}") })
}

fn shown(path: &Path) -> String {
    PathBuf::from(path).display().to_string()
}

#[cfg(test)]
mod tests;

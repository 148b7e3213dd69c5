//! One host, as a hosts file or another list of hosts has it.

use crate::config::{ConfigError, Doc, DocNode, FromDoc, KeyDoc, Section, describe, unknown};
use std::net::IpAddr;
use std::path::{Path, PathBuf};

/// How to reach a host, and what it is.
#[derive(Clone, Debug, PartialEq)]
pub(in crate::cluster) struct Host {
    pub(in crate::cluster) name: String,
    pub(in crate::cluster) destination: String,
    pub(in crate::cluster) port: Option<u16>,
    pub(in crate::cluster) user: Option<String>,
    pub(in crate::cluster) identity: Option<PathBuf>,
    /// Data-plane address; `None` is what the host's name resolves to.
    pub(in crate::cluster) address: Option<IpAddr>,
    pub(in crate::cluster) root: String,
    pub(in crate::cluster) known_hosts: String,
    pub(in crate::cluster) known_hosts_file: Option<PathBuf>,
    pub(in crate::cluster) ssh_config: Option<PathBuf>,
    /// More settings of ssh_config: `Key=Value`.
    pub(in crate::cluster) options: Vec<String>,
    /// Where it is: `(dc, east)`.
    pub(in crate::cluster) labels: Vec<(String, String)>,
    /// Nobody but us uses it: what earlier versions of squall left there is removed.
    pub(in crate::cluster) is_ours: bool,
}

/// The keys of a host, for people.
pub(super) fn keys() -> Vec<KeyDoc> {
    describe("hosts.N", |section| read(section, 0, Path::new("."))).unwrap_or_default()
}

/// Reads one host, the `number`th from 0; files are relative to `base`.
pub(super) fn read(section: &mut Section, number: usize, base: &Path) -> Result<Host, ConfigError> {
    let path = |path: String| in_folder(base, &path);
    let destination = section.required("host", "HOST".to_owned(), "address or name, or an alias of ssh_config")?;
    let name = section.get("name", format!("n{}", number + 1), "what it is called in tests and results")?;
    let port = section.optional::<u16>("port", "port of sshd (default: ssh's)")?;
    let user = section.optional::<String>("user", "login (default: ssh's); without root rights `sudo -n` must work")?;
    let identity = section.optional::<String>("identity", "private key file (default: ssh's)")?.map(path);
    let address =
        section.optional::<String>("address", "data-plane address that faults may cut (default: that of `host`)")?;
    let root = section.get("root", "/var/lib/squall".to_owned(), "absolute folder in which squall may write")?;
    let known_hosts = section.get("known_hosts", "strict".to_owned(), "strict, or accept-new")?;
    let known_hosts_file = section.optional::<String>("known_hosts_file", "instead of ssh's own")?.map(path);
    let ssh_config = section.optional::<String>("ssh_config", "configuration file for ssh (default: ssh's)")?.map(path);
    let jump = section.optional::<String>("jump", "[USER@]HOST[:PORT] of a jump host, or several with commas")?;
    let mut options =
        section.get::<Vec<String>>("options", Vec::new(), "settings as for ssh -o: [ServerAliveInterval=5]")?;
    let labels = section.raw("labels", "map", "where it is, for faults that hit whole data centres: { dc: east }")?;
    let labels = labels.map_or(Ok(Vec::new()), |labels| read_labels(&labels))?;
    if !root.starts_with('/') || root == "/" {
        return Err(section.error(format!("`root` must be an absolute folder of squall's own, not `{root}`")));
    }
    if !["strict", "accept-new"].contains(&known_hosts.as_str()) {
        return Err(section.error(unknown("value of known_hosts", &known_hosts, ["strict", "accept-new"])));
    }
    for (key, value) in [("host", Some(&destination)), ("user", user.as_ref()), ("jump", jump.as_ref())] {
        // ssh would take it for an option.
        if let Some(value) = value.filter(|value| value.starts_with('-') || value.contains(char::is_whitespace)) {
            return Err(section.error(format!("`{key}` must not begin with `-` nor have spaces in it: `{value}`")));
        }
    }
    if let Some(option) = options.iter().find(|option| setting(option).is_none()) {
        return Err(section.error(format!("each of `options` must be Key=Value as for ssh -o, not `{option}`")));
    }
    options.extend(jump.map(|jump| format!("ProxyJump={jump}")));
    let address = match address.map(|text| text.parse::<IpAddr>().map_err(|_| text)).transpose() {
        Ok(address) => address,
        Err(text) => return Err(section.error(format!("`address` must be an IP address, not `{text}`"))),
    };
    Ok(Host {
        name,
        destination,
        port,
        user,
        identity,
        address,
        root,
        known_hosts,
        known_hosts_file,
        ssh_config,
        options,
        labels,
        is_ours: false,
    })
}

/// `Key=Value` or `Key Value`, of one line.
pub(super) fn setting(option: &str) -> Option<(&str, &str)> {
    let (key, value) = option.split_once(['=', ' '])?;
    let is_key = !key.is_empty() && key.chars().all(|c| c.is_ascii_alphanumeric());
    (is_key && !value.trim().is_empty() && !option.contains(['\n', '\r'])).then(|| (key, value.trim()))
}

/// `path` as a hosts file means it: relative to its folder, or to the home folder where it begins with `~/`.
pub(super) fn in_folder(base: &Path, path: &str) -> PathBuf {
    match (path.strip_prefix("~/"), std::env::var_os("HOME")) {
        (Some(rest), Some(home)) => PathBuf::from(home).join(rest),
        _ => {
            let path = base.join(path);
            // ssh reads some of them as relative to its own folder.
            std::path::absolute(&path).unwrap_or(path)
        }
    }
}

fn read_labels(doc: &Doc) -> Result<Vec<(String, String)>, ConfigError> {
    let DocNode::Map(entries) = &doc.node else {
        let what =
            format!("`labels` of a host must be a map of labels to values: {{ dc: east }}, not {}", doc.describe());
        return Err(ConfigError::at(&doc.origin, what));
    };
    let read = |(label, value): &(String, Doc)| {
        let text = String::from_doc(value)
            .map_err(|_| ConfigError::at(&value.origin, format!("the value of label `{label}` must be a word")))?;
        Ok((label.clone(), text))
    };
    entries.iter().map(read).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn settings() {
        assert_eq!(setting("ProxyJump=a"), Some(("ProxyJump", "a")));
        assert_eq!(setting("ProxyCommand ssh -W %h:%p b"), Some(("ProxyCommand", "ssh -W %h:%p b")));
        for wrong in ["ProxyJump", "=a", "A=", "A=b\nB=c", "ü=c", ""] {
            assert!(setting(wrong).is_none(), "{wrong}");
        }
    }

    #[test]
    fn files_are_beside_the_hosts_file_or_at_home() {
        assert_eq!(in_folder(Path::new("/lab"), "key"), Path::new("/lab/key"));
        assert_eq!(in_folder(Path::new("/lab"), "/etc/key"), Path::new("/etc/key"));
        let home = std::env::var_os("HOME").map(PathBuf::from);
        assert_eq!(in_folder(Path::new("/lab"), "~/key"), home.map_or("/lab/~/key".into(), |home| home.join("key")));
    }
}

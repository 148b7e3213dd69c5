//! `Host` entries of an ssh_config, such as `vagrant ssh-config` prints it (ssh_config(5)).
//!
//! Hosts are the names in `Host` lines that are no patterns. What such a host has is what ssh would take: of each setting
//! the first value in all `Host` blocks that match its name, and all of the identity files. Whoever connects should still
//! give ssh the file and the name, `ssh -F FILE NAME`, so that settings that are not read here (`ProxyJump`, ciphers, …)
//! count, too.
//!
//! Not read: `Match` blocks other than `Match all` (ssh evaluates them when it connects), and files of `Include`.
//!
//! ```
//! use squall_harness::cluster::ssh::inventory::ssh_config;
//!
//! let text = "Host n1\n  HostName 192.168.121.5\n  User vagrant\n\nHost *\n  Port 2222\n";
//! let hosts = ssh_config::parse("vagrant.conf", text).unwrap();
//! assert_eq!((hosts[0].name.as_str(), hosts[0].hostname.as_str()), ("n1", "192.168.121.5"));
//! assert_eq!((hosts[0].user.as_deref(), hosts[0].port), (Some("vagrant"), Some(2222)));
//! ```

use super::Entry;
use crate::config::{ConfigError, Doc, Origin};
use std::path::PathBuf;

/// One host.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SshConfigHost {
    /// Its name in the `Host` line: what ssh is called with.
    pub name: String,
    /// `HostName`, or the name itself: what ssh connects to, an address or a name.
    pub hostname: String,
    /// `Port`; `None` is ssh's default.
    pub port: Option<u16>,
    /// `User`; `None` is ssh's default.
    pub user: Option<String>,
    /// `IdentityFile`s in the order of the file, as they were written: `~` and `%d` are not expanded.
    pub identity_files: Vec<PathBuf>,
    /// `ProxyJump`, as it was written.
    pub jump: Option<String>,
    /// The ssh_config it stands in.
    pub config_file: PathBuf,
    /// Line of the `Host` that names it first, from 1.
    pub line: usize,
}

/// The hosts of an ssh_config with this text, in the order of the file; `file` is its path.
///
/// # Errors
/// With file and line: what is no ssh_config, a setting without value, a port that is none; and a file without hosts.
pub fn parse(file: &str, text: &str) -> Result<Vec<SshConfigHost>, ConfigError> {
    let blocks = blocks(file, text)?;
    let mut hosts: Vec<SshConfigHost> = Vec::new();
    for block in &blocks {
        for name in block.patterns.iter().filter(|pattern| !pattern.contains(['*', '?', '!'])) {
            if !hosts.iter().any(|host| host.name == *name) {
                hosts.push(host(file, &blocks, name, block.line)?);
            }
        }
    }
    if hosts.is_empty() {
        let what = "there is no `Host NAME` in it: give an ssh_config, or what `vagrant ssh-config` prints while the \
                    machines run";
        return Err(ConfigError { origin: file.to_owned(), what: what.to_owned() });
    }
    Ok(hosts)
}

/// The hosts of an ssh_config with this text, but for those over which others are reached; `file` is its absolute path, which ssh is
/// called with.
///
/// # Errors
/// As [`parse`].
pub fn hosts(file: &str, text: &str) -> Result<Vec<Doc>, ConfigError> {
    let all = parse(file, text)?;
    let gates: Vec<&str> = all.iter().filter_map(|host| host.jump.as_deref()).flat_map(jump_hosts).collect();
    let reached = all.iter().filter(|host| !gates.contains(&host.name.as_str()));
    let hosts: Vec<Doc> = reached
        .map(|host| {
            let mut entry = Entry::new(&format!("{file}:{}, host {}", host.line, host.name));
            entry.set("name", Some(&host.name));
            // By its name alone: everything else is for ssh to read.
            entry.set("host", Some(&host.name));
            entry.set("ssh_config", Some(file));
            entry.finish()
        })
        .collect();
    if hosts.is_empty() {
        let what =
            "all of its hosts are jump hosts of others: name the hosts in a hosts file, `hosts: [ … ]`".to_owned();
        return Err(ConfigError { origin: file.to_owned(), what });
    }
    Ok(hosts)
}

/// The names in `user@gate:22,other`.
fn jump_hosts(jump: &str) -> impl Iterator<Item = &str> {
    jump.split(',').map(|one| {
        let one = one.trim().trim_start_matches("ssh://");
        let one = one.rsplit_once('@').map_or(one, |(_, host)| host);
        one.split(':').next().unwrap_or(one)
    })
}

/// Lines from one `Host` or `Match` to the next. Those before the first are for all hosts.
struct Block {
    patterns: Vec<String>,
    line: usize,
    settings: Vec<Setting>,
}

struct Setting {
    /// In lower case.
    key: String,
    value: String,
    line: usize,
}

fn blocks(file: &str, text: &str) -> Result<Vec<Block>, ConfigError> {
    let mut blocks = vec![Block { patterns: vec!["*".to_owned()], line: 1, settings: Vec::new() }];
    for (index, raw) in text.lines().enumerate() {
        let line = index + 1;
        let failed = |what: String| error(file, line, what);
        let raw = raw.trim();
        if raw.is_empty() || raw.starts_with('#') {
            continue;
        }
        // `Key value`, `Key=value`, `Key = value`.
        let end = raw.find(|c: char| c.is_whitespace() || c == '=').unwrap_or(raw.len());
        let (key, rest) = raw.split_at(end);
        if key.is_empty() || !key.chars().all(|c| c.is_ascii_alphanumeric()) {
            return Err(failed(format!("expected a setting of ssh_config (`HostName 10.0.0.1`), not `{raw}`")));
        }
        let rest = rest.trim_start();
        let rest = rest.strip_prefix('=').unwrap_or(rest);
        let words = words(rest).ok_or_else(|| failed(format!("a quote of `{raw}` is not closed")))?;
        let Some(first) = words.first() else {
            return Err(failed(format!("`{key}` has no value")));
        };
        match key.to_ascii_lowercase().as_str() {
            "host" => blocks.push(Block { patterns: words, line, settings: Vec::new() }),
            "match" => {
                let all = words.len() == 1 && first.eq_ignore_ascii_case("all");
                let patterns = if all { vec!["*".to_owned()] } else { Vec::new() };
                blocks.push(Block { patterns, line, settings: Vec::new() });
            }
            key => {
                let setting = Setting { key: key.to_owned(), value: first.clone(), line };
                blocks.last_mut().expect("there is a first block").settings.push(setting);
            }
        }
    }
    Ok(blocks)
}

/// Words with the quotes of ssh_config, up to a comment; `None` when a quote is not closed.
pub(super) fn words(text: &str) -> Option<Vec<String>> {
    let mut words = Vec::new();
    let mut chars = text.chars().peekable();
    loop {
        while chars.next_if(|c| c.is_whitespace()).is_some() {}
        if matches!(chars.peek(), None | Some('#')) {
            return Some(words);
        }
        let (mut word, mut quote) = (String::new(), None);
        while let Some(&c) = chars.peek() {
            if quote.is_none() && c.is_whitespace() {
                break;
            }
            chars.next();
            match (c, quote) {
                ('\\', _) if matches!(chars.peek(), Some('"' | '\'' | '\\')) => word.extend(chars.next()),
                ('"' | '\'', None) => quote = Some(c),
                (c, Some(open)) if c == open => quote = None,
                (c, _) => word.push(c),
            }
        }
        if quote.is_some() {
            return None;
        }
        words.push(word);
    }
}

fn host(file: &str, blocks: &[Block], name: &str, line: usize) -> Result<SshConfigHost, ConfigError> {
    let settings = || blocks.iter().filter(|block| matches(&block.patterns, name)).flat_map(|block| &block.settings);
    let first = |key: &str| settings().find(|setting| setting.key == key);
    let port = match first("port") {
        None => None,
        Some(setting) => match setting.value.parse::<u16>() {
            Ok(port) if port != 0 => Some(port),
            _ => {
                let what = format!("`Port` of host `{name}` must be a number from 1 to 65535, not `{}`", setting.value);
                return Err(error(file, setting.line, what));
            }
        },
    };
    let hostname = first("hostname").map_or_else(|| name.to_owned(), |setting| expand(&setting.value, name));
    let identity_files = settings()
        .filter(|setting| setting.key == "identityfile" && !setting.value.eq_ignore_ascii_case("none"))
        .map(|setting| PathBuf::from(&setting.value))
        .collect();
    Ok(SshConfigHost {
        name: name.to_owned(),
        hostname,
        port,
        user: first("user").map(|setting| setting.value.clone()),
        identity_files,
        jump: first("proxyjump").map(|setting| setting.value.clone()).filter(|jump| !jump.eq_ignore_ascii_case("none")),
        config_file: PathBuf::from(file),
        line,
    })
}

/// The tokens that `HostName` accepts: `%h` is the name, `%%` a percent sign.
fn expand(value: &str, name: &str) -> String {
    value.split("%%").map(|part| part.replace("%h", name)).collect::<Vec<_>>().join("%")
}

/// Whether a block is for `name`: one of its patterns is, and no negated one.
fn matches(patterns: &[String], name: &str) -> bool {
    let is_for = |pattern: &str| glob(pattern.as_bytes(), name.as_bytes());
    let negated = patterns.iter().filter_map(|pattern| pattern.strip_prefix('!'));
    patterns.iter().any(|pattern| !pattern.starts_with('!') && is_for(pattern)) && !negated.into_iter().any(is_for)
}

/// `*` and `?`, in time proportional to the product of the lengths at most: only the last star is ever tried again.
fn glob(pattern: &[u8], name: &[u8]) -> bool {
    let (mut p, mut n, mut star) = (0, 0, None);
    while n < name.len() {
        match pattern.get(p) {
            Some(b'*') => {
                star = Some((p, n));
                p += 1;
            }
            Some(&c) if c == b'?' || c == name[n] => (p, n) = (p + 1, n + 1),
            _ => {
                let Some((at, taken)) = star else { return false };
                star = Some((at, taken + 1));
                (p, n) = (at + 1, taken + 1);
            }
        }
    }
    pattern[p..].iter().all(|&c| c == b'*')
}

fn error(file: &str, line: usize, what: String) -> ConfigError {
    ConfigError::at(&Origin::File(file.into(), line, 1), what)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn read(text: &str) -> Result<Vec<SshConfigHost>, String> {
        parse("f", text).map_err(|error| error.to_string())
    }

    /// As vagrant-libvirt prints it for two machines.
    const VAGRANT: &str = "\
Host n1
  HostName 192.168.121.5
  User vagrant
  Port 22
  UserKnownHostsFile /dev/null
  StrictHostKeyChecking no
  PasswordAuthentication no
  IdentityFile \"/home/me/two words/.vagrant/machines/n1/libvirt/private_key\"
  IdentitiesOnly yes
  LogLevel FATAL

Host n2
  HostName 127.0.0.1
  User vagrant
  Port 2200
  IdentityFile /home/me/.vagrant/machines/n2/virtualbox/private_key

";

    #[test]
    fn what_vagrant_prints() {
        let hosts = read(VAGRANT).unwrap();
        assert_eq!(hosts.len(), 2);
        let n1 = SshConfigHost {
            name: "n1".to_owned(),
            hostname: "192.168.121.5".to_owned(),
            port: Some(22),
            user: Some("vagrant".to_owned()),
            identity_files: vec!["/home/me/two words/.vagrant/machines/n1/libvirt/private_key".into()],
            jump: None,
            config_file: "f".into(),
            line: 1,
        };
        assert_eq!(hosts[0], n1);
        assert_eq!((hosts[1].port, hosts[1].line), (Some(2200), 12));
    }

    #[test]
    fn what_people_write() {
        let text = "\
# mine
user=first   # before any Host: for all
Host db-1 db-2 !db-3 *.lan
    HostName = %h.example.com
    IdentityFile ~/.ssh/db
Host web
    hostname \"10.0.0.7\"
    User \"somebody else\"
Match host db-1 exec \"true\"
    Port 99
Host db-? !db-2
    Port 2222
Match all
    IdentityFile ~/.ssh/all
    Port 4444
";
        let hosts = read(text).unwrap();
        let names: Vec<_> = hosts.iter().map(|host| (host.name.as_str(), host.hostname.as_str(), host.port)).collect();
        let expected = [
            ("db-1", "db-1.example.com", Some(2222)),
            ("db-2", "db-2.example.com", Some(4444)),
            ("web", "10.0.0.7", Some(4444)),
        ];
        assert_eq!(names, expected);
        assert!(hosts.iter().all(|host| host.user.as_deref() == Some("first")));
        assert_eq!(hosts[0].identity_files, [PathBuf::from("~/.ssh/db"), PathBuf::from("~/.ssh/all")]);
    }

    #[test]
    fn jump_hosts_are_not_nodes() {
        let text =
            "Host gate\n HostName 10.0.0.1\nHost a b\n ProxyJump me@gate:22,outer\nHost outer\nHost a*\n User x\n";
        let names: Vec<String> = hosts("/f", text).unwrap().iter().map(super::super::tests::words).collect();
        assert_eq!(names, ["name=a host=a ssh_config=/f", "name=b host=b ssh_config=/f"]);
        let error = hosts("/f", "Host a\n ProxyJump b\nHost b\n ProxyJump a\n").unwrap_err().to_string();
        assert!(error.contains("all of its hosts are jump hosts"), "{error}");
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let table = [
            ("", "f: there is no `Host NAME`"),
            ("The provider for this machine is not ready.\n", "no `Host NAME`"),
            ("Host *\n Port 1\n", "no `Host NAME`"),
            ("Host a\n  Port ssh\n", "f:2:1: `Port` of host `a` must be a number from 1 to 65535, not `ssh`"),
            ("Host a\n  Port 0\n", "f:2:1"),
            ("Host a\n\n  HostName\n", "f:3:1: `HostName` has no value"),
            ("Host\n", "f:1:1: `Host` has no value"),
            ("Host \"a\n", "f:1:1: a quote of `Host \"a` is not closed"),
            ("hosts:\n - a\n", "f:1:1: expected a setting of ssh_config"),
            ("[web]\nn1\n", "f:1:1: expected a setting of ssh_config"),
        ];
        for (text, expected) in table {
            let error = read(text).unwrap_err();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }

    #[test]
    fn patterns() {
        let table = [
            ("*", "", true),
            ("a*b*c", "axxbyyc", true),
            ("a*b*c", "axxbyy", false),
            ("a?c", "abc", true),
            ("a?c", "ac", false),
            ("", "a", false),
        ];
        for (pattern, name, expected) in table {
            assert_eq!(glob(pattern.as_bytes(), name.as_bytes()), expected, "{pattern} {name}");
        }
        assert!(!glob("*a".repeat(40).as_bytes(), "b".repeat(4000).as_bytes()));
    }

    proptest! {
        #[test]
        fn nothing_panics(text in "(Host|Match|Port|HostName|x| |=|\"|'|\\\\|#|\\*|!|\n|\\PC){0,60}") {
            let _ = read(&text);
        }

        #[test]
        fn what_is_written_is_read(
            hosts in proptest::collection::btree_map("[a-z][a-z0-9.-]{0,8}", ("[a-zA-Z0-9 .#'=-]{1,10}", 1u16..), 1..6)
        ) {
            let mut text = String::new();
            for (name, (user, port)) in &hosts {
                text += &format!("Host {name}\n\tUser \"{user}\"\n\tPort {port}\n");
            }
            let read = read(&text).unwrap();
            prop_assert_eq!(read.len(), hosts.len());
            for host in read {
                let (user, port) = &hosts[&host.name];
                prop_assert_eq!((host.user.as_ref(), host.port), (Some(user), Some(*port)));
            }
        }
    }
}

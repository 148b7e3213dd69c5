//! One host a line: `[USER@]HOST[:PORT] [NAME]`, empty lines and `#` comments aside.
//!
//! ```
//! use squall_harness::cluster::ssh::inventory::plain;
//!
//! let hosts = plain::parse("hosts.txt", "10.0.0.1\nadmin@db.example.org:2222  db   # the old one\n").unwrap();
//! assert_eq!(hosts.len(), 2);
//! ```

use super::Entry;
use crate::config::{ConfigError, Doc, Origin};
use std::net::Ipv6Addr;

/// The hosts of this text, in order.
///
/// # Errors
/// With file and line: what is no host; and a file without any.
pub fn parse(file: &str, text: &str) -> Result<Vec<Doc>, ConfigError> {
    let mut hosts = Vec::new();
    for (index, line) in text.lines().enumerate() {
        let words: Vec<&str> = line.split('#').next().unwrap_or_default().split_whitespace().collect();
        let place = Origin::File(file.into(), index + 1, 1);
        let failed = |what: String| ConfigError::at(&place, what);
        let (host, name) = match words[..] {
            [] => continue,
            [host] => (host, None),
            [host, name] => (host, Some(name)),
            _ => {
                let what = format!("expected a host, `[USER@]HOST[:PORT] [NAME]`, not `{}`", line.trim());
                return Err(failed(what));
            }
        };
        let (user, host) = match host.rsplit_once('@') {
            Some((user, host)) => (Some(user), host),
            None => (None, host),
        };
        let (host, port) = with_port(host).map_err(failed)?;
        if user == Some("") || host.is_empty() || host.starts_with('-') || host.contains(['/', '=', '[', ']', '{', '"'])
        {
            return Err(failed(format!("expected a host, `[USER@]HOST[:PORT] [NAME]`, not `{}`", line.trim())));
        }
        let mut entry = Entry::new(&place.to_string());
        entry.set("host", Some(host));
        entry.set("name", name);
        entry.set("user", user);
        entry.set("port", port);
        hosts.push(entry.finish());
    }
    if hosts.is_empty() {
        let what = "there is no host in it: write one a line, `[USER@]HOST[:PORT] [NAME]`";
        return Err(ConfigError { origin: file.to_owned(), what: what.to_owned() });
    }
    Ok(hosts)
}

/// `db:22`, `[::1]:22`, and `::1`, which has none.
fn with_port(text: &str) -> Result<(&str, Option<u16>), String> {
    if text.parse::<Ipv6Addr>().is_ok() {
        return Ok((text, None));
    }
    let (host, port) = match text.strip_prefix('[').and_then(|rest| rest.split_once(']')) {
        Some((host, "")) => return Ok((host, None)),
        Some((host, rest)) => (host, rest.strip_prefix(':').unwrap_or(rest)),
        None => match text.split_once(':') {
            Some(parts) => parts,
            None => return Ok((text, None)),
        },
    };
    match port.parse() {
        Ok(port) if port != 0 => Ok((host, Some(port))),
        _ => Err(format!("the port of `{text}` must be a number from 1 to 65535, not `{port}`")),
    }
}

#[cfg(test)]
mod tests {
    use super::super::tests::words;
    use super::*;

    #[test]
    fn what_people_write() {
        let text = "# mine\n\n10.0.0.1\r\n  admin@db2:2222\tdb  # two\nfe80::1\n[::1]:22 v6\nu@[::2]\n";
        let read: Vec<String> = parse("h", text).unwrap().iter().map(words).collect();
        let expected = [
            "host=10.0.0.1",
            "host=db2 name=db user=admin port=2222",
            "host=fe80::1",
            "host=::1 name=v6 port=22",
            "host=::2 user=u",
        ];
        assert_eq!(read, expected);
    }

    #[test]
    fn mistakes_are_named_with_their_line() {
        let table = [
            ("", "h: there is no host in it"),
            ("# none\n", "h: there is no host in it"),
            ("a\nb c d\n", "h:2:1: expected a host"),
            ("a:ssh\n", "h:1:1: the port of `a:ssh` must be a number from 1 to 65535, not `ssh`"),
            ("a:0\n", "must be a number"),
            ("@a\n", "expected a host"),
            ("-oProxyCommand=x\n", "expected a host"),
            ("<html>/\n", "expected a host"),
        ];
        for (text, expected) in table {
            let error = parse("h", text).unwrap_err().to_string();
            assert!(error.contains(expected), "{text:?}: {error}");
        }
    }
}

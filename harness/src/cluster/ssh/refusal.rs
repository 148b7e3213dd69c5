//! Why a host did not let us in, or does not run squall, in one sentence with what to do: ssh's own words are long, and about ssh.

use super::host::Host;
use super::program;

/// ssh's words when a connection could not be made.
pub(super) fn connect(host: &Host, said: &str) -> String {
    let name = &host.destination;
    if said.contains("IDENTIFICATION HAS CHANGED")
        || said.contains("has changed and you have requested strict checking")
    {
        // Of a jump host, where it is that one's.
        let of = between(said, "Host key for ", " has changed").unwrap_or(name);
        let (file, line) = offending(said).unzip();
        let known = file.or_else(|| host.known_hosts_file.as_ref().map(|file| file.display().to_string()));
        let place = match (&known, line) {
            (Some(file), Some(line)) => format!("the one in {file} (line {line})"),
            (Some(file), None) => format!("the one in {file}"),
            (None, _) => "the one that was seen before".to_owned(),
        };
        let file = known.map_or(String::new(), |file| format!(" -f '{file}'"));
        return format!(
            "the host key of {of} is not {place}: somebody else answers there, or it was installed anew; if you know that it was, \
             forget the old key: ssh-keygen{file} -R '{of}'"
        );
    }
    if let Some(of) = between(said, "host key is known for ", " and you have requested strict checking") {
        return format!(
            "the host key of {of} is not known: log in once by hand and accept it (`ssh {name}`), or say `known_hosts: accept-new`"
        );
    }
    let words = said.trim_end_matches('.');
    let advice = if said.contains("Permission denied") {
        let user = host.user.as_ref().map_or("the login".to_owned(), |user| format!("user {user}"));
        format!(
            "no key was taken for {user}: is `user` right, and is one of its keys in `identity` or in your ssh agent?"
        )
    } else if said.contains("Could not resolve") {
        "is the name right? `host` may be an address, too".to_owned()
    } else if ["refused", "timed out", "Timeout", "No route", "unreachable"].iter().any(|word| said.contains(word)) {
        "is the machine up, sshd running and no firewall between? Try `squall doctor --hosts FILE`".to_owned()
    } else {
        return words.to_owned();
    };
    format!("{words}: {advice}")
}

/// `FILE:LINE` of the key that no longer holds.
fn offending(said: &str) -> Option<(String, String)> {
    let rest = &said[said.find("Offending ")?..];
    let place = rest.split_once(" key in ")?.1.split_whitespace().next()?;
    let (file, line) = place.rsplit_once(':')?;
    Some((file.to_owned(), line.to_owned()))
}

fn between<'a>(text: &'a str, before: &str, after: &str) -> Option<&'a str> {
    text.split_once(before)?.1.split_once(after).map(|(found, _)| found.trim())
}

/// `sudo`'s words when it did not run a program for a login that is not root.
pub(super) fn sudo(user: &str, said: &str) -> String {
    let allow = format!("`{user} ALL=(ALL) NOPASSWD: ALL` in /etc/sudoers.d/squall (visudo)");
    if said.contains("password is required") {
        return format!("sudo asks {user} for a password: allow it without one, {allow}, or log in as root");
    }
    if said.contains("not found") {
        return format!("{user} is not root, and there is no sudo: install it and allow {allow}, or log in as root");
    }
    format!("{user} is not root, and `sudo -n` does not work ({said}): allow {allow}, or log in as root")
}

/// A shell's words when nothing could be uploaded below `dir`.
pub(super) fn upload(dir: &str, len: u64, said: &str) -> String {
    let last = said.trim().lines().last().unwrap_or("no reason given").trim();
    if said.contains("No space left") || said.contains("quota exceeded") {
        return format!(
            "cannot upload squall: the disk there is full: make room for {} MB below {dir}",
            len.div_ceil(1_000_000)
        );
    }
    format!("cannot upload squall ({last}): `root` must be a folder in which the login, or root, may write")
}

/// A shell's words when the uploaded program did not start.
pub(super) fn does_not_run(said: &str) -> String {
    if said.contains("Permission denied") {
        return "squall was uploaded, but may not run there: the file system of `root` is mounted `noexec`: choose another `root`".to_owned();
    }
    format!("{}: {said}", program::DOES_NOT_RUN)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{Doc, Section};
    use std::path::Path;

    fn host(keys: &str) -> Host {
        let mut section = Section::new("hosts.0", Doc::parse("f", keys).unwrap()).unwrap();
        super::super::host::read(&mut section, 0, Path::new("/lab")).unwrap()
    }

    /// As OpenSSH 9.2 says it, frames left out.
    const CHANGED: &str = "failed to connect to the remote host: @ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @ IT IS POSSIBLE THAT \
        SOMEONE IS DOING SOMETHING NASTY! Add correct host key in /root/.ssh/known_hosts to get rid of this message. Offending ED25519 \
        key in /root/.ssh/known_hosts:3 remove with: ssh-keygen -f x Host key for [10.0.0.1]:2222 has changed and you have requested \
        strict checking. Host key verification failed.";

    #[test]
    fn what_ssh_says_in_other_words() {
        let table = [
            (
                "host: db1",
                CHANGED,
                "the host key of [10.0.0.1]:2222 is not the one in /root/.ssh/known_hosts (line 3): somebody else answers there, or it was \
                 installed anew; if you know that it was, forget the old key: ssh-keygen -f '/root/.ssh/known_hosts' -R '[10.0.0.1]:2222'",
            ),
            (
                "{ host: db1, known_hosts_file: k }",
                "REMOTE HOST IDENTIFICATION HAS CHANGED!",
                "forget the old key: ssh-keygen -f '/lab/k' -R 'db1'",
            ),
            (
                "host: db1",
                "No ED25519 host key is known for 10.0.0.1 and you have requested strict checking. Host key verification failed.",
                "the host key of 10.0.0.1 is not known: log in once by hand and accept it (`ssh db1`), or say `known_hosts: accept-new`",
            ),
            (
                "{ host: a, user: me }",
                "me@a: Permission denied (publickey).",
                "me@a: Permission denied (publickey): no key was taken for user me: ",
            ),
            ("host: a", "ssh: Could not resolve hostname a: Name or service not known", "is the name right?"),
            ("host: a", "connect to host a port 22: Connection refused", "is the machine up"),
            ("host: a", "something else", "something else"),
        ];
        for (keys, said, expected) in table {
            let sentence = connect(&host(keys), said);
            assert!(sentence.contains(expected), "{said}: {sentence}");
        }
    }

    #[test]
    fn what_sudo_and_shells_say() {
        assert!(
            sudo("me", "sudo: a password is required")
                .starts_with("sudo asks me for a password: allow it without one, `me ALL=")
        );
        assert!(sudo("me", "sh: 1: sudo: not found").contains("there is no sudo"));
        assert!(sudo("me", "me is not in the sudoers file.").contains("(me is not in the sudoers file.)"));
        assert!(
            upload("/d", 9_500_000, "cat: write error: No space left on device\n")
                .contains("make room for 10 MB below /d")
        );
        assert!(
            upload("/d", 1, "a\nmkdir: cannot create directory\n")
                .contains("(mkdir: cannot create directory): `root` must be")
        );
        assert!(does_not_run("sh: 1: /d/squall: Permission denied").contains("noexec"));
        assert!(does_not_run("GLIBC_2.36 not found").contains("statically"));
    }
}

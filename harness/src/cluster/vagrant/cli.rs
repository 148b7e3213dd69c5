//! The `vagrant` program: called, listened to, and its complaints in a sentence.

use super::Say;
use anyhow::{Context, bail};
use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::path::Path;
use std::process::Stdio;
use tokio::io::{AsyncBufReadExt, AsyncRead, BufReader};
use tokio::process::Command;

/// Runs `vagrant` in `folder`; what it printed. `say` hears its lines as they come.
///
/// # Errors
/// What is missing, and what to do.
pub(super) async fn vagrant(
    folder: &Path,
    arguments: &[String],
    env: &BTreeMap<&str, String>,
    say: Say<'_>,
) -> anyhow::Result<String> {
    let spawned = Command::new("vagrant")
        .args(arguments)
        .current_dir(folder)
        .envs(env)
        .env("VAGRANT_CHECKPOINT_DISABLE", "1")
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .kill_on_drop(true)
        .spawn();
    let mut child = match spawned {
        Ok(child) => child,
        Err(error) if error.kind() == ErrorKind::NotFound => {
            bail!(
                "there is no `vagrant`: apt install vagrant vagrant-libvirt libvirt-daemon-system libvirt-clients qemu-system-x86"
            )
        }
        Err(error) => return Err(error).context("cannot start vagrant"),
    };
    let (stdout, stderr) = (child.stdout.take(), child.stderr.take());
    let (printed, complaints) = tokio::try_join!(lines(stdout, say), lines(stderr, say))?;
    let status = child.wait().await?;
    if status.success() {
        return Ok(printed);
    }
    bail!("`vagrant {}` failed: {}", arguments.join(" "), reason(&format!("{printed}\n{complaints}")))
}

async fn lines(from: Option<impl AsyncRead + Unpin>, say: Say<'_>) -> std::io::Result<String> {
    let Some(from) = from else { return Ok(String::new()) };
    let (mut all, mut lines) = (String::new(), BufReader::new(from).lines());
    while let Some(line) = lines.next_line().await? {
        // Progress bars come as one long line.
        if let Some(line) = line.split('\r').next_back().map(str::trim).filter(|line| !line.is_empty()) {
            say(line.trim_start_matches("==> "));
        }
        all += &line;
        all.push('\n');
    }
    Ok(all)
}

/// What is known to go wrong: words in what Vagrant says, all of which must be there, and what that means.
const REASONS: [(&[&str], &str); 10] = [
    (&["The provider 'libvirt' could not be found"], "vagrant has no libvirt: apt install vagrant-libvirt"),
    (
        &["libvirt-sock", "Permission denied"],
        "you may not use libvirt: sudo usermod -aG libvirt $USER, then log in again",
    ),
    (&["polkit"], "you may not use libvirt: sudo usermod -aG libvirt $USER, then log in again"),
    (&["libvirt-sock"], "libvirt does not run: apt install libvirt-daemon-system, then sudo systemctl start libvirtd"),
    (&["box", "could not be found"], "the box is missing: make it with `vagrant/box --add`"),
    (&["box", "couldn't be located"], "the box is missing: make it with `vagrant/box --add`"),
    (
        &["about to create is already taken"],
        "libvirt has machines of these names, made from another folder of the same name: `squall cluster down` there, or rename \
         this folder",
    ),
    (
        &["No space left on device"],
        "the disk of this machine is full: make room where libvirt keeps its images (/var/lib/libvirt)",
    ),
    (
        &["annot allocate memory"],
        "there is not enough memory for so many machines: lower `memory` or `nodes` in cluster.yaml",
    ),
    (
        &["cannot access storage file"],
        "libvirt may not open the files of the machines: chmod o+x on the folders above them",
    ),
];

/// The reason why it failed, in a sentence.
fn reason(said: &str) -> String {
    if let Some((_, meaning)) = REASONS.iter().find(|(words, _)| words.iter().all(|word| said.contains(word))) {
        return (*meaning).to_owned();
    }
    let said: Vec<&str> = said.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    // Its last paragraph, as far as one reads on.
    said[said.len().saturating_sub(3)..].join(" ")
}

/// What is quick where every instruction is emulated: logging in takes a third less than with what ssh prefers.
const QUICK: &str = "  KexAlgorithms ^curve25519-sha256\n";

/// What `vagrant ssh-config` printed, without what would have ssh trust whoever answers, and be silent about it; and with what
/// is [`QUICK`].
pub(super) fn trusting_nobody(printed: &str) -> String {
    let unwanted = ["userknownhostsfile", "stricthostkeychecking", "loglevel"];
    let is_wanted = |line: &&str| {
        let key = line.split_whitespace().next().unwrap_or_default().to_ascii_lowercase();
        !unwanted.contains(&key.as_str())
    };
    let quick = |line: &str| if line.starts_with("Host ") { QUICK } else { "" };
    printed.lines().filter(is_wanted).map(|line| format!("{line}\n{}", quick(line))).collect()
}

/// States by machine of `vagrant status --machine-readable`: `TIME,NAME,state,STATE`.
pub(super) fn states(printed: &str) -> Vec<(String, String)> {
    let state = |line: &str| {
        let mut fields = line.split(',').skip(1);
        let (name, kind, state) = (fields.next()?, fields.next()?, fields.next()?);
        (kind == "state").then(|| (name.to_owned(), state.to_owned()))
    };
    printed.lines().filter_map(state).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn complaints_become_sentences() {
        let table = [
            (
                "Error while connecting to Libvirt: Error making a connection to libvirt URI qemu:///system:\nCall to \
                 virConnectOpen failed: Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory",
                "libvirt does not run",
            ),
            ("Failed to connect socket to '/var/run/libvirt/libvirt-sock': Permission denied", "usermod -aG libvirt"),
            ("authentication unavailable: no polkit agent available", "usermod -aG libvirt"),
            (
                "Name `vagrant_n3` of domain about to create is already taken. Please try to run\n`vagrant up` command again.",
                "another folder of the same name",
            ),
            (
                "The box 'squall' could not be found or\ncould not be accessed in the remote catalog.",
                "vagrant/box --add",
            ),
            (
                "The provider 'libvirt' could not be found, but was requested to\nback the machine 'n1'.",
                "vagrant-libvirt",
            ),
            ("qemu-system-x86_64: cannot set up guest memory 'pc.ram': Cannot allocate memory", "not enough memory"),
            ("\n/v/cluster.yaml: unknown key nods; known are provider\n", "unknown key nods"),
        ];
        for (said, expected) in table {
            let reason = reason(said);
            assert!(reason.contains(expected) && !reason.contains('\n'), "{said}: {reason}");
        }
    }

    #[test]
    fn nobody_is_trusted_blindly() {
        let printed = "Host n1\n  HostName 10.0.0.2\n  UserKnownHostsFile /dev/null\n  StrictHostKeyChecking no\n  LogLevel FATAL\n";
        assert_eq!(trusting_nobody(printed), format!("Host n1\n{QUICK}  HostName 10.0.0.2\n"));
    }

    #[test]
    fn states_are_read() {
        let printed =
            "1,n1,metadata,provider,libvirt\n1,n1,provider-name,libvirt\n1,n1,state,running\n1,n2,state,not_created\n";
        let expected = [("n1", "running"), ("n2", "not_created")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(states(printed), expected);
    }

    #[tokio::test]
    async fn a_program_that_is_missing_is_named() {
        let dir = tempfile::tempdir().unwrap();
        let env = BTreeMap::from([("PATH", dir.path().display().to_string())]);
        let none = vagrant(dir.path(), &[], &env, &|_| {}).await.unwrap_err().to_string();
        assert!(none.starts_with("there is no `vagrant`: apt install") && !none.contains('\n'), "{none}");
    }
}

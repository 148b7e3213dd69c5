//! A laboratory for the ssh provider (`ssh_lab.sh`): three real sshd's in network namespaces, and one for the controller.
//!
//! Each test has one of its own, by its tag. Needs root, iproute2, nftables and sshd; where one is missing the test is skipped.

#![allow(dead_code, reason = "each test binary uses a part of it")]

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

pub(crate) struct Lab {
    dir: tempfile::TempDir,
    script: PathBuf,
    tag: &'static str,
}

impl Lab {
    pub(crate) fn new(tag: &'static str) -> Option<Self> {
        let missing: Vec<&str> =
            ["ip", "nft", "sshd", "ssh", "ssh-keygen"].into_iter().filter(|p| !is_there(p)).collect();
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
        if !missing.is_empty() || !is_root {
            println!("SKIPPED: the ssh laboratory needs root and {missing:?} is missing");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ssh_lab.sh");
        let lab = Self { dir: tempfile::tempdir().unwrap(), script, tag };
        // Whatever an earlier run that was killed has left.
        lab.lab(&["down"], &[]);
        let up = lab.lab(&["up"], &[]);
        assert!(up.status.success(), "{}", text(&up));
        Some(lab)
    }

    pub(crate) fn path(&self) -> &Path {
        self.dir.path()
    }

    /// Network namespaces of the nodes.
    pub(crate) fn nodes(&self) -> [String; 3] {
        [1, 2, 3].map(|i| format!("{}-n{i}", self.tag))
    }

    fn lab(&self, command: &[&str], rest: &[&str]) -> Output {
        self.lab_command(command, rest).output().unwrap()
    }

    fn lab_command(&self, command: &[&str], rest: &[&str]) -> Command {
        let mut bash = Command::new("bash");
        bash.arg(&self.script).args(command).arg(self.path()).args(rest).current_dir(self.path());
        bash.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped()).env("SQUALL_LAB", self.tag);
        bash
    }

    /// Runs squall where the controller is.
    pub(crate) fn squall(&self, args: &[&str]) -> Output {
        self.squall_command(args).output().unwrap()
    }

    pub(crate) fn squall_command(&self, args: &[&str]) -> Command {
        let mut all = vec![env!("CARGO_BIN_EXE_squall")];
        all.extend(args);
        let mut command = self.lab_command(&["exec"], &all);
        // Where the sockets of ssh go: other tests have theirs.
        command.env("TMPDIR", self.path());
        command
    }

    pub(crate) fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    /// Runs a command where the sshd of a node runs: with its network and its mounts.
    pub(crate) fn on_node(&self, node: usize, command: &[&str]) -> String {
        let pid = std::fs::read_to_string(self.path().join(format!("sshd{node}.pid"))).unwrap();
        let output = Command::new("nsenter").args(["-t", pid.trim(), "-m", "-n", "--"]).args(command).output().unwrap();
        text(&output)
    }

    /// Command lines of everything of squall's that runs in the nodes' namespaces.
    pub(crate) fn leftovers(&self) -> Vec<String> {
        let mut found = Vec::new();
        for node in self.nodes() {
            let pids = text(&Command::new("ip").args(["netns", "pids", &node]).output().unwrap());
            for pid in pids.split_whitespace() {
                let line = std::fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
                let line = String::from_utf8_lossy(&line).replace('\0', " ");
                if !line.starts_with("sshd") && !line.contains("/sshd") && !line.is_empty() {
                    found.push(line);
                }
            }
        }
        found
    }

    pub(crate) fn wait_for(&self, what: &str, limit: u64, done: impl Fn() -> bool) {
        let begun = Instant::now();
        while !done() {
            let left = self.leftovers();
            assert!(begun.elapsed() < Duration::from_secs(limit), "gave up waiting for: {what}; left: {left:?}");
            std::thread::sleep(Duration::from_millis(100));
        }
    }

    /// Nothing of squall's on the nodes, no ssh of its here.
    pub(crate) fn wait_for_nothing_left(&self) {
        self.wait_for("nothing left on the nodes", 15, || self.leftovers().is_empty());
        self.wait_for("ssh's control masters to end", 30, || self.masters().is_empty());
    }

    /// The error of a command that must end with it, in one line.
    pub(crate) fn error_of(&self, output: &Output, code: i32) -> String {
        let said = text(output);
        assert_eq!(output.status.code(), Some(code), "{said}");
        let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error:")).collect();
        assert_eq!(errors.len(), 1, "one sentence: {said}");
        println!("{}", errors[0]);
        errors[0].to_owned()
    }

    /// ssh processes that still hold a control socket for hosts of this lab.
    pub(crate) fn masters(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            // ssh shows its control path as its title, or the key it was started with.
            if line.starts_with("ssh") && line.contains(self.path().to_str().unwrap()) && !line.contains("sshd") {
                found.push(line);
            }
        }
        found
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.lab(&["down"], &[]);
    }
}

pub(crate) fn is_there(program: &str) -> bool {
    ["/usr/sbin", "/usr/bin", "/sbin", "/bin", "/usr/local/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
}

pub(crate) fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

pub(crate) fn in_namespace(name: &str, command: &[&str]) -> String {
    text(&Command::new("ip").args(["netns", "exec", name]).args(command).output().unwrap())
}

//! The ssh provider against three real sshd's, each in a network namespace that the test makes (`ssh_lab.sh`).
//!
//! Needs root, iproute2, nftables and sshd; where one is missing the test says so and is skipped.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::{Duration, Instant};

const NODES: [&str; 3] = ["squall-lab-n1", "squall-lab-n2", "squall-lab-n3"];

struct Lab {
    dir: tempfile::TempDir,
    script: PathBuf,
}

impl Lab {
    fn new() -> Option<Self> {
        let there = |program: &str| {
            ["/usr/sbin", "/usr/bin", "/sbin", "/bin"].iter().any(|dir| Path::new(dir).join(program).exists())
        };
        let missing: Vec<&str> = ["ip", "nft", "sshd", "ssh", "ssh-keygen"].into_iter().filter(|p| !there(p)).collect();
        let is_root = std::fs::metadata("/proc/self").is_ok_and(|m| std::os::unix::fs::MetadataExt::uid(&m) == 0);
        if !missing.is_empty() || !is_root {
            println!("SKIPPED: the ssh laboratory needs root and {missing:?} is missing");
            return None;
        }
        let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("../tests/ssh_lab.sh");
        let lab = Self { dir: tempfile::tempdir().unwrap(), script };
        // Whatever an earlier run that was killed has left.
        lab.lab(&["down"], &[]);
        let up = lab.lab(&["up"], &[]);
        assert!(up.status.success(), "{}", text(&up));
        Some(lab)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn lab(&self, command: &[&str], rest: &[&str]) -> Output {
        self.lab_command(command, rest).output().unwrap()
    }

    fn lab_command(&self, command: &[&str], rest: &[&str]) -> Command {
        let mut bash = Command::new("bash");
        bash.arg(&self.script).args(command).arg(self.path()).args(rest).current_dir(self.path());
        bash.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        bash
    }

    /// Runs squall where the controller is.
    fn squall(&self, args: &[&str]) -> Output {
        self.squall_command(args).output().unwrap()
    }

    fn squall_command(&self, args: &[&str]) -> Command {
        let mut all = vec![env!("CARGO_BIN_EXE_squall")];
        all.extend(args);
        self.lab_command(&["exec"], &all)
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path().join(name), content).unwrap();
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        self.lab(&["down"], &[]);
    }
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

fn in_namespace(name: &str, command: &[&str]) -> String {
    let output = Command::new("ip").args(["netns", "exec", name]).args(command).output().unwrap();
    text(&output)
}

/// Command lines of everything of squall's that runs in the nodes' namespaces.
fn leftovers() -> Vec<String> {
    let mut found = Vec::new();
    for node in NODES {
        let pids = text(&Command::new("ip").args(["netns", "pids", node]).output().unwrap());
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

/// ssh processes that still hold a control socket for hosts of this lab.
fn masters(dir: &Path) -> Vec<String> {
    let mut found = Vec::new();
    for entry in std::fs::read_dir("/proc").unwrap().flatten() {
        let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
        let line = String::from_utf8_lossy(&line).replace('\0', " ");
        // ssh shows its control path as its title, or the key it was started with.
        if line.starts_with("ssh")
            && (line.contains("squall-ssh-") || line.contains(dir.to_str().unwrap()))
            && !line.contains("sshd")
        {
            found.push(line);
        }
    }
    found
}

fn wait_for(what: &str, limit: u64, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(limit), "gave up waiting for: {what}; left: {:?}", leftovers());
        std::thread::sleep(Duration::from_millis(100));
    }
}

fn test_file(target: &str, nemesis: &str) -> String {
    format!(
        "name: over ssh\ncluster: {{ provider: ssh, hosts: hosts.yaml }}\ntarget: {{ {target} }}\n\
         workload: {{ register: {{ keys: 5, rate: 300/s }} }}\nlease: 4s\nduration: 6s\nfinal: {{ quiesce: 1s }}\n\
         nemesis: [ {nemesis} ]\n"
    )
}

const FAULTS: &str = "{ partition: { shape: [one, isolate-primary, one-way], every: 2s, for: 1s, after: 500ms } }, \
                      { kill: { every: 4s, restart_after: 1s, after: 1s } }, \
                      { pause: { nodes: primary, every: 4s, for: 1s, after: 3s } }";

#[test]
fn real_hosts_over_ssh() {
    let Some(lab) = Lab::new() else { return };

    // The same tests as on the local cluster.
    let mut targets = vec!["squall-node: {}"];
    if Path::new("/usr/bin/etcd").exists() {
        targets.push("etcd: {}");
    } else {
        println!("SKIPPED: etcd over ssh: there is no etcd (apt install etcd-server)");
    }
    for target in targets {
        lab.write("test.yaml", &test_file(target, FAULTS));
        let output = lab.squall(&["run", "test.yaml"]);
        assert_eq!(output.status.code(), Some(0), "{target}: {}", text(&output));
        assert!(text(&output).contains("packets dropped"), "{}", text(&output));
        wait_for("nothing left after a run", 10, || leftovers().is_empty());
    }
    let doctor = lab.squall(&["doctor", "--hosts", "hosts.yaml"]);
    assert!(doctor.status.success() && text(&doctor).contains("n3"), "{}", text(&doctor));

    // kill -9 of the controller during a partition: the lease ends it, without anybody's help.
    let long = "{ partition: { shape: one, every: 60s, for: 59s, after: 100ms } }";
    lab.write("test.yaml", &test_file("squall-node: {}", long));
    let mut child = lab.squall_command(&["run", "test.yaml", "--duration", "60s"]).spawn().unwrap();
    let is_cut = || NODES.iter().any(|node| in_namespace(node, &["nft", "list", "tables"]).contains("squall"));
    wait_for("the partition", 60, is_cut);
    assert!(!leftovers().is_empty());
    // `exec` all the way: the child is the controller.
    child.kill().unwrap();
    child.wait().unwrap();
    wait_for("the partition to end with its lease", 15, || !is_cut());
    wait_for("the processes to end with the lease", 15, || leftovers().is_empty());

    wait_for("ssh's control masters to end", 30, || masters(lab.path()).is_empty());

    // What people get wrong.
    lab.write("wrong", "this is not a key\n");
    let cases = [
        ("hosts: [ { host: 10.88.0.99, user: root } ]", "10.88.0.99"),
        ("hosts: [ { host: 10.88.0.1, port: 2222, known_hosts_file: known_hosts } ]", "refused"),
        ("hosts: [ { host: 10.88.0.1, identity: wrong, known_hosts_file: known_hosts } ]", "10.88.0.1"),
        ("hosts: [ { host: 10.88.0.1, identity: none, known_hosts_file: known_hosts } ]", "is not there"),
        ("hosts: [ { host: 10.88.0.1, identity: login, known_hosts_file: nobody_known } ]", "10.88.0.1"),
        (
            "hosts: [ { host: 10.88.0.1, identity: login, known_hosts_file: known_hosts, root: /proc/squall } ]",
            "cannot upload",
        ),
        (
            "hosts: [ { host: 10.88.0.1, identity: login, known_hosts_file: known_hosts, root: /tmp/squall-x, address: 10.88.0.2 } ]",
            "not an address of this host",
        ),
    ];
    for (hosts, expected) in cases {
        lab.write("bad.yaml", &format!("{hosts}\n"));
        let output = lab.squall(&["run", "test.yaml", "--set", "cluster.hosts=bad.yaml", "--set", "nemesis=[]"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(70), "{hosts}: {said}");
        let error = said.lines().find(|line| line.starts_with("error:")).unwrap_or_default();
        assert!(error.contains(expected), "{hosts}: {said}");
        println!("{error}");
    }
    let _ = std::fs::remove_dir_all("/tmp/squall-x");
    wait_for("nothing left after mistakes", 10, || leftovers().is_empty());
}

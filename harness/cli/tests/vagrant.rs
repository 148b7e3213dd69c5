//! Provider `vagrant` without any virtual machine: a stand-in for the `vagrant` program says what the real one says. The real one
//! is tried by `.ci/vm`.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::{Command, Output};

const TEST: &str = "name: t\ncluster: vagrant\ntarget: noop\nworkload: { noop: { rate: 100/s } }\nduration: 200ms\n";

/// A folder with a test, and in it one with a Vagrantfile; `vagrant` there is this script, which logs how it was called.
struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    fn new(vagrant: &str) -> Self {
        let lab = Self { dir: tempfile::tempdir().unwrap() };
        std::fs::create_dir_all(lab.path().join("vagrant")).unwrap();
        std::fs::create_dir_all(lab.path().join("bin")).unwrap();
        lab.write("t.yaml", TEST);
        lab.write("vagrant/Vagrantfile", "");
        lab.write("vagrant/cluster.yaml", "nodes: 2\nlibvirt: { driver: qemu }\n");
        lab.write("bin/vagrant", &format!("#!/bin/sh\necho \"$SQUALL_NODES: $*\" >>called\n{vagrant}\n"));
        std::fs::set_permissions(lab.path().join("bin/vagrant"), std::fs::Permissions::from_mode(0o755)).unwrap();
        lab
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn write(&self, name: &str, content: &str) {
        std::fs::write(self.path().join(name), content).unwrap();
    }

    fn squall_with(&self, path: &str, args: &[&str]) -> Output {
        let mut squall = Command::new(env!("CARGO_BIN_EXE_squall"));
        squall.args(args).current_dir(self.path()).env("PATH", path);
        for variable in ["SQUALL_STORE", "SQUALL_CLUSTER", "SQUALL_PROGRAM", "VAGRANT_DOTFILE_PATH"] {
            squall.env_remove(variable);
        }
        squall.output().unwrap()
    }

    fn squall(&self, args: &[&str]) -> Output {
        self.squall_with(&format!("{}:/usr/bin:/bin", self.path().join("bin").display()), args)
    }

    fn called(&self) -> Vec<String> {
        let log = std::fs::read_to_string(self.path().join("vagrant/called")).unwrap_or_default();
        log.lines().map(str::to_owned).collect()
    }
}

/// The only sentence that begins with `error: `.
fn error(output: &Output, code: i32) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(code), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one sentence: {said}");
    errors[0].to_owned()
}

#[test]
fn what_is_missing_is_said_with_what_to_do() {
    let table = [
        (
            "echo \"Failed to connect socket to '/var/run/libvirt/libvirt-sock': No such file or directory\" >&2; exit 1",
            "systemctl start libvirtd",
        ),
        ("echo \"'/var/run/libvirt/libvirt-sock': Permission denied\" >&2; exit 1", "usermod -aG libvirt"),
        ("echo \"The box 'squall' could not be found or\" >&2; exit 1", "vagrant/box --add"),
        (
            "echo \"The provider 'libvirt' could not be found, but was requested\" >&2; exit 1",
            "apt install vagrant-libvirt",
        ),
        ("echo 'write: No space left on device' >&2; exit 1", "the disk of this machine is full"),
    ];
    for (vagrant, expected) in table {
        let lab = Lab::new(vagrant);
        let said = error(&lab.squall(&["run", "t.yaml"]), 70);
        assert!(said.contains(expected), "{said}");
    }
    let lab = Lab::new("");
    let said = error(&lab.squall_with("/no/such", &["run", "t.yaml"]), 70);
    assert!(said.contains("there is no `vagrant`: apt install vagrant"), "{said}");
    let said = error(&lab.squall(&["cluster", "ssh", "n1"]), 70);
    assert!(said.contains("`squall cluster up` first"), "{said}");
}

#[test]
fn machines_that_were_made_for_a_run_that_failed_are_destroyed() {
    let vagrant = "case $1 in up) for n in n1 n2; do mkdir -p .vagrant/machines/$n/libvirt; echo $n >.vagrant/machines/$n/libvirt/id; done;; \
                   ssh-config) echo no such machine >&2; exit 1;; esac";
    let lab = Lab::new(vagrant);
    let said = error(&lab.squall(&["run", "t.yaml"]), 70);
    assert!(said.contains("`vagrant ssh-config n1 n2` failed: no such machine"), "{said}");
    assert_eq!(lab.called(), ["2: up n1 n2", "2: ssh-config n1 n2", "2: destroy --force n1 n2"]);

    // They are there now, so another run does not own them; and `down` destroys whatever there is.
    error(&lab.squall(&["run", "t.yaml"]), 70);
    assert_eq!(lab.called()[3..], ["2: up n1 n2", "2: ssh-config n1 n2"]);
    assert!(lab.squall(&["cluster", "down"]).status.success());
    assert_eq!(lab.called()[5..], ["2: destroy --force"]);

    // Kept for whoever wants to look.
    let lab = Lab::new(vagrant);
    error(&lab.squall(&["run", "t.yaml", "--keep"]), 70);
    assert_eq!(lab.called(), ["2: up n1 n2", "2: ssh-config n1 n2"]);
}

#[test]
fn a_folder_is_used_by_one_at_a_time() {
    let lab = Lab::new("echo $$ >pid; exec sleep 1000");
    let path = format!("{}:/usr/bin:/bin", lab.path().join("bin").display());
    let mut first = Command::new(env!("CARGO_BIN_EXE_squall"));
    first.args(["cluster", "up"]).current_dir(lab.path()).env("PATH", path).env_remove("VAGRANT_DOTFILE_PATH");
    let mut first = first.stderr(std::process::Stdio::null()).spawn().unwrap();
    let pid = loop {
        let pid = std::fs::read_to_string(lab.path().join("vagrant/pid")).unwrap_or_default();
        if pid.ends_with('\n') {
            break pid;
        }
        assert!(first.try_wait().unwrap().is_none(), "it ended at once");
        std::thread::sleep(std::time::Duration::from_millis(10));
    };
    let said = error(&lab.squall(&["run", "t.yaml"]), 70);
    assert!(said.contains("another squall uses the machines"), "{said}");
    first.kill().unwrap();
    first.wait().unwrap();
    assert!(Command::new("kill").arg(pid.trim()).status().unwrap().success());
}

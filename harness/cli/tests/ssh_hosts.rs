//! Hosts from what people have already, jump hosts, logins without root, and what goes wrong with hosts: against real sshd's.

mod lab;

use lab::{Lab, is_there, text};
use std::process::Command;

/// Keys of a test over hosts of this file.
fn test_file(hosts: &str, nemesis: &str) -> String {
    format!(
        "name: over ssh\ncluster: {{ provider: ssh, hosts: {hosts} }}\ntarget: {{ squall-node: {{}} }}\n\
         workload: {{ register: {{ keys: 5, rate: 200/s }} }}\nlease: 4s\nduration: 5s\nfinal: {{ quiesce: 1s }}\n\
         nemesis: [ {nemesis} ]\n"
    )
}

/// What all hosts of the laboratory have.
fn defaults(lab: &Lab, user: &str) -> String {
    let dir = lab.path().display();
    format!("defaults: {{ user: {user}, identity: login, known_hosts_file: known_hosts, root: {dir}/root }}\n")
}

#[test]
fn hosts_from_what_people_have() {
    let Some(lab) = Lab::new("squall-inv") else { return };
    let doctor = |hosts: &str, expected: &[&str]| {
        lab.write("hosts-of-a-case.yaml", hosts);
        let output = lab.squall(&["doctor", "--hosts", "hosts-of-a-case.yaml"]);
        let said = text(&output);
        assert!(output.status.success(), "{hosts}: {said}");
        for name in expected {
            assert!(said.lines().any(|line| line == *name), "{hosts}: no {name} in {said}");
        }
    };
    let common = defaults(&lab, "root");

    // Ansible's groups are data centres, which a partition knows.
    if is_there("ansible-inventory") {
        let known = lab.path().join("known_hosts");
        let inventory = format!(
            "[east]\ndb1 ansible_host=10.88.0.1\ndb2 ansible_host=10.88.0.2 ansible_user=root\n[west]\ndb3 ansible_host=10.88.0.3\n\
             [dc:children]\neast\nwest\n[dc:vars]\nansible_ssh_private_key_file={}/login\n\
             ansible_ssh_common_args='-o UserKnownHostsFile={}'\n[web]\nw1 ansible_host=10.88.0.77\n",
            lab.path().display(),
            known.display()
        );
        lab.write("inventory.ini", &inventory);
        let root = lab.path().join("root").display().to_string();
        lab.write("ansible.yaml", &format!("ansible: inventory.ini\ngroup: dc\ndefaults: {{ root: {root} }}\n"));
        let faults = "{ partition: { shape: isolate-dc, every: 2s, for: 1s, after: 500ms } }, { kill: { nodes: dc=west, every: 4s, \
                      restart_after: 500ms, after: 3s } }";
        lab.write("test.yaml", &test_file("ansible.yaml", faults));
        let output = lab.squall(&["run", "test.yaml"]);
        let said = text(&output);
        assert_eq!(output.status.code(), Some(0), "{said}");
        assert!(said.contains("isolate-dc") && said.contains("dc=west"), "{said}");
        let output = lab.squall(&["run", "test.yaml", "--set", "nemesis.0.partition.shape=isolate-rack"]);
        assert!(lab.error_of(&output, 64).contains("unknown label `rack`; known: dc"));
    } else {
        println!("SKIPPED: there is no ansible-inventory (apt install ansible-core)");
    }

    let outputs = r#"{ "ips": { "sensitive": false, "type": "list", "value": ["10.88.0.1", "10.88.0.2"] } }"#;
    lab.write("outputs.json", outputs);
    doctor(&format!("terraform: outputs.json\n{common}"), &["n1", "n2"]);
    lab.write("hosts.txt", "root@10.88.0.1 one   # the first\n10.88.0.3:22\n");
    doctor(&format!("file: hosts.txt\n{common}"), &["one", "n2"]);

    // The inner network is behind n1: with a config that says so, and with a key.
    let dir = lab.path().display();
    let config = format!(
        "Host gate\n  HostName 10.88.0.1\nHost behind\n  HostName 10.89.0.2\n  ProxyJump gate\nHost *\n  User root\n  \
         IdentityFile {dir}/login\n  UserKnownHostsFile {dir}/known_hosts\n"
    );
    lab.write("jump.conf", &config);
    doctor(&format!("ssh_config: jump.conf\ndefaults: {{ root: {dir}/root }}\n"), &["behind"]);
    doctor(&format!("hosts: [ {{ host: 10.89.0.3, jump: root@10.88.0.1 }} ]\n{common}"), &["n1"]);
    lab.write("bad.yaml", &format!("hosts: [ 10.89.0.3 ]\n{common}"));
    let error = lab.error_of(&lab.squall(&["doctor", "--hosts", "bad.yaml"]), 70);
    assert!(error.contains("unreachable") && error.contains("is the machine up"), "{error}");

    // n1 is a node and the way to n2: a plan that would cut that way is refused before it begins, what turns out to when it does.
    let hosts = "hosts: [ 10.88.0.1, { host: 10.88.0.2, jump: root@10.88.0.1 }, 10.88.0.3 ]\n";
    lab.write("gate.yaml", &format!("{hosts}{common}"));
    for fault in ["partition: {", "loss: { probability: 1,", "delay: { by: 1s,"] {
        let faults = format!("{{ {fault} links: [[n1, n2]], every: 4s, for: 1s, after: 500ms }} }}");
        lab.write("test.yaml", &test_file("gate.yaml", &faults));
        let error = lab.error_of(&lab.squall(&["run", "test.yaml"]), 70);
        let expected =
            "n1 -> n2 is the way by which squall reaches n2, over n1 (10.88.0.1): the control path is never cut";
        assert!(error.contains(expected), "{fault}: {error}");
    }
    lab.write(
        "test.yaml",
        &test_file("gate.yaml", "{ partition: { shape: isolate-primary, every: 2s, for: 1s, after: 500ms } }"),
    );
    let output = lab.squall(&["run", "test.yaml"]);
    let said = text(&output);
    // Who leads is not known before: where n3 does not, its links have the way in them, and that step is refused alone.
    let is_refused = said.contains("the control path is never cut");
    assert!(output.status.code() == Some(0) || is_refused && output.status.code() == Some(2), "{said}");
    let apart = "{ partition: { groups: [[n1, n2], [n3]], every: 2s, for: 1s, after: 500ms } }";
    lab.write("test.yaml", &test_file("gate.yaml", apart));
    let output = lab.squall(&["run", "test.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    lab.wait_for_nothing_left();
}

#[test]
fn a_login_that_is_not_root() {
    let Some(lab) = Lab::new("squall-sudo") else { return };
    if !is_there("sudo") {
        println!("SKIPPED: there is no sudo (apt install sudo)");
        return;
    }
    lab.write("op.yaml", &format!("hosts: [ 10.88.0.1, 10.88.0.2, 10.88.0.3 ]\n{}", defaults(&lab, "op")));
    let faults = "{ partition: { shape: one, every: 2s, for: 1s, after: 500ms } }, { kill: { every: 3s, restart_after: 500ms, after: 1s } }";
    lab.write("test.yaml", &test_file("op.yaml", faults));
    let output = lab.squall(&["run", "test.yaml"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));

    for (rule, expected) in [
        ("op ALL=(ALL) ALL\n", "sudo asks op for a password: allow it without one, `op ALL=(ALL) NOPASSWD: ALL`"),
        ("root ALL=(ALL) ALL\n", "op"),
    ] {
        // In place: the file itself is mounted over /etc/sudoers.
        std::fs::write(lab.path().join("sudoers"), rule).unwrap();
        let error = lab.error_of(&lab.squall(&["run", "test.yaml"]), 70);
        assert!(
            error.contains("cannot use host n") && error.contains(expected) && error.contains("NOPASSWD"),
            "{error}"
        );
    }
    lab.wait_for_nothing_left();
}

#[test]
fn what_goes_wrong_with_hosts_is_one_sentence() {
    let Some(lab) = Lab::new("squall-says") else { return };
    let dir = lab.path().display().to_string();
    let other =
        Command::new("ssh-keygen").args(["-q", "-t", "ed25519", "-N", "", "-f"]).arg(lab.path().join("other")).status();
    assert!(other.unwrap().success());
    let key = std::fs::read_to_string(lab.path().join("other.pub")).unwrap();
    lab.write("old_known_hosts", &format!("# two lines\n10.88.0.1 {key}"));
    lab.write("no_known_hosts", "");
    let host = |more: &str| format!("hosts: [ {{ host: 10.88.0.1, user: root, identity: login, {more} }} ]\n");
    let known = "known_hosts_file: known_hosts";
    let cases = [
        (
            host("known_hosts_file: old_known_hosts"),
            format!(
                "the host key of 10.88.0.1 is not the one in {dir}/old_known_hosts (line 2): somebody else answers there, or it was \
                 installed anew; if you know that it was, forget the old key: ssh-keygen -f '{dir}/old_known_hosts' -R '10.88.0.1'"
            ),
        ),
        (
            host("known_hosts_file: no_known_hosts"),
            "the host key of 10.88.0.1 is not known: log in once by hand".to_owned(),
        ),
        (host(&format!("{known}, root: {dir}/small")), "the disk there is full: make room for".to_owned()),
        (host(&format!("{known}, root: {dir}/noexec")), "mounted `noexec`: choose another `root`".to_owned()),
        (
            host(&format!("{known}, root: /proc/squall")),
            "`root` must be a folder in which the login, or root, may write".to_owned(),
        ),
        (host(&format!("{known}, port: 2222")), "Connection refused: is the machine up".to_owned()),
        (host(known).replace("10.88.0.1", "10.88.0.99"), "is the machine up".to_owned()),
        (host(known).replace("10.88.0.1", "no-such-host.invalid"), "is the name right?".to_owned()),
        (host(known).replace("login", "other"), "no key was taken for user root".to_owned()),
    ];
    for (hosts, expected) in cases {
        lab.write("bad.yaml", &hosts);
        lab.write("test.yaml", &test_file("bad.yaml", ""));
        let error = lab.error_of(&lab.squall(&["run", "test.yaml"]), 70);
        assert!(error.contains("cannot use host n1 (") && error.contains(&expected), "{hosts}: {error}");
    }
    // The command that it gives does what it says.
    let forget = ["-f", "old_known_hosts", "-R", "10.88.0.1"];
    assert!(Command::new("ssh-keygen").args(forget).current_dir(lab.path()).output().unwrap().status.success());
    assert!(!std::fs::read_to_string(lab.path().join("old_known_hosts")).unwrap().contains("10.88.0.1"));

    // A machine that has busybox and nothing else, no C library either: a program that needs none runs there.
    if is_there("busybox") {
        let old = host(&format!("{known}, root: /squall")).replace("root,", "old,");
        lab.write("old.yaml", &old);
        lab.write("test.yaml", &test_file("old.yaml", "{ kill: { every: 2s, restart_after: 500ms, unsafe: true } }"));
        match std::env::var_os("SQUALL_STATIC") {
            Some(program) => {
                let output = lab.squall_command(&["run", "test.yaml"]).env("SQUALL_PROGRAM", program).output().unwrap();
                assert_eq!(output.status.code(), Some(0), "{}", text(&output));
            }
            None => println!("SKIPPED: a static build on a machine without a C library: SQUALL_STATIC names none"),
        }
        let error = lab.error_of(&lab.squall(&["run", "test.yaml"]), 70);
        assert!(error.contains("squall was uploaded, but does not run there: build it statically"), "{error}");
        assert!(error.contains("and name the program in SQUALL_PROGRAM"), "{error}");
    } else {
        println!("SKIPPED: a machine without a C library: there is no busybox (apt install busybox-static)");
    }

    lab.write("test.yaml", &test_file("bad.yaml", ""));
    // A program for another machine: said before anything is uploaded.
    let mut program = std::fs::read(env!("CARGO_BIN_EXE_squall")).unwrap();
    program.truncate(4096);
    program[18..20].copy_from_slice(&183u16.to_le_bytes());
    std::fs::write(lab.path().join("for-arm"), program).unwrap();
    lab.write("bad.yaml", &host(&format!("{known}, root: {dir}/root")));
    let output =
        lab.squall_command(&["run", "test.yaml"]).env("SQUALL_PROGRAM", lab.path().join("for-arm")).output().unwrap();
    let error = lab.error_of(&output, 70);
    assert!(
        error.contains("it is Linux x86_64, and ") && error.contains("is built for Linux aarch64: build squall for it"),
        "{error}"
    );
    assert!(!lab.path().join("n1/bin").exists(), "nothing was uploaded");

    // Full only once it is uploaded: what the agent keeps there cannot be written.
    lab.write("bad.yaml", &host(&format!("{known}, root: {dir}/full")));
    let len = std::fs::metadata(env!("CARGO_BIN_EXE_squall")).unwrap().len();
    std::fs::create_dir(lab.path().join("full")).unwrap();
    let size = format!("size={}", len + (2 << 20));
    assert_eq!(lab.on_node(1, &["mount", "-t", "tmpfs", "-o", &size, "squall", &format!("{dir}/full")]), "");
    let output = lab.squall(&["doctor", "--hosts", "bad.yaml"]);
    assert!(output.status.success(), "{}", text(&output));
    lab.wait_for_nothing_left();
    lab.on_node(1, &["dd", "if=/dev/zero", &format!("of={dir}/full/ballast"), "bs=4096"]);
    let error = lab.error_of(&lab.squall(&["run", "test.yaml"]), 70);
    assert!(error.contains("No space left on device") && error.contains("n1"), "{error}");
    lab.wait_for_nothing_left();
}

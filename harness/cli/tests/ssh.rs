//! The ssh provider against three real sshd's, each in a network namespace that the test makes.

mod lab;

use lab::{Lab, in_namespace, text};
use std::path::Path;

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
    let Some(lab) = Lab::new("squall-lab") else { return };

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
        lab.wait_for("nothing left after a run", 10, || lab.leftovers().is_empty());
    }
    let doctor = lab.squall(&["doctor", "--hosts", "hosts.yaml"]);
    assert!(doctor.status.success() && text(&doctor).contains("n3"), "{}", text(&doctor));

    // kill -9 of the controller during a partition: the lease ends it, without anybody's help.
    let long = "{ partition: { shape: one, every: 60s, for: 59s, after: 100ms } }";
    lab.write("test.yaml", &test_file("squall-node: {}", long));
    let mut child = lab.squall_command(&["run", "test.yaml", "--duration", "60s"]).spawn().unwrap();
    let is_cut = || lab.nodes().iter().any(|node| in_namespace(node, &["nft", "list", "tables"]).contains("squall"));
    lab.wait_for("the partition", 60, is_cut);
    assert!(!lab.leftovers().is_empty());
    // `exec` all the way: the child is the controller.
    child.kill().unwrap();
    child.wait().unwrap();
    lab.wait_for("the partition to end with its lease", 15, || !is_cut());
    lab.wait_for("the processes to end with the lease", 15, || lab.leftovers().is_empty());

    lab.wait_for("ssh's control masters to end", 30, || lab.masters().is_empty());

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
    lab.wait_for("nothing left after mistakes", 10, || lab.leftovers().is_empty());
}

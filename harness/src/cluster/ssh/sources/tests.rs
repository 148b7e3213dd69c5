//! Hosts from each of the formats, by a hosts file that names them and by themselves.

use super::*;

/// A folder with files.
fn folder(files: &[(&str, &str)]) -> tempfile::TempDir {
    let dir = tempfile::tempdir().unwrap();
    for (name, text) in files {
        std::fs::write(dir.path().join(name), text).unwrap();
    }
    dir
}

/// The hosts of the first file.
fn hosts(files: &[(&str, &str)]) -> Result<Vec<Host>, String> {
    let dir = folder(files);
    let shown = dir.path().display().to_string();
    read_hosts(&dir.path().join(files[0].0)).map_err(|error| error.to_string().replace(&shown, "."))
}

fn one(text: &str) -> Result<Vec<Host>, String> {
    hosts(&[("hosts.yaml", text)])
}

fn names(hosts: &[Host]) -> Vec<&str> {
    hosts.iter().map(|host| host.name.as_str()).collect()
}

const ANSIBLE_JSON: &str = r#"{ "_meta": { "hostvars": { "db1": { "ansible_host": "10.0.0.1", "ansible_user": "root" } } },
    "all": { "children": ["db", "web"] }, "db": { "children": ["east", "west"] }, "east": { "hosts": ["db1"] },
    "west": { "hosts": ["db2"] }, "web": { "hosts": ["w1"] } }"#;

const OUTPUTS: &str = r#"{ "ips": { "sensitive": false, "value": ["10.0.0.1", "10.0.0.2"] } }"#;

#[test]
fn a_list_of_its_own() {
    let text = "hosts:\n  - alias\n  - { name: db, host: 10.0.0.2, port: 2222, address: 10.1.0.2, labels: { dc: east } }\n\
                defaults: { user: admin, port: 22, jump: me@gate }\nonly: [db, n1]\n";
    let read = one(text).unwrap();
    assert_eq!(names(&read), ["db", "n1"]);
    assert_eq!((read[0].port, read[0].address), (Some(2222), Some("10.1.0.2".parse().unwrap())));
    assert_eq!(
        (read[1].destination.as_str(), read[1].port, read[1].user.as_deref()),
        ("alias", Some(22), Some("admin"))
    );
    assert_eq!(read[1].options, ["ProxyJump=me@gate"]);
    assert_eq!(labels(&read, Path::new("f")).unwrap().nodes("dc", "east").unwrap(), [0]);
}

#[test]
fn what_people_have_already() {
    let by_name =
        |hosts_file: &str, name: &str, text: &str| hosts(&[("hosts.yaml", hosts_file), (name, text)]).unwrap();
    let read = by_name("ansible: i.json\ngroup: db\ndefaults: { user: admin }\n", "i.json", ANSIBLE_JSON);
    assert_eq!(names(&read), ["db1", "db2"]);
    assert_eq!((read[0].user.as_deref(), read[1].user.as_deref()), (Some("root"), Some("admin")));
    assert_eq!(labels(&read, Path::new("f")).unwrap().groups("db").unwrap(), [vec![0], vec![1]]);
    assert_eq!(names(&by_name("terraform: o.json\noutput: ips\n", "o.json", OUTPUTS)), ["n1", "n2"]);
    let read = by_name("ssh_config: c\n", "c", "Host a\n ProxyJump gate\nHost gate\n");
    assert!(names(&read) == ["a"] && read[0].ssh_config.as_ref().unwrap().is_absolute());
    assert_eq!(names(&by_name("file: list\n", "list", "10.0.0.1\n10.0.0.2 db\n")), ["n1", "db"]);
    // By themselves.
    for (text, expected) in [
        (ANSIBLE_JSON, vec!["db1", "db2", "w1"]),
        (OUTPUTS, vec!["n1", "n2"]),
        ("Host a\n  HostName 10.0.0.1\n", vec!["a"]),
        ("# mine\nme@10.0.0.1:22\n10.0.0.2 db\n", vec!["n1", "db"]),
        ("{ \"hosts\": [\"a\"] }", vec!["n1"]),
        ("---\nhosts: [ a ]\n", vec!["n1"]),
    ] {
        assert_eq!(names(&hosts(&[("h", text)]).unwrap()), expected, "{text}");
    }
}

#[test]
fn formats_are_told_apart() {
    let table = [
        ("[db]\n10.0.0.1\n", Format::Ansible),
        ("; mine\n10.0.0.1 ansible_user=me\n", Format::Ansible),
        ("all:\n  hosts:\n    a:\n", Format::Ansible),
        ("db:\n  children:\n    east:\n", Format::Ansible),
        ("#!/usr/bin/python3\nimport json\n", Format::Ansible),
        ("{ \"all\": { \"hosts\": {} } }", Format::Ansible),
        ("Host *\n  User me\n", Format::SshConfig),
        ("Include ~/.ssh/config\n", Format::SshConfig),
        ("host\nhost2\n", Format::Plain),
        ("hosts:\n  - host: a\n    labels:\n      dc: east\n", Format::HostsFile),
        ("ansible: i.ini\n", Format::HostsFile),
        ("", Format::HostsFile),
    ];
    for (text, expected) in table {
        assert_eq!(Format::of(text), expected, "{text}");
    }
}

#[test]
fn mistakes_are_named() {
    let table = [
        ("hosts: []", "./hosts.yaml: there is no host"),
        ("hots: [a]", "hosts.yaml:1:7: unknown key"),
        ("defaults: {}", "a hosts file needs a key `hosts`, a list of hosts, or one of `ansible`, `terraform`"),
        ("", "a hosts file needs a key `hosts`"),
        ("hosts: { a: b }", "`hosts` must be a list, not a map"),
        ("hosts: [ { name: a } ]", "`hosts.0` needs a key `host`"),
        ("hosts: [ { host: a, root: tmp } ]", "absolute folder"),
        ("hosts: [ { host: a, address: b } ]", "must be an IP address"),
        ("hosts: [ { host: a, labels: east } ]", "`labels` of a host must be a map"),
        ("hosts: [ { host: a, options: [x] } ]", "each of `options` must be Key=Value as for ssh -o, not `x`"),
        ("hosts: [ { host: -oProxyCommand=x } ]", "must not begin with `-`"),
        ("hosts: [ { host: a, name: x }, { host: b, name: x } ]", "two hosts are called `x`"),
        ("hosts: [ a ]\nfile: b", "choose one of the keys `hosts`, `file`"),
        ("hosts: [ a ]\ngroup: b", "`group` belongs to `ansible`, not to `hosts`"),
        ("file: b\ndata: x", "`data` belongs to `ansible` and `terraform`, not to `file`"),
        ("hosts: [ a ]\nonly: [n2]", "`only` names `n2`, which is not there; known: n1"),
        ("hosts: [ a ]\ndefaults: { address: 10.0.0.1 }", "`address` cannot be the same for all hosts"),
        ("ansible: none.ini", "none.ini: cannot read the inventory"),
        ("terraform: none.json", "none.json: cannot read the outputs"),
        ("a b c\n", "hosts.yaml:1:1: expected a host"),
    ];
    for (text, expected) in table {
        let error = one(text).unwrap_err();
        assert!(error.contains(expected) && !error.contains('\n'), "{text}: {error}");
    }
    let error = read_hosts(Path::new("/")).unwrap_err().to_string();
    assert!(error.contains("it is a folder: name a file"), "{error}");
    let both = [("dc".to_owned(), "east".to_owned()), ("dc".to_owned(), "west".to_owned())];
    let mut read = one("hosts: [ a ]").unwrap();
    read[0].labels = both.to_vec();
    let error = labels(&read, Path::new("f")).unwrap_err().to_string();
    assert!(error.contains("f, host n1: a node is in both `dc=east` and `dc=west`"), "{error}");
}

#[test]
fn complaints_in_one_line() {
    let terraform = "╷\n│ Warning: x\n│ \n│ y\n╵\n╷\n│ Error: No state file was found!\n│ \n│ more\n╵\n";
    assert_eq!(complaint(terraform), "No state file was found!");
    assert_eq!(
        complaint("[WARNING]: x\nERROR! Completely failed to parse inventory source /x\n"),
        "Completely failed to parse inventory source /x"
    );
    assert_eq!(complaint(""), "it gave no reason");
}

fn is_there(program: &str) -> bool {
    Command::new(program).arg("--version").stdin(Stdio::null()).output().is_ok()
}

#[test]
fn ansible_itself_reads_an_inventory() {
    if !is_there("ansible-inventory") {
        println!("skipped: there is no ansible-inventory (apt install ansible-core)");
        return;
    }
    let inventory = "[east]\ndb1 ansible_host=10.0.0.1 ansible_port=2222\n[west]\ndb2 ansible_ssh_common_args='-J me@gate'\n\
                     [dc:children]\neast\nwest\n[web]\nw1\n[dc:vars]\nprivate_ip=10.1.0.9\n";
    let read = hosts(&[("hosts.yaml", "ansible: i.ini\ngroup: dc\ndata: private_ip\n"), ("i.ini", inventory)]).unwrap();
    assert_eq!(names(&read), ["db1", "db2"]);
    assert_eq!((read[0].port, read[0].address), (Some(2222), Some("10.1.0.9".parse().unwrap())));
    assert_eq!(read[1].options, ["ProxyJump=me@gate"]);
    assert_eq!(labels(&read, Path::new("f")).unwrap().nodes("dc", "west").unwrap(), [1]);
    assert_eq!(names(&hosts(&[("i.ini", inventory)]).unwrap()), ["db1", "db2", "w1"]);
    let error = hosts(&[("hosts.yaml", "ansible: i.ini\n"), ("i.ini", "[db\nx y z\n")]).unwrap_err();
    assert!(error.contains("i.ini: `ansible-inventory` cannot read it: ") && !error.contains('\n'), "{error}");
}

#[test]
fn terraform_itself_says_its_outputs() {
    if !is_there("terraform") {
        println!("skipped: there is no terraform");
        return;
    }
    let dir = folder(&[
        ("hosts.yaml", "terraform: .\noutput: ips\n"),
        ("main.tf", "output \"ips\" { value = { a = \"10.0.0.1\", b = \"10.0.0.2\" } }\n"),
    ]);
    let read = || read_hosts(&dir.path().join("hosts.yaml")).map_err(|error| error.to_string());
    let error = read().unwrap_err();
    assert!(error.contains("there are no outputs: add an `output`"), "{error}");
    let apply = Command::new("terraform").current_dir(dir.path()).args(["apply", "-auto-approve"]).output().unwrap();
    assert!(apply.status.success(), "{apply:?}");
    assert_eq!(names(&read().unwrap()), ["a", "b"]);
    std::fs::write(dir.path().join("terraform.tfstate"), "{").unwrap();
    let error = read().unwrap_err();
    assert!(error.contains("`terraform` cannot read it: ") && !error.contains('\n'), "{error}");
}

//! What people get wrong: one clear sentence, the right exit code, nothing lost, nothing left behind.

use std::path::Path;
use std::process::{Command, Output};

const GOOD: &str = "name: t\ncluster: { nodes: 3 }\ntarget: noop\nworkload: { noop: { rate: 100/s } }\nduration: 200ms\nfinal: { quiesce: 10ms }\n";

fn squall(dir: &Path, args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_squall")).args(args).current_dir(dir).env_remove("SQUALL_STORE").output().unwrap()
}

fn error_of(output: &Output) -> String {
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(!said.contains("panicked"), "{said}");
    let errors: Vec<&str> = said.lines().filter(|line| line.starts_with("error: ")).collect();
    assert_eq!(errors.len(), 1, "one sentence: {said}");
    errors[0].to_owned()
}

#[test]
fn test_files_with_mistakes() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("good.yaml"), GOOD).unwrap();
    let replace = |from: &str, to: &str| {
        assert!(GOOD.contains(from), "{from}");
        GOOD.replace(from, to)
    };
    // (file, where, what)
    let files = [
        (replace("target: noop", "target: nop"), "t.yaml:3:9", "unknown target `nop`; did you mean `noop`?"),
        (replace("workload: { noop", "workload: { registr"), "t.yaml:4", "did you mean `register`?"),
        (replace("duration", "duratoin"), "t.yaml:5", "did you mean `duration`?"),
        (replace("rate: 100/s", "rat: 100/s"), "t.yaml:4", "did you mean `rate`?"),
        (replace("200ms", "soon"), "t.yaml:5", "duration"),
        (replace("200ms", "-5s"), "t.yaml:5", "duration"),
        (replace("100/s", "many"), "t.yaml:4", "rate"),
        (replace("nodes: 3", "nodes: 0"), "t.yaml:2", "count"),
        (replace("nodes: 3", "nodes: 900"), "t.yaml:2", "at most 64"),
        (replace("nodes: 3", "provider: vagarnt"), "t.yaml:2", "unknown provider"),
        (replace("nodes: 3", "provider: ssh"), "t.yaml:2", "hosts"),
        (replace("nodes: 3", "provider: ssh, hosts: none.yaml"), "none.yaml", "cannot read the hosts file"),
        (replace("nodes: 3", "provider: vagrant"), "vagrant", "there is no Vagrantfile in it"),
        (replace("{ nodes: 3 }", "vagrant"), "vagrant", "there is no Vagrantfile in it"),
        (replace("nodes: 3", "folder: here"), "t.yaml:2", "belongs to provider `vagrant`"),
        (replace("nodes: 3", "provider: vagrant, hosts: h"), "t.yaml:2", "belongs to provider `ssh`"),
        (format!("{GOOD}nemesis: [ {{ power-off: {{}} }} ]\n"), "t.yaml:7", "local nodes share this one"),
        (format!("{GOOD}nemesis: [ {{ machine-clock-bump: {{}} }} ]\n"), "t.yaml:7", "or `clock-bump`, whose clock"),
        (format!("{GOOD}nemesis: [ {{ machine-clock-drift: {{}} }} ]\n"), "t.yaml:7", "or `clock-drift`, whose clock"),
        (format!("{GOOD}nemesis: [ {{ device-delay: {{}} }} ]\n"), "t.yaml:7", "or `disk-slow`, whose disk"),
        (format!("{GOOD}nemesis: [ {{ device-error: {{}} }} ]\n"), "t.yaml:7", "or `disk-error`, whose disk"),
        (format!("{GOOD}nemesis: [ {{ device-power-cut: {{}} }} ]\n"), "t.yaml:7", "or `power-cut`, whose disk"),
        (format!("{GOOD}nemesis: [ {{ machine-rollback: {{}} }} ]\n"), "t.yaml:7", "use provider `vagrant`"),
        (replace("target: noop\n", ""), "t.yaml", "needs a key `target`"),
        (replace("target: noop", "target: etcd"), "t.yaml", "has no client for workload `noop`"),
        (format!("{GOOD}target: etcd\n"), "t.yaml:7", "target"),
        (format!("{GOOD}nemesis: [ {{ kil: {{}} }} ]\n"), "t.yaml:7", "did you mean `kill`?"),
        (format!("{GOOD}nemesis: [ {{ kill: {{ nodes: n7 }} }} ]\n"), "t.yaml:7", "n7"),
        (format!("{GOOD}nemesis: [ {{ pause: {{ for: 9s, every: 1s }} }} ]\n"), "t.yaml:7", "shorter than `every`"),
        (format!("{GOOD}nemesis: [ {{ partition: {{ shape: hlaves }} }} ]\n"), "t.yaml:7", "did you mean `halves`?"),
        (format!("{GOOD}nemesis: [ {{ partition: {{ every: 5s, flap: -1s }} }} ]\n"), "t.yaml:7", "duration"),
        (format!("{GOOD}nemesis: [ {{ transfer-leader: {{}} }} ]\n"), "t.yaml:7", "`noop` cannot hand leadership over"),
        ("name: [\n".to_owned(), "t.yaml", ""),
        (String::new(), "t.yaml", "target"),
    ];
    for (file, place, what) in files {
        std::fs::write(dir.path().join("t.yaml"), &file).unwrap();
        let output = squall(dir.path(), &["run", "t.yaml"]);
        let error = error_of(&output);
        assert_eq!(output.status.code(), Some(64), "{file}: {error}");
        assert!(error.contains(place) && error.contains(what), "{file}: {error}");
    }
    let arguments: [(&[&str], &str); 8] = [
        (&["run", "none.yaml"], "cannot read the test none.yaml"),
        (&["run", "good.yaml", "--set", "workload.noop.rat=5"], "did you mean `rate`?"),
        (&["run", "good.yaml", "--set", "nonsense"], "nonsense"),
        (&["run", "good.yaml", "--set", "duration=never"], "duration=never"),
        (&["run", "good.yaml", "--seed", "x"], "x"),
        (&["run", "--replay", "nowhere"], "nowhere is no run"),
        (&["describe", "registr"], "did you mean `register`?"),
        (&["list", "tests"], "unknown list"),
    ];
    for (args, what) in arguments {
        let output = squall(dir.path(), args);
        let error = error_of(&output);
        assert_eq!(output.status.code(), Some(64), "{args:?}: {error}");
        assert!(error.contains(what), "{args:?}: {error}");
    }
    assert!(!dir.path().join("store").exists(), "nothing is left of runs that never began");
}

#[test]
fn a_store_that_cannot_be_written() {
    let dir = tempfile::tempdir().unwrap();
    std::fs::write(dir.path().join("t.yaml"), GOOD).unwrap();
    std::fs::write(dir.path().join("file"), "").unwrap();
    let output = squall(dir.path(), &["run", "t.yaml", "--store", "file/below"]);
    if String::from_utf8_lossy(&output.stderr).contains("needs Linux namespaces") {
        println!("SKIPPED: no namespaces here");
        return;
    }
    assert_eq!(output.status.code(), Some(70));
    assert!(error_of(&output).contains("cannot create the store"), "{output:?}");
}

#[test]
fn a_damaged_plan_is_named() {
    let dir = tempfile::tempdir().unwrap();
    let run = dir.path().join("store/t/1");
    std::fs::create_dir_all(&run).unwrap();
    for (plan, what) in [
        ("squall_plan: 9\ntest: {}\n", "format 9"),
        ("squall_plan: 1\n", "no `test`"),
        ("{", "plan.yaml"),
        ("squall_plan: 1\ntest: { target: noop, workload: noop }\nnodes: [n1]\nfaults: { steps: 3 }\n", "fault plan"),
    ] {
        std::fs::write(run.join("plan.yaml"), plan).unwrap();
        let output = squall(dir.path(), &["run", "--replay", "store/t/1"]);
        let error = error_of(&output);
        assert_eq!(output.status.code(), Some(64), "{plan}: {error}");
        assert!(error.contains(what), "{plan}: {error}");
    }
}

#[test]
fn a_full_disk_ends_the_run_and_keeps_what_was_saved() {
    let dir = tempfile::tempdir().unwrap();
    let test = GOOD.replace("100/s", "0").replace("200ms", "20s");
    std::fs::write(dir.path().join("t.yaml"), test).unwrap();
    std::fs::create_dir(dir.path().join("small")).unwrap();
    // A file system of one megabyte in a mount namespace of its own.
    let script = "mount -t tmpfs -o size=1m tmpfs small || exit 99; \
                  \"$0\" run t.yaml --store small; code=$?; cp small/t/*/history.jsonl.zst saved; exit $code";
    let output = Command::new("unshare")
        .args(["-rm", "sh", "-c", script, env!("CARGO_BIN_EXE_squall")])
        .current_dir(dir.path())
        .output()
        .unwrap();
    let said = String::from_utf8_lossy(&output.stderr).into_owned();
    if output.status.code() == Some(99) || said.contains("unshare failed") || said.contains("needs Linux namespaces") {
        println!("SKIPPED: no file system can be mounted here: {said}");
        return;
    }
    assert_eq!(output.status.code(), Some(70), "{said}");
    assert!(error_of(&output).to_lowercase().contains("no space left"), "{said}");
    let saved = squall(dir.path(), &["show", "saved"]);
    assert!(saved.status.success(), "{saved:?}");
    assert!(String::from_utf8_lossy(&saved.stdout).contains("noop"));
}

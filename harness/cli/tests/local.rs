//! Whole runs on the local cluster: verdicts, ends of all kinds, and nothing left behind.
//!
//! Where the kernel allows no namespaces these tests cannot run; they say so and count as passed only then.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

/// A short test with all faults.
const TEST: &str = "\
name: short
cluster: { nodes: 3 }
target: { squall-node: { election_timeout: 300ms } }
workload: { register: { keys: 5, rate: 300/s } }
nemesis:
  - partition: { shape: [one, isolate-primary], every: 2s, for: 1s, after: 500ms }
  - kill: { nodes: one, every: 3s, restart_after: 500ms, after: 1s }
  - pause: { nodes: primary, every: 3s, for: 500ms, after: 2s }
duration: 4s
final: { quiesce: 500ms }
";

/// A run of a system with a planted bug that does not stay hidden for long.
const STALE_READS: [&str; 8] = [
    "run",
    "test.yaml",
    "--set",
    "target.squall-node.bug=stale-read",
    "--set",
    "nemesis=[{partition: {shape: one, every: 2s, for: 1900ms, after: 200ms}}]",
    "--set",
    "workload.register.rate=1000/s",
];

struct Lab {
    dir: tempfile::TempDir,
}

impl Lab {
    /// `None`, with a word about it, where there are no namespaces.
    fn new() -> Option<Self> {
        let dir = tempfile::tempdir().unwrap();
        std::fs::write(dir.path().join("test.yaml"), TEST).unwrap();
        let lab = Self { dir };
        let probe = lab.squall(&["run", "test.yaml", "--duration", "100ms", "--set", "nemesis=[]"]);
        let said = String::from_utf8_lossy(&probe.stderr).into_owned();
        if said.contains("needs Linux namespaces") {
            println!("SKIPPED: {said}");
            return None;
        }
        assert!(probe.status.success(), "{said}");
        Some(lab)
    }

    fn path(&self) -> &Path {
        self.dir.path()
    }

    fn command(&self, args: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
        // The store's path is in every agent's command line: by it they are found again.
        command.args(args).arg("--store").arg(self.path().join("store")).current_dir(self.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    fn squall(&self, args: &[&str]) -> Output {
        self.command(args).output().unwrap()
    }

    /// What follows the node belongs to the program that is run there.
    fn enter(&self, args: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_squall"));
        command.args(["enter", "--store"]).arg(self.path().join("store")).args(args).current_dir(self.path());
        command.stdin(Stdio::null()).output().unwrap()
    }

    /// Starts a long run and waits until operations are being recorded.
    fn start_long(&self) -> Child {
        let before = newest_run(self.path());
        let child = self.command(&["run", "test.yaml", "--duration", "60s"]).spawn().unwrap();
        wait_for("a run under way", || {
            newest_run(self.path())
                .filter(|run| Some(run) != before.as_ref())
                .is_some_and(|run| std::fs::metadata(run.join("history.jsonl.zst")).is_ok_and(|m| m.len() > 2000))
        });
        child
    }

    /// Processes, anywhere on this machine, that belong to this lab: (pid, command line).
    fn processes(&self) -> Vec<(i32, String)> {
        let marker = self.path().to_str().unwrap();
        let mut found = Vec::new();
        for entry in std::fs::read_dir("/proc").unwrap().flatten() {
            let Some(pid) = entry.file_name().to_str().and_then(|name| name.parse().ok()) else { continue };
            let line = std::fs::read(entry.path().join("cmdline")).unwrap_or_default();
            let line = String::from_utf8_lossy(&line).replace('\0', " ");
            if line.contains(marker) {
                found.push((pid, line));
            }
        }
        found
    }

    fn nothing_left(&self) {
        wait_for("all processes gone", || self.processes().is_empty());
    }
}

fn newest_run(dir: &Path) -> Option<PathBuf> {
    let mut runs: Vec<PathBuf> = std::fs::read_dir(dir.join("store/short")).ok()?.flatten().map(|e| e.path()).collect();
    runs.sort();
    runs.pop()
}

fn wait_for(what: &str, done: impl Fn() -> bool) {
    let begun = Instant::now();
    while !done() {
        assert!(begun.elapsed() < Duration::from_secs(60), "gave up waiting for: {what}");
        std::thread::sleep(Duration::from_millis(50));
    }
}

fn signal(pid: i32, name: &str) {
    assert!(Command::new("kill").args([name, &pid.to_string()]).status().unwrap().success());
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn a_correct_system_passes_and_leaves_nothing() {
    let Some(lab) = Lab::new() else { return };
    let output = lab.squall(&["run", "test.yaml", "--seed", "5"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    let said = text(&output);
    for word in ["VALID", "partition", "kill", "pause", "cas", "covered", "--replay"] {
        assert!(said.contains(word), "{word} in: {said}");
    }
    lab.nothing_left();
    let shown = lab.squall(&["show", "latest"]);
    assert!(shown.status.success() && text(&shown).contains("VALID"), "{}", text(&shown));
    assert_eq!(lab.squall(&["check", "latest"]).status.code(), Some(0));
    let covered = text(&lab.squall(&["coverage"]));
    assert!(covered.contains("leader") && covered.contains("these faults at all"), "{covered}");
    let run = newest_run(lab.path()).unwrap();
    for name in ["plan.yaml", "history.jsonl.zst", "results.json", "faults.json", "logs/n1/squall-node.log"] {
        assert!(run.join(name).exists(), "{name}");
    }
}

#[test]
fn a_planted_bug_is_found_and_explained() {
    let Some(lab) = Lab::new() else { return };
    let output = lab.squall(&[&STALE_READS[..], &["--duration", "8s"]].concat());
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("INVALID") && said.contains("<-"), "{said}");
    lab.nothing_left();
}

#[test]
fn one_seed_one_plan_and_replays_repeat_it() {
    let Some(lab) = Lab::new() else { return };
    let plan = |seed: &str| lab.squall(&["run", "test.yaml", "--plan", "--seed", seed]).stdout;
    assert_eq!(plan("7"), plan("7"));
    assert_ne!(plan("7"), plan("8"));
    assert!(lab.squall(&["run", "test.yaml", "--seed", "7", "--duration", "2s"]).status.success());
    let first = newest_run(lab.path()).unwrap();
    let replay = lab.squall(&["run", "--replay", first.to_str().unwrap()]);
    assert!(replay.status.success(), "{}", text(&replay));
    let second = newest_run(lab.path()).unwrap();
    assert_ne!(first, second);
    let bytes = |run: &Path| std::fs::read(run.join("plan.yaml")).unwrap();
    assert_eq!(bytes(&first), bytes(&second));
}

#[test]
fn ctrl_c_heals_saves_and_checks() {
    let Some(lab) = Lab::new() else { return };
    let child = lab.start_long();
    signal(child.id() as i32, "-INT");
    let output = child.wait_with_output().unwrap();
    // Nothing wrong in what there is, but nobody read it back: unknown.
    assert_eq!(output.status.code(), Some(2), "{}", text(&output));
    assert!(text(&output).contains("interrupted"), "{}", text(&output));
    lab.nothing_left();
    assert!(newest_run(lab.path()).unwrap().join("results.json").exists());
}

#[test]
fn whoever_is_killed_nothing_is_left_and_the_history_checks() {
    let Some(lab) = Lab::new() else { return };
    for victim in ["launcher", "init", "controller"] {
        let mut child = lab.start_long();
        let launcher = child.id() as i32;
        let init = lab.processes().iter().find(|(_, line)| line.contains("local-init")).map(|(pid, _)| *pid).unwrap();
        let controller = lab
            .processes()
            .iter()
            .find(|(pid, line)| *pid != launcher && *pid != init && line.contains(" run test.yaml"))
            .map(|(pid, _)| *pid)
            .unwrap();
        let pid = match victim {
            "launcher" => launcher,
            "init" => init,
            _ => controller,
        };
        signal(pid, "-KILL");
        let status = child.wait().unwrap();
        assert!(victim == "launcher" || status.code() == Some(70), "{victim}: {status}");
        lab.nothing_left();
        let history = newest_run(lab.path()).unwrap().join("history.jsonl.zst");
        let check = Command::new(env!("CARGO_BIN_EXE_squall")).arg("check").arg(history).output().unwrap();
        assert_eq!(check.status.code(), Some(0), "{victim}: {}", text(&check));
    }
}

#[test]
fn fail_fast_ends_a_correct_system_with_0_and_a_wrong_one_at_its_first_violation() {
    let Some(lab) = Lab::new() else { return };
    let output = lab.squall(&["run", "test.yaml", "--seed", "5", "--duration", "3s", "--fail-fast"]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    // Far longer than anybody would wait: only a violation ends it in time.
    let args = [&STALE_READS[..], &["--duration", "10m", "--fail-fast"]].concat();
    let output = lab.squall(&args);
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("  violated key ") && said.contains("INVALID") && said.contains("<-"), "{said}");
    let results = std::fs::read_to_string(newest_run(lab.path()).unwrap().join("results.json")).unwrap();
    assert!(results.contains("\"found_online\": \"key "), "{results}");
    lab.nothing_left();
}

#[test]
fn fail_fast_keeps_the_cluster_up_to_be_looked_at() {
    let Some(lab) = Lab::new() else { return };
    let args = [&STALE_READS[..], &["--duration", "10m", "--fail-fast", "--keep-up", "10m"]].concat();
    let child = lab.command(&args).spawn().unwrap();
    wait_for("results while the cluster is up", || {
        newest_run(lab.path()).is_some_and(|run| {
            let results = std::fs::read_to_string(run.join("results.json")).unwrap_or_default();
            results.contains("found_online")
        })
    });
    for (node, program, said) in [("n2", &["hostname"][..], "n2\n"), ("n1", &["cat", "/etc/hosts"], "n3")] {
        let output = lab.enter(&[&["latest", node], program].concat());
        assert!(text(&output).contains(said), "{node} {program:?}: {}", text(&output));
    }
    let nobody = lab.enter(&["latest", "n9", "hostname"]);
    assert!(!nobody.status.success() && text(&nobody).contains("no node n9"), "{}", text(&nobody));
    signal(child.id() as i32, "-INT");
    let output = child.wait_with_output().unwrap();
    let said = text(&output);
    assert_eq!(output.status.code(), Some(1), "{said}");
    assert!(said.contains("squall enter") && said.contains("10."), "{said}");
    lab.nothing_left();
}

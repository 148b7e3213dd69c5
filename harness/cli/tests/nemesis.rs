//! `squall nemesis` and `squall coverage` as a person runs them.
//!
//! Where the kernel allows no namespaces nothing can be tried; the test says so.

use std::process::{Command, Output};

fn squall(args: &[&str]) -> Output {
    let dir = std::env::temp_dir();
    Command::new(env!("CARGO_BIN_EXE_squall")).args(args).current_dir(dir).env_remove("SQUALL_STORE").output().unwrap()
}

fn text(output: &Output) -> String {
    format!("{}{}", String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr))
}

#[test]
fn every_fault_is_listed_with_all_there_is_to_know() {
    let listed = text(&squall(&["nemesis", "list"]));
    for word in ["fault", "mechanism", "needs", "verified by", "partition", "rolling-restart", "blackhole"] {
        assert!(listed.contains(word), "{word} in: {listed}");
    }
}

#[test]
fn faults_are_tried_and_a_fault_that_does_not_bite_fails() {
    let output = squall(&["nemesis", "try", "pause", "{ nodes: one }"]);
    if text(&output).contains("needs Linux namespaces") {
        println!("SKIPPED: {}", text(&output));
        return;
    }
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    for line in ["before", "during", "T (stopped), 0 lines", "after", "OK        as expected, and gone"] {
        assert!(text(&output).contains(line), "{line} in: {}", text(&output));
    }
    // A process that lives longer than it is watched for is not started twice: the canary of all trials.
    let output = squall(&["nemesis", "try", "crash-loop", "{ lives: 600s }"]);
    assert_eq!(output.status.code(), Some(1), "{}", text(&output));
    assert!(text(&output).contains("FAILED    it was started"), "{}", text(&output));
}

#[test]
fn bad_trials_are_named() {
    let table: [(&[&str], &str); 5] = [
        (&["pauze"], "unknown fault `pauze`; did you mean `pause`?"),
        (&["pause", "{ nodes: n9 }"], "unknown node or selector `n9`"),
        (&["pause", "{ for: -1s }"], "must be a duration"),
        (&["pause", "[ n1 ]"], "must be a map"),
        (&[], "required"),
    ];
    for (args, what) in table {
        let output = squall(&[&["nemesis", "try"], args].concat());
        if text(&output).contains("needs Linux namespaces") {
            println!("SKIPPED: {}", text(&output));
            continue;
        }
        assert_eq!(output.status.code(), Some(64), "{args:?}: {}", text(&output));
        assert!(text(&output).contains(what), "{args:?}: {}", text(&output));
    }
}

#[test]
fn coverage_of_no_runs_names_everything_as_missing() {
    let dir = tempfile::tempdir().unwrap();
    let store = dir.path().to_str().unwrap();
    let output = squall(&["coverage", "--store", store]);
    assert_eq!(output.status.code(), Some(0), "{}", text(&output));
    assert!(text(&output).contains("these faults at all: partition,"), "{}", text(&output));
}

//! The commands as a person runs them: output, exit codes, one sentence for every bad input.

use std::path::Path;
use std::process::{Command, Output};

const VALID: &str = "{:process 0 :type :invoke :f :write :value 1}\n{:process 0 :type :ok :f :write :value 1}\n\
                     {:process 1 :type :invoke :f :read :value nil}\n{:process 1 :type :ok :f :read :value 1}\n";
const INVALID: &str = "{:process 0 :type :invoke :f :write :value 1}\n{:process 0 :type :ok :f :write :value 1}\n\
                       {:process 1 :type :invoke :f :read :value nil}\n{:process 1 :type :ok :f :read :value 2}\n";
const NOTHING: &str = "{:process 0 :type :invoke :f :write :value 1}\n{:process 0 :type :info :f :write :value 1}\n";

fn squall(args: &[&str]) -> Output {
    Command::new(env!("CARGO_BIN_EXE_squall")).args(args).output().expect("squall starts")
}

fn write(dir: &Path, name: &str, text: &[u8]) -> String {
    let path = dir.join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("plain path").to_owned()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn verdicts_have_their_exit_codes() {
    let dir = tempfile::tempdir().unwrap();
    for (history, code, word) in [(VALID, 0, "VALID"), (INVALID, 1, "INVALID"), (NOTHING, 2, "UNKNOWN")] {
        let file = write(dir.path(), "h.edn", history.as_bytes());
        let output = squall(&["check", &file, "--model", "register"]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with(word), "{}", text(&output.stdout));
    }
}

#[test]
fn streams_are_judged_like_files() {
    let dir = tempfile::tempdir().unwrap();
    for (history, code, word) in [(VALID, 0, "VALID"), (INVALID, 1, "INVALID"), (NOTHING, 2, "UNKNOWN")] {
        let file = write(dir.path(), "h.edn", history.as_bytes());
        let lines = squall(&["export", &file, "--format", "jsonl"]).stdout;
        let lines = write(dir.path(), "h.jsonl", &lines);
        let output = squall(&["check", &lines, "--model", "register", "--stream"]);
        assert_eq!(output.status.code(), Some(code), "{}", text(&output.stderr));
        assert!(text(&output.stdout).starts_with(word), "{}", text(&output.stdout));
        assert_eq!(text(&output.stderr).contains("from event 3 on"), code == 1, "{}", text(&output.stderr));
        // Not every format can be streamed.
        assert_eq!(squall(&["check", &file, "--stream"]).status.code(), Some(64));
    }
}

#[test]
fn an_export_checks_like_the_original() {
    let dir = tempfile::tempdir().unwrap();
    let file = write(dir.path(), "h.edn", INVALID.as_bytes());
    for format in ["jsonl", "edn"] {
        let exported = squall(&["export", &file, "--format", format]);
        assert!(exported.status.success());
        let again = write(dir.path(), "again", &exported.stdout);
        assert_eq!(squall(&["check", &again]).status.code(), Some(1), "{format}");
    }
    let shown = squall(&["show", &file]);
    assert!(text(&shown.stdout).contains("write"), "{}", text(&shown.stdout));
}

#[test]
fn bad_input_is_one_sentence_and_exit_code_64() {
    let dir = tempfile::tempdir().unwrap();
    let good = write(dir.path(), "good.edn", VALID.as_bytes());
    let empty = write(dir.path(), "empty", b"");
    let noise = write(dir.path(), "noise", &[0xff, 0, 7, 0x28, 0xb5, 1]);
    let broken = write(dir.path(), "broken.edn", b"{:process 0 :type :invoke :f :read\n{:oops");
    let twice = format!("{}{VALID}", "{:process 0 :type :invoke :f :read :value nil}\n");
    let twice = write(dir.path(), "twice.edn", twice.as_bytes());
    let cases: &[&[&str]] = &[
        &["check", "no/such/file"],
        &["check", dir.path().to_str().unwrap()],
        &["check", &noise],
        &["check", &broken],
        &["check", &good, "--model", "regsiter"],
        &["check", &good, "--time", "-1"],
        &["check", &good, "--time", "NaN"],
        &["check", &good, "--fail-means", "maybe"],
        &["export", &good, "--format", "xml"],
        &["show"],
        &["shwo", &good],
    ];
    for case in cases {
        let output = squall(case);
        let said = text(&output.stderr);
        assert_eq!(output.status.code(), Some(64), "{case:?}: {said}");
        assert!(said.starts_with("error: "), "{case:?}: {said}");
        assert!(!said.contains("panicked"), "{case:?}: {said}");
    }
    // Readable, but nothing that a run could have meant: never a pass.
    assert_eq!(squall(&["check", &empty]).status.code(), Some(2));
    assert_ne!(squall(&["check", &twice]).status.code(), Some(0));
}

#[test]
fn evidence_decides_and_is_held_against_the_history() {
    let dir = tempfile::tempdir().unwrap();
    let history = format!("{NOTHING}{}", "{:process 1 :type :invoke :f :read}\n{:process 1 :type :ok :f :read}\n");
    let file = write(dir.path(), "h.edn", history.as_bytes());
    for (evidence, code, said) in [
        ("", 0, "VALID"),
        ("{\"index\": 0, \"happened\": true, \"by\": 2}\n", 1, "INVALID"),
        ("{\"index\": 0, \"happened\": false}\n", 0, "VALID"),
        (
            "\n{\"index\": 2, \"happened\": false}",
            64,
            "line 2, column 1: evidence about index 2: that read is no question",
        ),
        (
            "{\"index\": 9, \"happened\": false}",
            64,
            "evidence about index 9: no operation is invoked there (of 4 events)",
        ),
        ("{\"index\": 0, \"happened\": true, \"by\": 0}", 64, "index of an event after it, at most 4, not 0"),
        ("{\"index\": 0, \"happened\": true}\n{\"index\": 0, \"happened\": false}", 64, "line 2, column 1"),
        ("{\"index\": 0, \"hapened\": true}", 64, "unknown field `hapened`"),
    ] {
        let evidence = write(dir.path(), "evidence", evidence.as_bytes());
        let output = squall(&["check", &file, "--model", "register", "--evidence", &evidence]);
        let all = text(&output.stdout) + &text(&output.stderr);
        assert_eq!(output.status.code(), Some(code), "{all}");
        assert!(all.contains(said), "{said}: {all}");
    }
}

#[test]
fn the_self_check_says_what_it_did() {
    let output = squall(&["self-check", "--cases", "200", "--seed", "7"]);
    let said = text(&output.stdout);
    assert_eq!(output.status.code(), Some(0), "{said}{}", text(&output.stderr));
    assert!(said.starts_with("seed 7\n") && said.ends_with("no mismatch\n"), "{said}");
    assert!(said.lines().any(|line| line.starts_with("semaphore:2 ")), "{said}");
    for bad in [["--model", "kvv"], ["--engine", "magic"], ["--for", "soon"]] {
        let output = squall(&["self-check", bad[0], bad[1]]);
        assert_eq!(output.status.code(), Some(64), "{bad:?}: {}", text(&output.stderr));
    }
}

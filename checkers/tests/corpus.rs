//! Public histories with known verdicts, where they are at hand.

use squall_checkers::linear::online::{Online, OnlineOptions};
use squall_checkers::{CheckOptions, FailMeans, History, ImportOptions, ModelKind, Verdict, linear, read_any};
use std::collections::BTreeMap;
use std::path::Path;

/// A history with a known verdict.
struct Known {
    file: String,
    /// As the table calls it.
    model: String,
    kind: ModelKind,
    fail_means: FailMeans,
    expected: Verdict,
    history: History,
}

/// All for which there is a model; none, with a word about it, where there is no corpus.
fn corpus() -> Vec<Known> {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let Ok(table) = std::fs::read_to_string(corpus.join("VERDICTS.csv")) else {
        eprintln!("skipped: no corpus at {}", corpus.display());
        return Vec::new();
    };
    let mut known = Vec::new();
    for row in table.lines().skip(1) {
        // Only the model column is ever quoted.
        let (file, rest) = row.split_once(',').expect("a row has columns");
        let (model, rest) = match rest.strip_prefix('"') {
            Some(quoted) => quoted.split_once("\",").expect("a closing quote"),
            None => rest.split_once(',').expect("a row has columns"),
        };
        let verdict = rest.split(',').nth(1).expect("a row has a verdict");
        let (kind, fail_means) = match model {
            "cas-register (cas fail = observed mismatch)" => (ModelKind::CasRegister, FailMeans::AnsweredNo),
            "cas-register" => (ModelKind::CasRegister, FailMeans::NoEffect),
            "register, unique writes" => (ModelKind::Register, FailMeans::NoEffect),
            "atomic-queue" => (ModelKind::Queue(None), FailMeans::NoEffect),
            "atomic-stack" => (ModelKind::Stack, FailMeans::NoEffect),
            "multi-register" => (ModelKind::MultiRegister(Some(0)), FailMeans::NoEffect),
            "kv get/put/append" => (ModelKind::Kv, FailMeans::NoEffect),
            _ => continue,
        };
        let expected = if verdict == "valid" { Verdict::Valid } else { Verdict::Invalid };
        let (history, note) =
            read_any(corpus.join(file), &ImportOptions::default()).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(note.is_none());
        known.push(Known { file: file.to_owned(), model: model.to_owned(), kind, fail_means, expected, history });
    }
    known
}

#[test]
fn known_verdicts_are_found() {
    let mut ran: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    for Known { file, model, kind, fail_means, expected, history } in corpus() {
        let result = linear::check(&history, kind, &CheckOptions { fail_means, ..CheckOptions::default() });
        let nothing_happened = result.stats.ops_ok == 0;
        if nothing_happened {
            // Trivially linearizable, but a run in which nothing worked proves nothing: unknown, by contract.
            assert_eq!((result.verdict, expected), (Verdict::Unknown, Verdict::Valid), "{file}");
        } else if result.verdict != expected {
            wrong.push(format!("{file}: expected {expected}, got {}: {}", result.verdict, result.reason));
        }
        if result.verdict == Verdict::Invalid {
            // The worst key comes first, and explained.
            let explanation = result.keys[0].explanation.as_ref().unwrap_or_else(|| panic!("{file}: not explained"));
            println!("{file}: {}\n{explanation}", result.reason);
        }
        *ran.entry((model, expected.to_string())).or_default() += 1;
    }
    for ((model, verdict), count) in &ran {
        println!("{count:4} {verdict:8} {model}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Event by event it comes to the same, or to `unknown` where a model leaves too much undetermined.
#[test]
fn known_verdicts_are_found_online() {
    let mut ran: BTreeMap<(String, &str), u32> = BTreeMap::new();
    for Known { file, model, kind, fail_means, expected, history } in corpus() {
        let mut online = Online::new(kind, OnlineOptions { fail_means, ..OnlineOptions::default() });
        // What does not pair is unknown here as there.
        let _ = history.iter().try_for_each(|event| online.push(&event).map(drop));
        let result = online.finish();
        let is_unknown = result.verdict == Verdict::Unknown;
        assert!(is_unknown || result.verdict == expected, "{file}: expected {expected}: {}", result.reason);
        if is_unknown && result.stats.ops_ok > 0 {
            println!("{file}: {}", result.reason);
        }
        *ran.entry((model, result.verdict.as_str())).or_default() += 1;
    }
    for ((model, verdict), count) in &ran {
        println!("{count:4} {verdict:8} {model}");
    }
}

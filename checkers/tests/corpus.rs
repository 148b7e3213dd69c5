//! Public histories with known verdicts, where they are at hand.

use squall_checkers::{CheckOptions, FailMeans, ImportOptions, ModelKind, Verdict, linear, read_any};
use std::collections::BTreeMap;
use std::path::Path;

#[test]
fn known_verdicts_are_found() {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let Ok(table) = std::fs::read_to_string(corpus.join("VERDICTS.csv")) else {
        eprintln!("skipped: no corpus at {}", corpus.display());
        return;
    };
    let mut ran: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut wrong = Vec::new();
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
        *ran.entry((model.to_owned(), verdict.to_owned())).or_default() += 1;
    }
    for ((model, verdict), count) in &ran {
        println!("{count:4} {verdict:8} {model}");
    }
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

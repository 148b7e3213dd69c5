//! Public histories with known verdicts, where they are at hand.

use squall_checkers::linear::online::{Online, OnlineOptions};
use squall_checkers::{CheckOptions, FailMeans, History, ImportOptions, ModelKind, Verdict, linear, read_any};
use std::collections::BTreeMap;
use std::path::Path;
use std::time::{Duration, Instant};

/// A history with a known verdict.
struct Known {
    file: String,
    /// As the table calls it.
    model: String,
    kind: ModelKind,
    fail_means: FailMeans,
    /// `None` where the table names no verdict.
    expected: Option<Verdict>,
    history: History,
}

/// Models that we do not have: how many histories of each, and why.
type NotRun = BTreeMap<String, (u32, &'static str)>;

/// All for which there is a model, and what there is beside; none, with a word about it, where there is no corpus.
fn corpus() -> (Vec<Known>, NotRun) {
    let corpus = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/corpus");
    let Ok(table) = std::fs::read_to_string(corpus.join("VERDICTS.csv")) else {
        eprintln!("skipped: no corpus at {}", corpus.display());
        return (Vec::new(), NotRun::new());
    };
    let (mut known, mut not_run) = (Vec::new(), NotRun::new());
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
            // The table names no verdict for these two: they are judged, and what was said is printed.
            "set" => (ModelKind::Set, FailMeans::NoEffect),
            "counter" => (ModelKind::Counter, FailMeans::NoEffect),
            _ => {
                let why = match model {
                    "bank" => "a bank's total is no object's state: no model",
                    _ => "isolation levels: no model",
                };
                not_run.entry(model.to_owned()).or_insert((0, why)).0 += 1;
                continue;
            }
        };
        let expected = match verdict {
            "valid" => Some(Verdict::Valid),
            "invalid" => Some(Verdict::Invalid),
            _ => None,
        };
        let (history, note) =
            read_any(corpus.join(file), &ImportOptions::default()).unwrap_or_else(|e| panic!("{file}: {e}"));
        assert!(note.is_none());
        known.push(Known { file: file.to_owned(), model: model.to_owned(), kind, fail_means, expected, history });
    }
    // A row that is left out by mistake must be noticed.
    let others: u32 = not_run.values().map(|(count, _)| count).sum();
    assert_eq!(known.len() + others as usize, table.lines().count() - 1);
    (known, not_run)
}

/// What one history may take.
const DEADLINE: Duration = Duration::from_secs(10);

#[test]
fn known_verdicts_are_found() {
    let (mut keys, mut unknown_keys) = (0, Vec::new());
    let mut ran: BTreeMap<(String, String), u32> = BTreeMap::new();
    let mut wrong = Vec::new();
    let (known, not_run) = corpus();
    for Known { file, model, kind, fail_means, expected, history } in known {
        let deadline = Some(Instant::now() + DEADLINE);
        let result = linear::check(&history, kind, &CheckOptions { fail_means, deadline, ..CheckOptions::default() });
        let nothing_happened = result.stats.ops_ok == 0;
        keys += result.keys.len();
        let unknown = result.keys.iter().filter(|key| key.verdict == Verdict::Unknown);
        unknown_keys.extend(unknown.map(|key| format!("{file}: key {}: {:?}", key.key, key.reason)));
        if nothing_happened {
            // Trivially linearizable, but a run in which nothing worked proves nothing: unknown, by contract.
            assert_eq!((result.verdict, expected), (Verdict::Unknown, Some(Verdict::Valid)), "{file}");
        } else if let Some(expected) = expected.filter(|expected| result.verdict != *expected) {
            wrong.push(format!("{file}: expected {expected}, got {}: {}", result.verdict, result.reason));
        }
        if expected.is_none() {
            println!("{file}: no verdict in the table; here {}: {}", result.verdict, result.reason);
            assert_ne!(result.verdict, Verdict::Unknown, "{file}");
        }
        if result.verdict == Verdict::Invalid {
            // The worst key comes first, and explained.
            let explanation = result.keys[0].explanation.as_ref().unwrap_or_else(|| panic!("{file}: not explained"));
            println!("{file}: {}\n{explanation}", result.reason);
        }
        let expected = expected.map_or("not said".to_owned(), |expected| expected.to_string());
        *ran.entry((model, expected)).or_default() += 1;
    }
    for ((model, verdict), count) in &ran {
        println!("{count:4} {verdict:8} {model}");
    }
    for (model, (count, why)) in &not_run {
        println!("{count:4} not run  {model}: {why}");
    }
    println!("{} keys, {} left unknown within {} s a history", keys, unknown_keys.len(), DEADLINE.as_secs());
    assert!(unknown_keys.is_empty(), "{}", unknown_keys.join("\n"));
    println!("{} histories, {} with another verdict than the table's", ran.values().sum::<u32>(), wrong.len());
    assert!(wrong.is_empty(), "{}", wrong.join("\n"));
}

/// Event by event it comes to the same, or to `unknown` where a model leaves too much undetermined.
#[test]
fn known_verdicts_are_found_online() {
    let mut ran: BTreeMap<(String, &str), u32> = BTreeMap::new();
    for Known { file, model, kind, fail_means, expected, history } in corpus().0 {
        let mut online = Online::new(kind, OnlineOptions { fail_means, ..OnlineOptions::default() });
        // What does not pair is unknown here as there.
        let _ = history.iter().try_for_each(|event| online.push(&event).map(drop));
        let result = online.finish();
        let is_unknown = result.verdict == Verdict::Unknown;
        let is_right = expected.is_none_or(|expected| result.verdict == expected);
        assert!(is_unknown || is_right, "{file}: expected {expected:?}: {}", result.reason);
        if is_unknown && result.stats.ops_ok > 0 {
            println!("{file}: {}", result.reason);
        }
        *ran.entry((model, result.verdict.as_str())).or_default() += 1;
    }
    for ((model, verdict), count) in &ran {
        println!("{count:4} {verdict:8} {model}");
    }
}

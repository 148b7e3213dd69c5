//! Readers under mutated input: no panic, no hang; what is malformed is named.
//!
//! `SQUALL_CASES=10000000 cargo test --release -p squall-checkers --test fuzz` runs as long as one likes.

use proptest::prelude::*;
use squall_checkers::{HistoryReader, HistoryWriter, ImportOptions, read_any, read_text};

const JSONL: &str = "{\"index\":0,\"time\":1,\"type\":\"invoke\",\"process\":0,\"f\":\"write\",\"key\":3,\"value\":[1,\"a\",null]}\n\
                     {\"index\":1,\"time\":2,\"type\":\"ok\",\"process\":0,\"f\":\"write\",\"key\":3,\"value\":[1,\"a\",null]}\n";
const EDN: &str = "[{:process 0, :type :invoke, :f :txn, :value [[:read :x nil] [:write :y 2]] :time 12}\n\
                   {:process 0 :type :ok :f :txn :value [[:read :x #{1 2}]] :error \"a\\\"b\"}]";
const LINES: &str =
    "INFO  jepsen.util - 0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:ok\t:read\t3\n0\t:info\t:cas\t[1 2]\n";
const OBJECT: &str = "# @object atomic-queue\n[1] call add(7)\n[1] return\n[2] call remove\n[2] return 7\n";

fn cases() -> ProptestConfig {
    let cases = std::env::var("SQUALL_CASES").ok().and_then(|text| text.parse().ok()).unwrap_or(2000);
    ProptestConfig::with_cases(cases)
}

/// Flips, cuts, doubles and inserts.
fn mutate(seed: &[u8], script: &[(u16, u8, u8)]) -> Vec<u8> {
    let mut bytes = seed.to_vec();
    for &(at, how, byte) in script {
        let at = usize::from(at) % bytes.len().max(1);
        match how % 6 {
            0 if !bytes.is_empty() => bytes[at] = byte,
            1 => bytes.insert(at.min(bytes.len()), byte),
            2 => bytes.truncate(at),
            3 if !bytes.is_empty() => drop(bytes.remove(at)),
            4 => {
                let piece = bytes[at..(at + usize::from(byte)).min(bytes.len())].to_vec();
                bytes.extend(piece);
            }
            _ => {
                let tokens: [&[u8]; 8] =
                    [b"{", b"[", b"\"", b"\\u0000", b"-9223372036854775808", b"1e999", b"#inst ", b"\n"];
                let token = tokens[usize::from(byte) % tokens.len()];
                bytes.splice(at..at, token.iter().copied());
            }
        }
    }
    bytes
}

proptest! {
    #![proptest_config(cases())]

    #[test]
    fn texts(which in 0usize..4, script in prop::collection::vec(any::<(u16, u8, u8)>(), 0..12), independent: bool) {
        let seed = [JSONL, EDN, LINES, OBJECT][which];
        let options = ImportOptions { independent_keys: independent };
        if let Err(error) = read_text(&mutate(seed.as_bytes(), &script), &options) {
            prop_assert!(!error.to_string().is_empty());
        }
    }

    #[test]
    fn our_own_files(script in prop::collection::vec(any::<(u16, u8, u8)>(), 0..8)) {
        let dir = tempfile::tempdir().unwrap();
        let good = dir.path().join("good");
        let history = read_text(JSONL.as_bytes(), &ImportOptions::default()).unwrap();
        let mut writer = HistoryWriter::create(&good).unwrap();
        for round in 0..3 {
            for event in history.iter() {
                writer.append(&squall_checkers::Event { index: event.index + round * 2, ..event }).unwrap();
            }
            writer.flush().unwrap();
        }
        drop(writer);
        let bad = dir.path().join("bad");
        std::fs::write(&bad, mutate(&std::fs::read(&good).unwrap(), &script)).unwrap();
        let _ = read_any(&bad, &ImportOptions::default());
        if let Ok(reader) = HistoryReader::open(&bad) {
            // Ends, whatever is in it.
            prop_assert!(reader.take(1_000_000).count() < 1_000_000);
        }
    }
}

//! What must hold of every text that a reader is given.

use libfuzzer_sys::Corpus;
use squall_checkers::{Format, History, HistoryError, ImportOptions, detect, export_edn, export_jsonl, read_text};

/// Reads a text of this format, if it looks like one: no panic; what is wrong is said with its line; what could be read
/// is written and read back the same.
pub fn text(bytes: &[u8], format: Format, options: &ImportOptions) -> Corpus {
    if detect(bytes) != Some(format) {
        return Corpus::Reject;
    }
    match read_text(bytes, options) {
        Ok(history) => again(&history),
        Err(HistoryError::Syntax { line, column, message }) => {
            let lines = bytes.split(|&byte| byte == b'\n').count() as u64;
            assert!((1..=lines).contains(&line) && column > 0 && !message.is_empty(), "{line}:{column}: {message}");
        }
        Err(error) => assert!(!error.to_string().is_empty()),
    }
    Corpus::Keep
}

/// Exports are read back as they were, and operations pair or say why not.
pub fn again(history: &History) {
    if let Err(error) = history.ops() {
        assert!(!error.to_string().is_empty());
    }
    if history.is_empty() {
        return;
    }
    let mut jsonl = Vec::new();
    export_jsonl(history, &mut jsonl).expect("memory takes everything");
    let read = read_text(&jsonl, &ImportOptions::default()).expect("our own lines");
    assert!(read.iter().eq(history.iter()), "{}", String::from_utf8_lossy(&jsonl));
    // What is a nemesis' has no process in EDN, and times before the start or too late have no place there.
    let mut edn = Vec::new();
    export_edn(history, &mut edn).expect("memory takes everything");
}

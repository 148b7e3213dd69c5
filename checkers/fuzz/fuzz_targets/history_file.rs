#![no_main]

use libfuzzer_sys::fuzz_target;
use squall_checkers::{HistoryReader, ImportOptions, read_any};

fuzz_target!(|bytes: &[u8]| {
    // In memory, where the machine has such a place; one file a process.
    let dir = if std::path::Path::new("/dev/shm").is_dir() { "/dev/shm".into() } else { std::env::temp_dir() };
    let path = dir.join(format!("squall-fuzz-{}.history", std::process::id()));
    let mut file = b"\x28\xB5\x2F\xFD".to_vec();
    file.extend_from_slice(bytes.strip_prefix(b"\x28\xB5\x2F\xFD").unwrap_or(bytes));
    std::fs::write(&path, &file).expect("a file can be written");
    let whole = read_any(&path, &ImportOptions::default());
    let streamed: Vec<_> = HistoryReader::open(&path).expect("it is there").collect();
    if let Ok((history, _)) = &whole {
        assert!(streamed.iter().flatten().cloned().eq(history.iter()), "all at once and one by one are the same");
        squall_checkers_fuzz::again(history);
    }
    assert_eq!(whole.is_err(), streamed.iter().any(Result::is_err));
    let _ = std::fs::remove_file(&path);
});

#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use squall_checkers::{Format, ImportOptions};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    // As one object or as independent keys, as the length has it.
    let options = ImportOptions { independent_keys: bytes.len().is_multiple_of(2) };
    squall_checkers_fuzz::text(bytes, Format::Edn, &options)
});

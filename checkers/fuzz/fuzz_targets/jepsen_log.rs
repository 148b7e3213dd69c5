#![no_main]

use libfuzzer_sys::{Corpus, fuzz_target};
use squall_checkers::{Format, ImportOptions};

fuzz_target!(|bytes: &[u8]| -> Corpus {
    squall_checkers_fuzz::text(bytes, Format::JepsenLog, &ImportOptions::default())
});

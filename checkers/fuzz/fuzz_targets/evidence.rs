#![no_main]

use libfuzzer_sys::fuzz_target;
use squall_checkers::{CheckOptions, Evidence, ImportOptions, ModelKind, linear, read_text};
use std::time::{Duration, Instant};

const HISTORY: &[u8] = b"{:process 0 :type :invoke :f :write :value 1 :time 10}
{:process 1 :type :invoke :f :read :value nil :time 20}
{:process 0 :type :info :f :write :value 1 :time 30}
{:process 1 :type :ok :f :read :value nil :time 40}
{:process 2 :type :invoke :f :cas :value [1 2] :time 50}
{:process 3 :type :invoke :f :write :value 3 :time 60}
{:process 1 :type :invoke :f :read :value nil :time 70}
{:process 1 :type :ok :f :read :value 2 :time 80}
";

fuzz_target!(|bytes: &[u8]| {
    let history = read_text(HISTORY, &ImportOptions::default()).expect("a good history");
    if let Ok(evidence) = Evidence::read(bytes, &history) {
        let deadline = Some(Instant::now() + Duration::from_secs(5));
        let options = CheckOptions { evidence, deadline, threads: 1, ..CheckOptions::default() };
        let result = linear::check(&history, ModelKind::CasRegister, &options);
        assert!(
            !result.reason.contains("panicked") && !result.reason.contains("cannot be checked"),
            "{}",
            result.reason
        );
    }
});

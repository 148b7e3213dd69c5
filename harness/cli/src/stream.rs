//! `squall check --stream`: a history of any length, judged while it is read.

use anyhow::Context;
use squall_checkers::linear::online::{Finding, Online, OnlineOptions};
use squall_checkers::{CheckResult, EventStream, ModelKind, Verdict};
use std::path::Path;
use std::time::Instant;

/// The clock is read after so many events.
const LOOK_EVERY: u64 = 4096;

/// Findings that are printed as they come; all are in the result.
const SHOWN_MAX: usize = 10;

/// Reads `file` to its end, or to `deadline`. Findings go to stderr at once.
///
/// # Errors
/// When the file cannot be read, or not be streamed.
pub(crate) fn check(
    file: &Path,
    model: ModelKind,
    options: OnlineOptions,
    deadline: Instant,
) -> anyhow::Result<CheckResult> {
    let mut events = EventStream::open(file).with_context(|| file.display().to_string())?;
    let mut online = Online::new(model, options);
    let (mut read, mut shown, mut out_of_time) = (0, 0, false);
    for event in &mut events {
        let event = event.with_context(|| file.display().to_string())?;
        match online.push(&event) {
            Ok(None) => {}
            Ok(Some(finding)) => {
                shown += 1;
                if shown <= SHOWN_MAX {
                    show(&finding);
                }
            }
            // `finish` says so, too.
            Err(_) => break,
        }
        read += 1;
        if read % LOOK_EVERY == 0 && Instant::now() > deadline {
            out_of_time = true;
            break;
        }
    }
    if let Some(truncated) = events.truncated() {
        eprintln!("note: {truncated}");
    }
    let mut result = online.finish();
    if out_of_time && result.verdict == Verdict::Valid {
        result.verdict = Verdict::Unknown;
        result.reason = format!("out of time after {read} events, nothing wrong so far");
    }
    Ok(result)
}

fn show(finding: &Finding) {
    match finding {
        Finding::Violation(violation) => eprintln!("violated: {violation}"),
        Finding::GaveUp { key, index, reason } => {
            eprintln!("note: key {key} is not decided from event {index} on: {reason}");
        }
    }
}

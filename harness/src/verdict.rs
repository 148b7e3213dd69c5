//! From a saved history to a verdict. The same for a fresh run and for an old one checked again.

use crate::nemesis::{FaultRow, NemesisKind};
use crate::pages;
use crate::report::Report;
use crate::stats::Stats;
use crate::store::Run;
use crate::test::Test;
use crate::workload::{CheckBudget, Checker};
use anyhow::Context;
use squall_checkers::{CheckResult, History, ImportOptions, Verdict, read_any};
use std::panic::{AssertUnwindSafe, catch_unwind};

/// Judges the history in `run` by the checkers of `test`'s workload. `early`: why it ended before
/// its time, if it did.
///
/// # Errors
/// When the history cannot be read.
pub fn judge(test: &Test, run: &Run, kind: &dyn NemesisKind, early: Option<&str>) -> anyhow::Result<Report> {
    let path = run.history();
    let (history, truncated) =
        read_any(&path, &ImportOptions::default()).with_context(|| format!("cannot read {}", path.display()))?;
    let mut stats = Stats::default();
    history.iter().for_each(|event| stats.feed(&event));
    let checks: Vec<CheckResult> =
        test.workload.checkers().iter().map(|checker| check(&**checker, &history, &test.check)).collect();
    let faults: Vec<FaultRow> = match run.read("faults.json") {
        Ok(text) => serde_json::from_str(&text).context("faults.json of the run is damaged")?,
        Err(_) => Vec::new(),
    };
    let mut doubts = doubts(&stats, &faults);
    doubts.extend(early.map(str::to_owned));
    if let Some(truncated) = truncated {
        doubts.push(format!("the run was cut off: {truncated}"));
    }
    let by_checks = checks.iter().fold(Verdict::Valid, |v, check| v.merge(check.verdict));
    let verdict = if doubts.is_empty() { by_checks } else { by_checks.merge(Verdict::Unknown) };
    let mut reasons: Vec<String> =
        checks.iter().filter(|c| c.verdict != Verdict::Valid).map(|c| c.reason.clone()).collect();
    reasons.extend(doubts);
    let (operations, errors) = Report::operations(&stats);
    Ok(Report {
        test: test.name.clone(),
        target: test.target.name().to_owned(),
        workload: test.workload.name().to_owned(),
        seed: test.seed.0,
        verdict,
        reasons,
        in_force: in_force(&checks, &history, kind),
        coverage: kind.coverage(&history),
        pages: pages::write(test, run, &history, &checks),
        checks,
        operations,
        faults,
        rate_per_s: stats.rate(),
        errors,
        found_online: None,
    })
}

/// Runs one checker; its panic is our bug and never a pass.
fn check(checker: &dyn Checker, history: &History, budget: &CheckBudget) -> CheckResult {
    let caught = catch_unwind(AssertUnwindSafe(|| checker.check(history, budget)));
    caught.unwrap_or_else(|panic| {
        let what = panic.downcast_ref::<String>().map(String::as_str);
        let what = what.or_else(|| panic.downcast_ref::<&str>().copied()).unwrap_or("no message");
        CheckResult {
            checker: checker.name().to_owned(),
            verdict: Verdict::Unknown,
            reason: format!("checker `{}` panicked, which is a bug in squall: {what}", checker.name()),
            ..CheckResult::default()
        }
    })
}

/// Why a history without a violation may still mean nothing.
fn doubts(stats: &Stats, faults: &[FaultRow]) -> Vec<String> {
    let mut doubts = Vec::new();
    if stats.totals().0 == 0 {
        doubts.push("no operation succeeded, so nothing was tested".to_owned());
    }
    // What was only skipped says nothing against what others showed.
    let has_bitten = faults.iter().any(|row| row.bit > 0);
    for row in faults.iter().filter(|row| row.bit == 0 && (row.injected > 0 || !has_bitten)) {
        let why = row.troubles.iter().chain([&row.skipped_why]).find(|why| !why.is_empty());
        let why = why.map_or(String::new(), |why| format!(": {why}"));
        doubts.push(format!("{} {} was planned and never bit{why}", row.fault, row.detail));
    }
    doubts
}

/// For every explanation, what the nemesis had in force between its first operation and its culprit.
fn in_force(checks: &[CheckResult], history: &History, kind: &dyn NemesisKind) -> Vec<(String, String, Vec<String>)> {
    let mut found = Vec::new();
    for check in checks {
        for explanation in check.keys.iter().filter_map(|key| key.explanation.as_ref()) {
            let Some(culprit) = explanation.ops.get(explanation.culprit) else { continue };
            let from_ns = explanation.ops.iter().map(|op| op.call_ns).min().unwrap_or(culprit.call_ns);
            let what = kind.in_force_between(history, from_ns, culprit.call_ns);
            found.push((check.checker.clone(), explanation.key.clone(), what));
        }
    }
    found
}

#[cfg(test)]
mod tests {
    use super::*;

    fn row(fault: &str, injected: u64, bit: u64, skipped: u64) -> FaultRow {
        FaultRow {
            fault: fault.to_owned(),
            detail: "one".to_owned(),
            injected,
            bit,
            skipped,
            skipped_why: if skipped > 0 { "n1 is down by 3-kill".to_owned() } else { String::new() },
            troubles: Vec::new(),
            seen: String::new(),
        }
    }

    #[test]
    fn what_was_only_skipped_is_no_doubt_unless_nothing_bit() {
        let of_faults = |rows: &[FaultRow]| {
            let doubts = doubts(&Stats::default(), rows);
            doubts.into_iter().filter(|doubt| doubt.contains("never bit")).collect::<Vec<_>>()
        };
        assert!(of_faults(&[row("kill", 4, 4, 0), row("pause", 0, 0, 2)]).is_empty());
        assert_eq!(of_faults(&[row("kill", 4, 4, 0), row("pause", 1, 0, 2)]).len(), 1);
        let nothing = of_faults(&[row("pause", 0, 0, 2)]);
        assert_eq!(nothing, ["pause one was planned and never bit: n1 is down by 3-kill"]);
    }
}

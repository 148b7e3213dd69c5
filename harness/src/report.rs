//! What a run amounts to: saved as `results.json`, shown as a summary.

use crate::nemesis::{Cell, FaultRow};
use crate::progress::microseconds;
use crate::stats::Stats;
use serde::{Deserialize, Serialize};
use squall_checkers::{CheckResult, Explanation, Verdict};
use std::fmt::Write;
use tabled::builder::Builder;
use tabled::settings::{Alignment, Padding, Style, object::Columns};

/// Most faults that are named with one explanation.
const IN_FORCE_MAX: usize = 6;

/// The result of a run, or of checking it again.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Report {
    /// The test's name.
    pub test: String,
    /// The system under test.
    pub target: String,
    /// The workload.
    pub workload: String,
    /// Root of everything random.
    pub seed: u64,
    /// The worst of all.
    pub verdict: Verdict,
    /// Why, most important first; empty for a plain valid.
    pub reasons: Vec<String>,
    /// What each checker said.
    pub checks: Vec<CheckResult>,
    /// A row per operation.
    pub operations: Vec<OpRow>,
    /// A row per kind of fault.
    pub faults: Vec<FaultRow>,
    /// Which faults hit whom in which state of the cluster.
    #[serde(default)]
    pub coverage: Vec<Cell>,
    /// Ok operations per second of the main phase.
    pub rate_per_s: f64,
    /// The most frequent errors: operation, outcome, why, how often.
    pub errors: Vec<ErrorRow>,
    /// What was in force between the first operation of each explanation and its culprit, by checker and key.
    pub in_force: Vec<(String, String, Vec<String>)>,
    /// Files in the run's folder that show a violated key each.
    #[serde(default)]
    pub pages: Vec<String>,
    /// The first violation that was found while the run went.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub found_online: Option<String>,
}

/// How often an operation ended so: operation, outcome, why, count.
pub type ErrorRow = (String, String, String, u64);

/// Counts and latencies of one kind of operation.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct OpRow {
    /// `read`.
    pub operation: String,
    /// Certainly took effect.
    pub ok: u64,
    /// Certainly did not.
    pub fail: u64,
    /// Unknown.
    pub unknown: u64,
    /// Latency of ok operations (microseconds): median.
    pub p50_us: u64,
    /// 99 of 100 were faster.
    pub p99_us: u64,
    /// The slowest.
    pub max_us: u64,
}

impl Report {
    /// Fills the rows about operations.
    pub fn operations(stats: &Stats) -> (Vec<OpRow>, Vec<ErrorRow>) {
        let rows = stats.by_f().into_iter().map(|(f, s)| OpRow {
            operation: f.to_string(),
            ok: s.ok,
            fail: s.fail,
            unknown: s.info,
            p50_us: s.latency_us.value_at_quantile(0.5),
            p99_us: s.latency_us.value_at_quantile(0.99),
            max_us: s.latency_us.max(),
        });
        let mut errors: Vec<_> = stats
            .errors
            .iter()
            .map(|((f, kind, why), n)| (f.to_string(), kind.as_str().to_owned(), why.to_string(), *n))
            .collect();
        errors.sort_by(|a, b| b.3.cmp(&a.3).then_with(|| a.cmp(b)));
        errors.truncate(8);
        (rows.collect(), errors)
    }

    /// Only the numbers about operations, as a table: for a history without a run around it.
    pub fn operations_text(stats: &Stats) -> String {
        let (rows, _) = Self::operations(stats);
        format!("{}\n  {:.0} ok operations/s", indent(&operation_table(&rows)), stats.rate())
    }

    /// Exit code of this verdict: 0 valid, 1 invalid, 2 unknown.
    pub fn exit_code(&self) -> u8 {
        match self.verdict {
            Verdict::Valid => 0,
            Verdict::Invalid => 1,
            Verdict::Unknown => 2,
        }
    }

    /// The summary for a terminal of at least 80 columns.
    pub fn summary(&self) -> String {
        let mut out = String::new();
        let why = match self.reasons.split_first() {
            Some((first, _)) => first.clone(),
            None => {
                self.checks.iter().map(|c| c.reason.clone()).filter(|r| !r.is_empty()).collect::<Vec<_>>().join(", ")
            }
        };
        let _ = writeln!(out, "\n  {:<8} {why}", self.verdict.as_str());
        for reason in self.reasons.iter().skip(1) {
            let _ = writeln!(out, "           {reason}");
        }
        for check in &self.checks {
            self.explain(check, &mut out);
        }
        let _ = writeln!(out, "\n{}", indent(&operation_table(&self.operations)));
        let _ = writeln!(out, "  {:.0} ok operations/s", self.rate_per_s);
        for (f, kind, why, n) in self.errors.iter().take(4) {
            let _ = writeln!(out, "  {n} × {f} {kind}: {why}");
        }
        if !self.faults.is_empty() {
            let _ = writeln!(out, "\n{}", indent(&self.fault_table()));
        }
        if !self.coverage.is_empty() {
            let _ = writeln!(out, "  covered  {}", self.coverage_text());
        }
        for row in &self.faults {
            if row.skipped > 0 {
                let (fault, detail, n, why) = (&row.fault, &row.detail, row.skipped, &row.skipped_why);
                let _ = writeln!(out, "  {fault} {detail}: skipped {n} times, first because {why}");
            }
            for trouble in row.troubles.iter().take(3) {
                let _ = writeln!(out, "  {} {}: {trouble}", row.fault, row.detail);
            }
        }
        out
    }

    fn explain(&self, check: &CheckResult, out: &mut String) {
        let explained = check.keys.iter().filter_map(|key| key.explanation.as_ref());
        for explanation in explained.take(2) {
            let _ = writeln!(out, "\n           key {}", explanation.key);
            for line in explanation.to_string().lines() {
                let _ = writeln!(out, "  {line}");
            }
            let in_force = self.in_force(check, explanation);
            for what in in_force.iter().take(IN_FORCE_MAX) {
                let _ = writeln!(out, "           in force: {what}");
            }
            if in_force.len() > IN_FORCE_MAX {
                let _ =
                    writeln!(out, "           and {} more faults (see results.json)", in_force.len() - IN_FORCE_MAX);
            }
        }
        let more = check.keys.iter().filter(|key| key.explanation.is_some()).count();
        if more > 2 {
            let _ = writeln!(out, "           and {} more keys (see results.json)", more - 2);
        }
    }

    fn in_force(&self, check: &CheckResult, explanation: &Explanation) -> Vec<String> {
        let found = self.in_force.iter().find(|(checker, key, _)| *checker == check.checker && *key == explanation.key);
        found.map(|(_, _, what)| what.clone()).unwrap_or_default()
    }

    /// `kill {leader calm, follower overlap}, …`.
    fn coverage_text(&self) -> String {
        let mut faults: Vec<(&str, Vec<String>)> = Vec::new();
        for cell in &self.coverage {
            let what = format!("{} {}", cell.role, cell.phase);
            match faults.iter_mut().find(|(fault, _)| *fault == cell.fault) {
                Some((_, cells)) => cells.push(what),
                None => faults.push((&cell.fault, vec![what])),
            }
        }
        let text = |(fault, cells): &(&str, Vec<String>)| format!("{fault} {{{}}}", cells.join(", "));
        faults.iter().map(text).collect::<Vec<_>>().join("\n           ")
    }

    fn fault_table(&self) -> String {
        let mut table = Builder::default();
        table.push_record(["fault", "", "times", "bit", "effect seen"]);
        for row in &self.faults {
            table.push_record([
                row.fault.clone(),
                row.detail.clone(),
                row.injected.to_string(),
                format!("{}/{}", row.bit, row.injected),
                row.seen.clone(),
            ]);
        }
        plain(table, 4)
    }
}

fn operation_table(rows: &[OpRow]) -> String {
    let mut table = Builder::default();
    table.push_record(["operation", "ok", "fail", "unknown", "p50", "p99", "max"]);
    for row in rows {
        table.push_record([
            row.operation.clone(),
            row.ok.to_string(),
            row.fail.to_string(),
            row.unknown.to_string(),
            microseconds(row.p50_us),
            microseconds(row.p99_us),
            microseconds(row.max_us),
        ]);
    }
    plain(table, 1)
}

/// Without borders; columns from `numbers_from` on are aligned right, the last one of faults is text.
fn plain(builder: Builder, numbers_from: usize) -> String {
    let mut table = builder.build();
    table.with(Style::empty()).with(Padding::new(0, 2, 0, 0));
    if numbers_from == 1 {
        table.modify(Columns::new(1..), Alignment::right());
    } else {
        table.modify(Columns::new(2..4), Alignment::right());
    }
    table.to_string()
}

fn indent(text: &str) -> String {
    text.lines().map(|line| format!("  {}", line.trim_end())).collect::<Vec<_>>().join("\n")
}

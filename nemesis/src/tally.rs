//! What came of the faults, added up for the summary.

use crate::faults::Planned;
use crate::hands::Seen;
use squall_harness::nemesis::FaultRow;
use std::collections::BTreeMap;

/// Rows by fault and kind.
#[derive(Debug, Default)]
pub(crate) struct Tally {
    rows: BTreeMap<(&'static str, String), Row>,
}

#[derive(Debug, Default)]
struct Row {
    injected: u64,
    bit: u64,
    skipped: u64,
    skipped_why: String,
    troubles: Vec<String>,
    /// Numbers with their units.
    seen: BTreeMap<String, u64>,
}

impl Tally {
    fn row(&mut self, fault: &Planned) -> &mut Row {
        let fault = fault.fault();
        self.rows.entry((fault.kind().doc.name, fault.detail().to_owned())).or_default()
    }

    /// It was tried.
    pub(crate) fn injected(&mut self, fault: &Planned) {
        self.row(fault).injected += 1;
    }

    /// Its effect was verified.
    pub(crate) fn bit(&mut self, fault: &Planned) {
        self.row(fault).bit += 1;
    }

    /// There was nothing to try it on.
    pub(crate) fn skipped(&mut self, fault: &Planned, why: &str) {
        let row = self.row(fault);
        row.skipped += 1;
        if row.skipped_why.is_empty() {
            row.skipped_why = why.to_owned();
        }
    }

    /// Nobody knows.
    pub(crate) fn trouble(&mut self, fault: &Planned, why: String) {
        let row = self.row(fault);
        if !row.troubles.contains(&why) {
            row.troubles.push(why);
        }
    }

    /// Something was measured.
    pub(crate) fn seen(&mut self, fault: &Planned, seen: &Seen) {
        for (unit, count) in &seen.counts {
            *self.row(fault).seen.entry(unit.clone()).or_default() += count;
        }
    }

    /// A row for each kind of fault.
    pub(crate) fn rows(&self) -> Vec<FaultRow> {
        let row = |((fault, detail), row): (&(&'static str, String), &Row)| FaultRow {
            fault: (*fault).to_owned(),
            detail: detail.clone(),
            injected: row.injected,
            bit: row.bit,
            skipped: row.skipped,
            skipped_why: row.skipped_why.clone(),
            troubles: row.troubles.clone(),
            seen: row
                .seen
                .iter()
                .filter(|(_, n)| **n > 0)
                .map(|(unit, n)| format!("{n} {unit}"))
                .collect::<Vec<_>>()
                .join(", "),
        };
        self.rows.iter().map(row).collect()
    }
}

//! The clock of a whole machine, shifted and set right again: CLOCK_REALTIME jumps, or goes too fast or too slow.
//!
//! The truth is known by CLOCK_MONOTONIC_RAW, which nobody can set and no adjustment reaches: what CLOCK_REALTIME was at some
//! reading of it, and how fast it went, is kept on disk before the first shift. What the clock should show is the truth and the
//! sum of all shifts in force, so each of them ends by itself, in any order and by any process. Services that keep the clock
//! right are stopped meanwhile; their names are on disk before.
//!
//! Faster or slower is adjtimex(2)'s tick, which is CLOCK_MONOTONIC's and CLOCK_BOOTTIME's, too; by at most a tenth.

pub(crate) mod adjust;
mod services;

use super::state::{State, boot_id, read_json, write_json};
use crate::faults::machine_clock::MachineShift;
use crate::protocol::AgentError;
use adjust::{Rate, Reading};
use serde::{Deserialize, Serialize};
use std::path::PathBuf;

/// How far the clock may be from where it should be (nanoseconds): nobody else sets it, and we look twice.
const OFF_MAX_NS: i64 = 20_000_000;

/// What is kept while anything is shifted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Kept {
    boot_id: String,
    /// The clocks before the first shift.
    then: Reading,
    /// How fast it went.
    rate: Rate,
    /// Those that were stopped.
    services: Vec<String>,
    terms: Vec<Term>,
}

/// A shift in force.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Term {
    /// The fault's.
    id: String,
    shift: MachineShift,
    /// When it began.
    from_raw_ns: i64,
}

/// How far the clock is off (nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Off {
    /// When: CLOCK_MONOTONIC_RAW.
    pub(crate) raw_ns: i64,
    /// From the truth.
    pub(crate) off_ns: i64,
    /// From where all shifts together put it.
    pub(crate) missed_ns: i64,
}

impl Off {
    /// Whether it is where it should be.
    pub(crate) fn is_as_wanted(self) -> bool {
        self.missed_ns.abs() <= OFF_MAX_NS
    }
}

impl Kept {
    /// CLOCK_REALTIME if nobody had touched it.
    fn truth_ns(&self, raw_ns: i64) -> i64 {
        self.then.realtime_ns + ((raw_ns - self.then.raw_ns) as f64 * self.rate.ratio()) as i64
    }

    /// By how much it should be off.
    fn wanted_ns(&self, raw_ns: i64) -> i64 {
        let one = |term: &Term| match term.shift {
            MachineShift::Bump { offset_ms } => offset_ms * 1_000_000,
            MachineShift::Drift { ppm } => ((raw_ns - term.from_raw_ns) as f64 * ppm as f64 / 1e6) as i64,
        };
        self.terms.iter().map(one).sum()
    }

    fn rate(&self) -> Result<Rate, AgentError> {
        let ppm = self.terms.iter().map(|term| match term.shift {
            MachineShift::Bump { .. } => 0,
            MachineShift::Drift { ppm } => ppm,
        });
        let what = "the kernel makes a clock faster or slower by a tenth at most, by all faults together";
        self.rate.faster_by(ppm.sum()).ok_or_else(|| AgentError::new(what))
    }

    /// Puts the clock where it should be.
    fn apply(&self) -> Result<(), AgentError> {
        self.rate()?.set()?;
        let now = Reading::now();
        adjust::step(self.truth_ns(now.raw_ns) + self.wanted_ns(now.raw_ns) - now.realtime_ns)
    }

    fn off(&self) -> Off {
        let now = Reading::now();
        let off_ns = now.realtime_ns - self.truth_ns(now.raw_ns);
        Off { raw_ns: now.raw_ns, off_ns, missed_ns: off_ns - self.wanted_ns(now.raw_ns) }
    }
}

fn path(state: &State) -> PathBuf {
    state.path("machine-clock.json")
}

/// What was kept in this boot: after another one the kernel knows nothing of it.
fn kept(state: &State) -> Option<Kept> {
    read_json::<Kept>(&path(state)).filter(|kept| kept.boot_id == boot_id())
}

/// Shifts the clock. The caller has the fault in the ledger.
///
/// # Errors
/// When a service cannot be stopped, or the kernel refuses.
pub(crate) fn shift(state: &State, id: &str, shift: MachineShift) -> Result<(), AgentError> {
    let mut kept = match kept(state) {
        Some(kept) => kept,
        None => {
            let (then, rate) = (Reading::now(), Rate::now()?);
            let kept = Kept { boot_id: boot_id(), then, rate, services: services::running(), terms: Vec::new() };
            write_json(&path(state), &kept, true)?;
            services::all("stop", &kept.services)?;
            kept
        }
    };
    kept.terms.retain(|term| term.id != id);
    kept.terms.push(Term { id: id.to_owned(), shift, from_raw_ns: Reading::now().raw_ns });
    // Refused before anything is written that could not be done.
    kept.rate()?;
    write_json(&path(state), &kept, true)?;
    kept.apply()
}

/// How far the clock is off; `None` when the fault called `id` does not shift it.
pub(crate) fn off(state: &State, id: &str) -> Option<Off> {
    kept(state).filter(|kept| kept.terms.iter().any(|term| term.id == id)).map(|kept| kept.off())
}

/// Ends the shift of the fault called `id`: the clock goes where the others put it, or is right and kept right again. How far
/// it is off then; `None` when nothing of ours shifts it.
///
/// # Errors
/// When the kernel refuses, or a service does not start.
pub(crate) fn end(state: &State, id: &str) -> Result<Option<Off>, AgentError> {
    let Some(mut kept) = kept(state) else { return Ok(None) };
    kept.terms.retain(|term| term.id != id);
    write_json(&path(state), &kept, true)?;
    kept.apply()?;
    let off = kept.off();
    if !off.is_as_wanted() {
        return Err(AgentError::new(format!(
            "the clock is still {:.3} s from where it should be",
            off.missed_ns as f64 / 1e9
        )));
    }
    if kept.terms.is_empty() {
        services::all("start", &kept.services)?;
        let path = path(state);
        std::fs::remove_file(&path).map_err(|e| AgentError::io("remove", &path, e))?;
    }
    Ok(Some(off))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shifts_add_up_and_end_one_by_one() {
        let rate: Rate = serde_json::from_str(r#"{"tick":10000,"frequency":0}"#).unwrap();
        let then = Reading { raw_ns: 1_000, realtime_ns: 50_000_000_000 };
        let term = |id: &str, shift, from_raw_ns| Term { id: id.to_owned(), shift, from_raw_ns };
        let mut kept = Kept {
            boot_id: String::new(),
            then,
            rate,
            services: Vec::new(),
            terms: vec![
                term("1", MachineShift::Bump { offset_ms: -2_000 }, 1_000),
                term("2", MachineShift::Drift { ppm: 50_000 }, 1_000_001_000),
            ],
        };
        let at = 3_000_001_000;
        assert_eq!(kept.truth_ns(at), 53_000_000_000);
        // Two seconds back, and a tenth of a second gained in the last two.
        assert_eq!(kept.wanted_ns(at), -1_900_000_000);
        assert!((kept.rate().unwrap().ratio() - 1.05).abs() < 1e-9);
        kept.terms.remove(0);
        assert_eq!(kept.wanted_ns(at), 100_000_000);
        kept.terms.push(term("3", MachineShift::Drift { ppm: 60_000 }, 0));
        assert!(kept.rate().unwrap_err().message.contains("a tenth at most"));
    }
}

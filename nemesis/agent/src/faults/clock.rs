//! The clock that a process sees goes wrong: bumped, strobing, drifting, frozen. Nobody else's clock does.

use serde::{Deserialize, Serialize};

/// A process that is started with a clock of its own, which tells the truth until a [`Clock`] fault shifts it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OwnClock {
    /// The name that it will be started under.
    pub process: String,
}

/// The clock of a process that was started with an [`OwnClock`] is shifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Clock {
    /// The name it was started under.
    pub process: String,
    /// How.
    pub shift: ClockShift,
    /// CLOCK_MONOTONIC, too; otherwise that stays true.
    pub monotonic: bool,
}

/// How a clock goes wrong. CLOCK_REALTIME shows, at true time `t` and begun at true time `t0`:
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ClockShift {
    /// `t + offset`.
    Bump {
        /// Milliseconds; negative is the past.
        offset_ms: i64,
    },
    /// `t + offset` for a period, `t - offset` for the next, and so on.
    Strobe {
        /// Milliseconds.
        offset_ms: i64,
        /// Milliseconds.
        period_ms: u64,
    },
    /// `t + (t - t0) * ppm / 1 000 000`.
    Drift {
        /// Parts per million; negative is slow.
        ppm: i64,
    },
    /// `t0`.
    Freeze,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::{Clock, ClockShift, OwnClock};
    use crate::faults::Fault;
    use crate::linux::clock::{self, Off, log_path, page, page_path};
    use crate::linux::effect::Launch;
    use crate::linux::state::check_name;
    use crate::linux::{At, Effect, process};
    use crate::protocol::{AgentError, Evidence};

    impl Effect for OwnClock {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            check_name(&self.process)
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            clock::prepare(at.state, &self.process)?;
            self.measure(at)
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            clock::measure(at.state, &self.process, 1, 0)?;
            Ok(Evidence::new(true, "programs can be given a clock of their own", 0, ""))
        }

        fn undo(&self, _: &At<'_>) -> Result<Evidence, AgentError> {
            // The page tells the truth, and stays for those who still look at it.
            Ok(Evidence::new(true, "programs start with the true clock", 0, ""))
        }

        fn is_standing(&self) -> bool {
            true
        }

        fn launch(&self, at: &At<'_>, name: &str, launch: &mut Launch) -> Result<(), AgentError> {
            if name == self.process {
                launch.through.extend(clock::through(at.state, &page_path(at.state, name)));
            }
            Ok(())
        }
    }

    impl Effect for Clock {
        fn refuse(&self, at: &At<'_>) -> Result<(), AgentError> {
            let process = &self.process;
            check_name(process)?;
            if !page_path(at.state, process).exists() {
                let what = format!("`{process}` has no clock of its own: it must be started with one");
                return Err(AgentError::new(what));
            }
            Ok(())
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let term = page::Term::begin(at.id, &self.shift, self.monotonic);
            page::add(&page_path(at.state, &self.process), term)?;
            self.measure(at)
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let page = page_path(at.state, &self.process);
            if !page::has(&page, page::tag(at.id))? {
                return Ok(Evidence::new(false, "the clock is not shifted", 0, UNIT));
            }
            let pause_ms = match self.shift {
                ClockShift::Strobe { period_ms, .. } => period_ms,
                _ => READINGS_PAUSE_MS,
            };
            let measured = clock::measure(at.state, &self.process, READINGS, pause_ms)?;
            let left = clock::unpatched(&page, || process::tree(at.state, &self.process));
            if let Some(pid) = left.first() {
                let seen = format!("process {pid} keeps the true clock (see {})", log_path(&page).display());
                return Ok(Evidence::new(false, seen, 0, UNIT));
            }
            let count = process::tree(at.state, &self.process).len();
            Ok(Evidence::new(true, words(&self.shift, &measured), count as u64, UNIT))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let page = page_path(at.state, &self.process);
            if !page.exists() {
                return Ok(Evidence::new(true, "the clock was never shifted", 0, UNIT));
            }
            // What other faults shift stays shifted.
            let others = at.others();
            let others = others.iter().filter(|other| match &other.fault {
                Fault::Clock(clock) => clock.process == self.process,
                _ => false,
            });
            let tags: Vec<u64> = others.map(|other| page::tag(&other.id)).collect();
            page::keep(&page, &tags)?;
            clock::measure(at.state, &self.process, 1, 0)?;
            let seen = if tags.is_empty() { "the clock is true again" } else { "the others' shift is left" };
            Ok(Evidence::new(true, seen, 0, UNIT))
        }
    }

    const UNIT: &str = "processes with a wrong clock";

    /// Enough to see a slope, and both sides of a strobe.
    const READINGS: u32 = 3;

    /// Between two readings.
    const READINGS_PAUSE_MS: u64 = 40;

    /// What was measured, in the past tense.
    fn words(shift: &ClockShift, measured: &[Off]) -> String {
        let (Some(first), Some(last)) = (measured.first(), measured.last()) else { return String::new() };
        let seconds = |ns: i64| ns as f64 / 1e9;
        let passed = seconds(last.true_ns - first.true_ns);
        let gained = seconds(last.realtime - first.realtime);
        match shift {
            ClockShift::Bump { .. } => format!("{:+.3} s off", seconds(first.realtime)),
            ClockShift::Strobe { .. } => {
                let offs = measured.iter().map(|off| off.realtime);
                let (low, high) = (offs.clone().min().unwrap_or(0), offs.max().unwrap_or(0));
                format!("between {:+.3} s and {:+.3} s off", seconds(low), seconds(high))
            }
            ClockShift::Drift { .. } => format!("gained {:+.1} ms a second", 1000.0 * gained / passed),
            ClockShift::Freeze => format!("stood still: {:.3} s passed in {passed:.3} s", passed + gained),
        }
    }
}

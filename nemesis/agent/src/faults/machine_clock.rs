//! The clock of a whole machine goes wrong: it jumps, or is too fast or too slow, for every program there.
//!
//! Unlike the [clock of a process](super::clock), this is the kernel's own, and what keeps it right (NTP) is stopped meanwhile.

use serde::{Deserialize, Serialize};

/// The clock of this machine is shifted.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineClock {
    /// How.
    pub shift: MachineShift,
    /// The boots of the controller and of all other nodes: whoever shares one of them is no machine of its own.
    pub other_boots: Vec<String>,
}

/// How a machine's clock goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum MachineShift {
    /// It jumps.
    Bump {
        /// Milliseconds; negative is the past.
        offset_ms: i64,
    },
    /// It goes too fast or too slow, and CLOCK_MONOTONIC with it.
    Drift {
        /// Parts per million; negative is slow.
        ppm: i64,
    },
}

/// The kernel makes its clock faster or slower by so much at most (parts per million).
pub const PPM_MAX: i64 = 100_000;

#[cfg(target_os = "linux")]
mod effect {
    use super::{MachineClock, MachineShift};
    use crate::linux::machine_clock::{self, Off};
    use crate::linux::own_machine::refuse_others;
    use crate::linux::{At, Effect};
    use crate::protocol::{AgentError, Evidence};
    use std::time::Duration;

    const UNIT: &str = "machines with a wrong clock";

    /// Between two readings of a clock whose rate is looked at.
    const PAUSE: Duration = Duration::from_millis(300);

    /// How far a measured rate may be from what was asked for (parts per million).
    const PPM_TOLERANCE: f64 = 2_000.0;

    fn seconds(ns: i64) -> f64 {
        ns as f64 / 1e9
    }

    impl MachineClock {
        fn off(&self, at: &At<'_>) -> Result<Off, Evidence> {
            let no = |seen: String| Evidence::new(false, seen, 0, UNIT);
            let off = machine_clock::off(at.state, at.id)
                .ok_or_else(|| no("the machine's clock is not shifted".to_owned()))?;
            match off.is_as_wanted() {
                true => Ok(off),
                false => Err(no(format!(
                    "somebody set the machine's clock: it is {:+.3} s off, not {:+.3} s",
                    seconds(off.off_ns),
                    seconds(off.off_ns - off.missed_ns)
                ))),
            }
        }
    }

    impl Effect for MachineClock {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            refuse_others(&self.other_boots, "the clock of this machine is not set")
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            machine_clock::shift(at.state, at.id, self.shift)?;
            self.measure(at)
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let first = match self.off(at) {
                Ok(off) => off,
                Err(no) => return Ok(no),
            };
            let MachineShift::Drift { .. } = self.shift else {
                return Ok(Evidence::new(true, format!("{:+.3} s off", seconds(first.off_ns)), 1, UNIT));
            };
            std::thread::sleep(PAUSE);
            let last = match self.off(at) {
                Ok(off) => off,
                Err(no) => return Ok(no),
            };
            let per_second = |ns: i64| 1e6 * ns as f64 / (last.raw_ns - first.raw_ns) as f64;
            let gained = per_second(last.off_ns - first.off_ns);
            let is_as_wanted = per_second(last.missed_ns - first.missed_ns).abs() <= PPM_TOLERANCE;
            Ok(Evidence::new(is_as_wanted, format!("gained {:+.1} ms a second", gained / 1e3), 1, UNIT))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let seen = match machine_clock::end(at.state, at.id)? {
                None => "the machine's clock was never shifted".to_owned(),
                Some(off) => format!("the machine's clock is {:+.3} s off", seconds(off.off_ns)),
            };
            Ok(Evidence::new(true, seen, 0, UNIT))
        }
    }
}

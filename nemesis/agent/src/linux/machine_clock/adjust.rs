//! The kernel's clock, stepped and made faster or slower (adjtimex(2)).

use crate::linux::state::clock_ns;
use crate::protocol::AgentError;
use nix::libc;
use nix::time::ClockId;
use serde::{Deserialize, Serialize};

/// A tick of a clock that is left alone (microseconds; 100 of them are a second).
const TICK: i64 = 10_000;

/// What the kernel takes: 900,000 to 1,100,000 microseconds for 100 ticks.
const TICKS: std::ops::RangeInclusive<i64> = 9_000..=11_000;

/// One part per million as the kernel counts a frequency.
const PPM: i64 = 1 << 16;

/// Of several readings the tightest is taken: anybody may come between two looks at clocks.
const LOOKS: u32 = 7;

/// Both clocks at the same moment (nanoseconds).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Reading {
    /// CLOCK_MONOTONIC_RAW: nobody can set it, and no adjustment makes it faster.
    pub(crate) raw_ns: i64,
    /// CLOCK_REALTIME.
    pub(crate) realtime_ns: i64,
}

impl Reading {
    /// Reads both.
    pub(crate) fn now() -> Self {
        let look = |_| {
            let before = clock_ns(ClockId::CLOCK_MONOTONIC_RAW);
            let realtime_ns = clock_ns(ClockId::CLOCK_REALTIME);
            let apart = clock_ns(ClockId::CLOCK_MONOTONIC_RAW) - before;
            (apart, Self { raw_ns: before + apart / 2, realtime_ns })
        };
        let first = look(0);
        (1..LOOKS).map(look).fold(first, |best, one| if one.0 < best.0 { one } else { best }).1
    }
}

/// How fast the clock goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Rate {
    /// Microseconds.
    tick: i64,
    /// In [`PPM`].
    frequency: i64,
}

impl Rate {
    /// Asks the kernel.
    ///
    /// # Errors
    /// When it does not say.
    pub(crate) fn now() -> Result<Self, AgentError> {
        let mut timex = zero();
        adjtimex(&mut timex, "read the rate of the clock")?;
        Ok(Self { tick: timex.tick, frequency: timex.freq })
    }

    /// Tells the kernel.
    ///
    /// # Errors
    /// When it refuses.
    pub(crate) fn set(self) -> Result<(), AgentError> {
        let mut timex = zero();
        timex.modes = libc::ADJ_TICK | libc::ADJ_FREQUENCY;
        (timex.tick, timex.freq) = (self.tick, self.frequency);
        adjtimex(&mut timex, "set the rate of the clock")
    }

    /// Faster by so much; `None` when the kernel does not go so far.
    pub(crate) fn faster_by(self, ppm: i64) -> Option<Self> {
        // A tick more or less is 100 ppm; the rest, up to half of that, is the frequency's.
        let ticks = (ppm as f64 / 100.0).round() as i64;
        let rate = Self { tick: self.tick + ticks, frequency: self.frequency + (ppm - 100 * ticks) * PPM };
        TICKS.contains(&rate.tick).then_some(rate)
    }

    /// Seconds of CLOCK_REALTIME in one of CLOCK_MONOTONIC_RAW.
    pub(crate) fn ratio(self) -> f64 {
        self.tick as f64 / TICK as f64 + self.frequency as f64 / PPM as f64 / 1e6
    }
}

/// Has CLOCK_REALTIME jump, at once and by exactly so much.
///
/// # Errors
/// When the kernel refuses.
pub(crate) fn step(by_ns: i64) -> Result<(), AgentError> {
    let mut timex = zero();
    timex.modes = libc::ADJ_SETOFFSET | libc::ADJ_NANO;
    timex.time.tv_sec = by_ns.div_euclid(1_000_000_000);
    timex.time.tv_usec = by_ns.rem_euclid(1_000_000_000);
    adjtimex(&mut timex, "set the clock")
}

#[expect(unsafe_code, reason = "no safe call of it is at hand")]
fn zero() -> libc::timex {
    // SAFETY: all zeroes is a valid timex: integers only.
    unsafe { std::mem::zeroed() }
}

#[expect(unsafe_code, reason = "no safe call of it is at hand")]
fn adjtimex(timex: &mut libc::timex, what: &str) -> Result<(), AgentError> {
    // SAFETY: the pointer is valid and nobody else's throughout the call.
    match unsafe { libc::adjtimex(&raw mut *timex) } {
        -1 => Err(AgentError::new(format!("cannot {what}: {}", std::io::Error::last_os_error()))),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rates_are_split_into_ticks_and_frequency() {
        let alone = Rate { tick: TICK, frequency: 0 };
        for ppm in [0, 1, -1, 49, 50, 51, -149, 30_000, -100_000, 100_000] {
            let rate = alone.faster_by(ppm).unwrap();
            assert!((rate.ratio() - 1.0 - ppm as f64 / 1e6).abs() < 1e-12, "{ppm}: {rate:?}");
            assert!(rate.frequency.abs() <= 50 * PPM, "{ppm}: {rate:?}");
        }
        assert_eq!((alone.faster_by(100_100), alone.faster_by(-100_100)), (None, None));
    }

    #[test]
    fn the_kernel_says_how_fast_its_clock_goes() {
        let ratio = Rate::now().unwrap().ratio();
        assert!((0.9..1.1).contains(&ratio), "{ratio}");
        let (first, second) = (Reading::now(), Reading::now());
        assert!(second.raw_ns >= first.raw_ns);
    }
}

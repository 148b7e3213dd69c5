//! When the steps of one entry begin, and how long they last.

use crate::faults::Lasts;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use squall_harness::config::{ConfigError, Section, unknown};
use std::time::Duration;

/// Most steps of one entry.
const STEPS_MAX: usize = 100_000;

/// The keys of a test file that every fault has.
pub(crate) struct Schedule {
    every: Duration,
    after: Duration,
    lasts: Duration,
    exponential: bool,
    flap: Option<Duration>,
}

impl Schedule {
    /// Reads `every`, `after`, `schedule`, `flap`, and how long a step lasts.
    pub(crate) fn read(section: &mut Section, lasts: &Lasts) -> Result<Self, ConfigError> {
        let every = section.get("every", Duration::from_secs(7), "from one beginning to the next")?;
        let after = section.get("after", Duration::from_secs(2), "calm before the first")?;
        let kind =
            section.get("schedule", "fixed".to_owned(), "fixed, or exponential: random pauses with mean `every`")?;
        let key = lasts.key;
        let lasts = section.get(key, Duration::from_millis(lasts.default_ms), lasts.doc)?;
        let flap = section.optional::<Duration>("flap", "inject and heal again in turns of this length")?;
        let exponential = match kind.as_str() {
            "fixed" => false,
            "exponential" => true,
            other => return Err(section.error(unknown("schedule", other, ["fixed", "exponential"]))),
        };
        if every < Duration::from_millis(100) || lasts < Duration::from_millis(10) {
            return Err(section.error(format!("`every` must be at least 100ms and `{key}` at least 10ms")));
        }
        if lasts >= every {
            let what = format!("`{key}` must be shorter than `every`: the same fault cannot overlap itself");
            return Err(section.error(what));
        }
        if flap.is_some_and(|flap| flap < Duration::from_millis(50)) {
            return Err(section.error("`flap` must be at least 50ms"));
        }
        Ok(Self { every, after, lasts, exponential, flap })
    }

    /// Beginnings; every step may last its time and end a moment before the next one begins.
    pub(crate) fn beginnings(&self, duration: Duration, rng: &mut ChaCha8Rng) -> Vec<Duration> {
        let mut times = Vec::new();
        let mut at = self.after;
        while at < duration && times.len() < STEPS_MAX {
            times.push(at);
            at += if self.exponential {
                let calm = self.every - self.lasts;
                // 1 - u is never 0, so the logarithm is finite.
                self.lasts + calm.mul_f64((-(1.0 - rng.random::<f64>()).ln()).min(10.0))
            } else {
                self.every
            };
        }
        times
    }

    /// What is in force of a step that begins at `at`: once, or again and again when it flaps: (beginning, length).
    pub(crate) fn spans(&self, at: Duration) -> Vec<(Duration, Duration)> {
        let on = self.flap.unwrap_or(self.lasts);
        let end = at + self.lasts;
        let mut spans = Vec::new();
        let mut begin = at;
        while begin < end {
            spans.push((begin, on.min(end - begin)));
            begin += on * 2;
        }
        spans
    }
}

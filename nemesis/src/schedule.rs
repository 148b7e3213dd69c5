//! When the steps of one entry begin, and how long they last.

use crate::event::{Event, Trigger};
use crate::faults::Lasts;
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use squall_harness::config::{ConfigError, Section, unknown};
use squall_harness::nemesis::PlanContext;
use std::time::Duration;

/// Most steps of one entry.
const STEPS_MAX: usize = 100_000;

/// How often an entry waits for its event when its test file does not say.
const EVENTS_DEFAULT: usize = 5;

/// The shortest that a step may last.
const LASTS_MIN: Duration = Duration::from_millis(10);

/// Distributions of the pause between two steps, all with the same mean.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Pauses {
    Fixed,
    Interval,
    Exponential,
}

const PAUSES: [(&str, Pauses); 3] =
    [("fixed", Pauses::Fixed), ("interval", Pauses::Interval), ("exponential", Pauses::Exponential)];

/// When an entry's steps begin.
pub(crate) struct Schedule {
    every: Duration,
    after: Duration,
    pauses: Pauses,
    event: Option<Event>,
    times: Option<usize>,
}

/// One beginning: at this time since the start of the main phase, or this long after an event.
pub(crate) struct Occasion {
    /// When.
    pub(crate) at: Duration,
    /// After what.
    pub(crate) on: Option<Trigger>,
}

impl Schedule {
    /// Reads `every`, `after`, `schedule`, `on` and `times`.
    pub(crate) fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Self, ConfigError> {
        let every = section.get("every", Duration::from_secs(7), "from one beginning to the next")?;
        let after = section.get("after", Duration::from_secs(2), "calm before the first")?;
        let doc = "pauses between steps: fixed, interval (uniformly random) or exponential, all with mean `every`";
        let kind = section.get("schedule", "fixed".to_owned(), doc)?;
        let event = Event::read(section, context)?;
        let times = section.optional::<usize>("times", "at most so many steps (default with `on`: 5)")?;
        let Some((_, pauses)) = PAUSES.iter().find(|(name, _)| *name == kind) else {
            return Err(section.error(unknown("schedule", &kind, PAUSES.iter().map(|(name, _)| *name))));
        };
        if every < Duration::from_millis(100) {
            return Err(section.error("`every` must be at least 100ms"));
        }
        if times == Some(0) {
            return Err(section.error("`times` must be at least 1"));
        }
        if event.is_some() && kind != "fixed" {
            return Err(section.error("`on` and `schedule` exclude each other: an event says when"));
        }
        Ok(Self { every, after, pauses: *pauses, event, times })
    }

    /// Whether steps that last so long can follow each other: `key` is what says how long.
    pub(crate) fn check(&self, section: &Section, key: &str, lasts: Duration) -> Result<(), ConfigError> {
        if lasts >= self.every {
            let what = format!("`{key}` must be shorter than `every`: the same fault cannot overlap itself");
            return Err(section.error(what));
        }
        Ok(())
    }

    /// Beginnings of the steps of entry number `entry`; every step may last its time (`lasts`) and end a moment before the
    /// next one begins.
    pub(crate) fn occasions(
        &self,
        entry: usize,
        lasts: Duration,
        duration: Duration,
        rng: &mut ChaCha8Rng,
    ) -> Vec<Occasion> {
        if let Some(event) = &self.event {
            let occasion = |turn| {
                let (armed_ms, every_ms) = (self.after.as_millis() as u64, self.every.as_millis() as u64);
                let trigger = Trigger { event: event.clone(), entry, turn, armed_ms, every_ms };
                Occasion { at: Duration::ZERO, on: Some(trigger) }
            };
            return (0..self.times.unwrap_or(EVENTS_DEFAULT)).map(occasion).collect();
        }
        let calm = self.every - lasts;
        let mut occasions = Vec::new();
        let mut at = self.after;
        while at < duration && occasions.len() < self.times.unwrap_or(STEPS_MAX).min(STEPS_MAX) {
            occasions.push(Occasion { at, on: None });
            at += match self.pauses {
                Pauses::Fixed => self.every,
                Pauses::Interval => lasts + calm.mul_f64(2.0 * rng.random::<f64>()),
                // 1 - u is never 0, so the logarithm is finite.
                Pauses::Exponential => lasts + calm.mul_f64((-(1.0 - rng.random::<f64>()).ln()).min(10.0)),
            };
        }
        occasions
    }
}

/// How long a step lasts.
pub(crate) struct Span {
    /// From its beginning to its end.
    pub(crate) lasts: Duration,
    flap: Option<Duration>,
}

impl Span {
    /// Reads the key that says how long, and `flap`.
    pub(crate) fn read(section: &mut Section, lasts: &Lasts) -> Result<Self, ConfigError> {
        let key = lasts.key;
        let lasts = section.get(key, Duration::from_millis(lasts.default_ms), lasts.doc)?;
        let flap = section.optional::<Duration>("flap", "inject and heal again in turns of this length")?;
        if lasts < LASTS_MIN {
            return Err(section.error(format!("`{key}` must be at least 10ms")));
        }
        if flap.is_some_and(|flap| flap < Duration::from_millis(50)) {
            return Err(section.error("`flap` must be at least 50ms"));
        }
        Ok(Self { lasts, flap })
    }

    /// What is in force of a step that begins at `at`: once, or again and again when it flaps: (beginning, length).
    pub(crate) fn parts(&self, at: Duration) -> Vec<(Duration, Duration)> {
        let on = self.flap.unwrap_or(self.lasts);
        let end = at + self.lasts;
        let mut parts = Vec::new();
        let mut begin = at;
        while begin < end {
            parts.push((begin, on.min(end - begin)));
            begin += on * 2;
        }
        parts
    }
}

//! Lets packets arrive late.

use super::{ChaCha8Rng, Decide, Nanos, Verdict};
use rand::RngExt;

pub(super) struct Delay {
    delay_ns: u64,
    jitter_ns: u64,
    keep_order: bool,
    /// When the latest packet so far goes on.
    latest: Nanos,
}

impl Delay {
    pub(super) fn new(delay_us: u64, jitter_us: u64, keep_order: bool) -> Self {
        Self { delay_ns: delay_us * 1000, jitter_ns: jitter_us * 1000, keep_order, latest: 0 }
    }
}

impl Decide for Delay {
    fn decide(&mut self, _: &mut [u8], now: Nanos, rng: &mut ChaCha8Rng) -> Verdict {
        let late = match self.jitter_ns {
            0 => self.delay_ns,
            jitter => (self.delay_ns + rng.random_range(0..=2 * jitter)).saturating_sub(jitter),
        };
        let at = if self.keep_order { (now + late).max(self.latest) } else { now + late };
        self.latest = self.latest.max(at);
        Verdict::At(at)
    }
}

#[cfg(test)]
mod tests {
    use super::super::rng;
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn within_the_jitter_and_in_order_if_asked(
            delay_us in 0u64..1000,
            jitter_us in 0u64..1000,
            keep_order: bool,
            gaps in prop::collection::vec(0u64..1_000_000, 1..50),
            seed: u64,
        ) {
            let (mut delay, mut rng) = (Delay::new(delay_us, jitter_us, keep_order), rng(seed));
            let (mut now, mut last) = (0, 0);
            for gap in gaps {
                now += gap;
                let Verdict::At(at) = delay.decide(&mut [], now, &mut rng) else { panic!() };
                let least = now + delay_us.saturating_sub(jitter_us) * 1000;
                let most = now + (delay_us + jitter_us) * 1000;
                prop_assert!(least <= at && (at <= most || keep_order && at == last));
                prop_assert!(!keep_order || at >= last);
                last = at;
            }
        }
    }
}

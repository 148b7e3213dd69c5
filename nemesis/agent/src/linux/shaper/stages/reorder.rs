//! Holds some packets back, so that later ones overtake them.

use super::{ChaCha8Rng, Decide, Nanos, Verdict, happens};

pub(super) struct Reorder {
    pub(super) probability: f64,
    pub(super) by_us: u64,
}

impl Decide for Reorder {
    fn decide(&mut self, _: &mut [u8], now: Nanos, rng: &mut ChaCha8Rng) -> Verdict {
        if happens(self.probability, rng) { Verdict::At(now + self.by_us * 1000) } else { Verdict::Pass }
    }
}

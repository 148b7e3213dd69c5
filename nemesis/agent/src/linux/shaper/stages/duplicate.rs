//! Lets some packets pass twice.

use super::{ChaCha8Rng, Decide, Nanos, Verdict, happens};

pub(super) struct Duplicate {
    pub(super) probability: f64,
}

impl Decide for Duplicate {
    fn decide(&mut self, _: &mut [u8], _: Nanos, rng: &mut ChaCha8Rng) -> Verdict {
        if happens(self.probability, rng) { Verdict::Twice } else { Verdict::Pass }
    }
}

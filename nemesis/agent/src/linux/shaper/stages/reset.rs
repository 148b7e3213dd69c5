//! Ends established TCP connections by a reset to both ends.

use super::{ChaCha8Rng, Decide, Nanos, Verdict, happens};
use crate::linux::shaper::packet;

pub(super) struct Reset {
    pub(super) probability: f64,
}

impl Decide for Reset {
    fn decide(&mut self, packet: &mut [u8], _: Nanos, rng: &mut ChaCha8Rng) -> Verdict {
        if !happens(self.probability, rng) {
            return Verdict::Pass;
        }
        packet::resets(packet).map_or(Verdict::Pass, Verdict::Instead)
    }
}

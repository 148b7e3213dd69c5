//! Flips bits, so that the receiver's kernel drops the packet, or so that the application sees it.

use super::{ChaCha8Rng, Decide, Nanos, Verdict, happens};
use crate::linux::shaper::packet::{is_checksum_good, layout, set_checksum};
use rand::RngExt;

pub(super) struct Corrupt {
    pub(super) probability: f64,
    pub(super) bits: u32,
    /// Make the checksum fit.
    pub(super) deliver: bool,
}

impl Decide for Corrupt {
    fn decide(&mut self, packet: &mut [u8], _: Nanos, rng: &mut ChaCha8Rng) -> Verdict {
        if !happens(self.probability, rng) {
            return Verdict::Pass;
        }
        let Some(layout) = layout(packet) else { return Verdict::Pass };
        let payload = layout.payload(packet);
        // Headers stay whole where there is payload: a packet with another port or sequence number is another fault. What
        // is delivered must have some, and be all there, or its checksum could not be made to fit.
        let start = match payload.filter(|start| *start < layout.end) {
            Some(start) if !(self.deliver && layout.is_fragment) => start,
            _ if self.deliver => return Verdict::Pass,
            _ => layout.transport,
        };
        let places: Vec<usize> =
            (start..layout.end).filter(|at| layout.checksum().is_none_or(|c| *at != c && *at != c + 1)).collect();
        if places.is_empty() {
            return Verdict::Pass;
        }
        let flip = |packet: &mut [u8], rng: &mut ChaCha8Rng| {
            packet[places[rng.random_range(0..places.len())]] ^= 1 << rng.random_range(0..8);
        };
        let whole: Vec<u8> = packet.to_vec();
        for _ in 0..self.bits {
            flip(packet, rng);
        }
        // Flips may cancel out in the sum, or one another; a single one more cannot.
        if !self.deliver && is_checksum_good(packet, &layout) {
            flip(packet, rng);
        }
        if *packet == whole[..] {
            flip(packet, rng);
        }
        if self.deliver {
            set_checksum(packet, &layout);
        }
        Verdict::Changed
    }
}

#[cfg(test)]
mod tests {
    use super::super::rng;
    use super::*;
    use crate::linux::shaper::packet::tests::{tcp, udp};
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn dropped_by_the_kernel_or_seen_by_the_application(
            n in 0usize..2,
            payload in prop::collection::vec(any::<u8>(), 0..100),
            bits in 1u32..40,
            seed: u64,
        ) {
            for packet in [udp(n, &payload), tcp(n, 0x10, &payload)] {
                let layout = layout(&packet).unwrap();
                let start = layout.payload(&packet).unwrap();
                for deliver in [false, true] {
                    let mut hurt = packet.clone();
                    let verdict = Corrupt { probability: 1.0, bits, deliver }.decide(&mut hurt, 0, &mut rng(seed));
                    if deliver && payload.is_empty() {
                        prop_assert_eq!(verdict, Verdict::Pass);
                        prop_assert_eq!(&hurt, &packet);
                        continue;
                    }
                    prop_assert_eq!(verdict, Verdict::Changed);
                    prop_assert_eq!(is_checksum_good(&hurt, &layout), deliver);
                    prop_assert_eq!(&hurt[..layout.transport], &packet[..layout.transport]);
                    if deliver {
                        prop_assert!(hurt[start..] != packet[start..]);
                    }
                }
            }
        }
    }
}

//! Makes a link narrow: a token bucket, and a queue before it that loses what does not fit.

use super::{ChaCha8Rng, Decide, Nanos, Verdict};

/// The bucket as one time instead of a level (the virtual scheduling of ITU-T I.371): when all that has been taken would
/// be through at the given rate. Being ahead of that by no more than the burst is free.
pub(super) struct Rate {
    bits_per_s: u64,
    burst_ns: u64,
    queue_ns: u64,
    through_at: Nanos,
}

impl Rate {
    pub(super) fn new(bits_per_s: u64, burst_bytes: u64, queue_bytes: u64) -> Self {
        let ns = |bytes| time(bytes, bits_per_s);
        Self { bits_per_s, burst_ns: ns(burst_bytes), queue_ns: ns(queue_bytes), through_at: 0 }
    }
}

/// How long so many bytes take (nanoseconds).
fn time(bytes: u64, bits_per_s: u64) -> u64 {
    u64::try_from(u128::from(bytes) * 8_000_000_000 / u128::from(bits_per_s.max(1))).unwrap_or(u64::MAX / 4)
}

impl Decide for Rate {
    fn decide(&mut self, packet: &mut [u8], now: Nanos, _: &mut ChaCha8Rng) -> Verdict {
        let through_at = self.through_at.max(now).saturating_add(time(packet.len() as u64, self.bits_per_s));
        let at = through_at.saturating_sub(self.burst_ns).max(now);
        if at - now > self.queue_ns {
            return Verdict::Overflowed;
        }
        self.through_at = through_at;
        if at == now { Verdict::Pass } else { Verdict::At(at) }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rng;
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn a_burst_is_free_and_the_rest_waits_its_turn() {
        // 8 Mbit/s is 1000 ns a byte; a burst of 2000 bytes, room for 3000.
        let mut rate = Rate::new(8_000_000, 2000, 3000);
        let mut decide = |len: usize, now| rate.decide(&mut vec![0; len], now, &mut rng(0));
        assert_eq!(decide(1000, 0), Verdict::Pass);
        assert_eq!(decide(1000, 0), Verdict::Pass);
        assert_eq!(decide(1000, 0), Verdict::At(1_000_000));
        assert_eq!(decide(1000, 0), Verdict::At(2_000_000));
        assert_eq!(decide(1000, 0), Verdict::At(3_000_000));
        assert_eq!(decide(1, 0), Verdict::Overflowed);
        assert_eq!(decide(1000, 1_000_000), Verdict::At(4_000_000));
        // After a pause the bucket is full again.
        assert_eq!(decide(2000, 9_000_000_000), Verdict::Pass);
    }

    proptest! {
        #[test]
        fn never_more_than_burst_and_rate_allow(
            packets in prop::collection::vec((1usize..3000, 0u64..2_000_000), 1..60),
            burst in 0u64..10_000,
            queue in 1500u64..20_000,
        ) {
            let bits_per_s = 8_000_000;
            let mut rate = Rate::new(bits_per_s, burst, queue);
            let (mut now, mut sent) = (0, Vec::new());
            for (len, gap) in packets {
                now += gap;
                match rate.decide(&mut vec![0; len], now, &mut rng(0)) {
                    Verdict::Pass => sent.push((now, len as u64)),
                    Verdict::At(at) => sent.push((at, len as u64)),
                    other => prop_assert_eq!(other, Verdict::Overflowed),
                }
            }
            prop_assert!(sent.is_sorted_by_key(|(at, _)| *at));
            for (i, (begin, _)) in sent.iter().enumerate() {
                let mut bytes = 0;
                for (at, len) in &sent[i..] {
                    bytes += len;
                    // The first packet's own length was paid before it left.
                    let allowed = burst + sent[i].1 + (at - begin) / 1000 + 1;
                    prop_assert!(bytes <= allowed, "{} bytes in {} ns", bytes, at - begin);
                }
            }
        }
    }
}

//! Loses packets, each for itself or in bursts.
//!
//! Bursts are Gilbert's model (Capacity of a burst-noise channel, 1960): a good state that loses nothing and a bad one that
//! loses everything, with geometric stays. A stay of mean length L in the bad one is left with 1/L; for a share P of all
//! packets it must be entered with P / (L (1 - P)).

use super::{ChaCha8Rng, Decide, Nanos, Verdict, happens};

pub(super) struct Loss {
    /// From good to bad.
    enter: f64,
    /// From bad to good.
    leave: f64,
    is_bad: bool,
}

impl Loss {
    pub(super) fn new(probability: f64, burst: f64) -> Self {
        // Without memory the state is drawn anew for each packet, whatever it was: P to bad and 1 - P to good.
        let (enter, leave) = if burst <= 1.0 || probability >= 1.0 {
            (probability, 1.0 - probability)
        } else {
            (probability / (burst * (1.0 - probability)), 1.0 / burst)
        };
        Self { enter, leave, is_bad: false }
    }
}

impl Decide for Loss {
    fn decide(&mut self, _: &mut [u8], _: Nanos, rng: &mut ChaCha8Rng) -> Verdict {
        let turn = happens(if self.is_bad { self.leave } else { self.enter }, rng);
        self.is_bad ^= turn;
        if self.is_bad { Verdict::Lost } else { Verdict::Pass }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rng;
    use super::*;

    /// Share of lost packets, and mean length of a burst.
    fn measured(probability: f64, burst: f64) -> (f64, f64) {
        let (mut loss, mut rng) = (Loss::new(probability, burst), rng(7));
        let lost: Vec<bool> = (0..200_000).map(|_| loss.decide(&mut [], 0, &mut rng) == Verdict::Lost).collect();
        let count = lost.iter().filter(|lost| **lost).count() as f64;
        let bursts = lost.windows(2).filter(|pair| pair == &[true, false]).count() as f64;
        (count / lost.len() as f64, count / bursts)
    }

    #[test]
    fn share_and_bursts_are_as_asked() {
        for (probability, burst) in [(0.01, 1.0), (0.3, 1.0), (0.9, 1.0), (0.1, 4.0), (0.5, 20.0)] {
            let (share, length) = measured(probability, burst);
            assert!((share / probability - 1.0).abs() < 0.1, "{probability}, {burst}: {share}");
            // Without memory a burst is as long as chance makes it.
            let expected = if burst == 1.0 { 1.0 / (1.0 - probability) } else { burst };
            assert!((length / expected - 1.0).abs() < 0.1, "{probability}, {burst}: {length}");
        }
        assert_eq!(measured(1.0, 1.0).0, 1.0);
        assert_eq!(measured(1.0, 5.0).0, 1.0);
    }
}

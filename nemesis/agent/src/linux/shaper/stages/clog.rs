//! Holds everything for a while, or until the end.

use super::{ChaCha8Rng, Decide, Nanos, Verdict};

pub(super) struct Clog {
    from: Nanos,
    until: Option<Nanos>,
}

impl Clog {
    pub(super) fn new(begin: Nanos, after_us: u64, until_us: Option<u64>) -> Self {
        let at = |us: u64| begin.saturating_add(us.saturating_mul(1000));
        Self { from: at(after_us), until: until_us.map(at) }
    }
}

impl Decide for Clog {
    fn decide(&mut self, _: &mut [u8], now: Nanos, _: &mut ChaCha8Rng) -> Verdict {
        match self.until {
            _ if now < self.from => Verdict::Pass,
            None => Verdict::Held,
            Some(until) if now < until => Verdict::At(until),
            Some(_) => Verdict::Pass,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::rng;
    use super::*;

    #[test]
    fn held_between_its_times() {
        let mut clog = Clog::new(1_000_000, 1000, Some(2000));
        let mut decide = |now| clog.decide(&mut [], now, &mut rng(0));
        assert_eq!(decide(1_999_999), Verdict::Pass);
        assert_eq!(decide(2_000_000), Verdict::At(3_000_000));
        assert_eq!(decide(2_999_999), Verdict::At(3_000_000));
        assert_eq!(decide(3_000_000), Verdict::Pass);
        assert_eq!(Clog::new(0, 0, None).decide(&mut [], 0, &mut rng(0)), Verdict::Held);
    }
}

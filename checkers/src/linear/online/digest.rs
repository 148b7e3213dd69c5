//! Fingerprints of large contents that are kept up to date instead of computed: equal contents have equal ones, and
//! different ones differ but for a chance below 2^-100 a pair (random keys and bases, two lanes of 61 bits each; Carter
//! and Wegman, "Universal classes of hash functions", JCSS 18, 1979).

use crate::Value;
use std::hash::{BuildHasher, Hash, RandomState};
use std::sync::LazyLock;

/// 2^61 - 1, a prime.
const PRIME: u64 = (1 << 61) - 1;

struct Lane {
    keys: RandomState,
    base: u64,
    /// `base * inverse` is 1.
    inverse: u64,
}

static LANES: LazyLock<[Lane; 2]> = LazyLock::new(|| {
    [(); 2].map(|()| {
        let keys = RandomState::new();
        let base = keys.hash_one(0u8) % (PRIME - 2) + 2;
        // Fermat: base^(p-2) is its inverse.
        Lane { keys, base, inverse: power(base, PRIME - 2) }
    })
});

fn times(a: u64, b: u64) -> u64 {
    (u128::from(a) * u128::from(b) % u128::from(PRIME)) as u64
}

fn power(mut base: u64, mut exponent: u64) -> u64 {
    let mut result = 1;
    while exponent > 0 {
        if exponent & 1 == 1 {
            result = times(result, base);
        }
        base = times(base, base);
        exponent >>= 1;
    }
    result
}

/// The sum of `value * base^place` over all places, from 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(super) struct Digest {
    sums: [u64; 2],
    /// `base^length`.
    powers: [u64; 2],
}

impl Digest {
    pub(super) const EMPTY: Self = Self { sums: [0; 2], powers: [1; 2] };

    fn changed(self, change: impl Fn(&Lane, u64, u64) -> (u64, u64)) -> Self {
        let mut next = self;
        for (at, lane) in LANES.iter().enumerate() {
            (next.sums[at], next.powers[at]) = change(lane, self.sums[at], self.powers[at]);
        }
        next
    }

    /// One more at the end.
    pub(super) fn push_back(self, value: &Value) -> Self {
        self.changed(|lane, sum, power| ((sum + times(lane.of(value), power)) % PRIME, times(power, lane.base)))
    }

    /// The last one gone, which was `value`.
    pub(super) fn pop_back(self, value: &Value) -> Self {
        self.changed(|lane, sum, power| {
            let power = times(power, lane.inverse);
            ((sum + PRIME - times(lane.of(value), power)) % PRIME, power)
        })
    }

    /// The first one gone, which was `value`: all others move up.
    pub(super) fn pop_front(self, value: &Value) -> Self {
        self.changed(|lane, sum, power| {
            let rest = (sum + PRIME - lane.of(value)) % PRIME;
            (times(rest, lane.inverse), times(power, lane.inverse))
        })
    }

    /// One more, where places do not matter.
    pub(super) fn insert(self, value: &impl Hash) -> Self {
        self.changed(|lane, sum, power| ((sum + lane.of(value)) % PRIME, power))
    }

    /// One less, where places do not matter.
    pub(super) fn remove(self, value: &impl Hash) -> Self {
        self.changed(|lane, sum, power| ((sum + PRIME - lane.of(value)) % PRIME, power))
    }
}

impl Lane {
    fn of(&self, value: &impl Hash) -> u64 {
        self.keys.hash_one(value) % PRIME
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contents_alone_make_the_fingerprint() {
        let value = |n: i64| Value::Int(n);
        let of = |items: &[i64]| items.iter().fold(Digest::EMPTY, |digest, &n| digest.push_back(&value(n)));
        assert_eq!(of(&[1, 2, 3]).pop_front(&value(1)), of(&[2, 3]));
        assert_eq!(of(&[1, 2, 3]).pop_back(&value(3)), of(&[1, 2]));
        assert_eq!(of(&[7]).pop_front(&value(7)), Digest::EMPTY);
        assert_ne!(of(&[1, 2]), of(&[2, 1]));
        assert_ne!(of(&[0]), of(&[0, 0]));
        let set = |items: &[i64]| items.iter().fold(Digest::EMPTY, |digest, &n| digest.insert(&value(n)));
        assert_eq!(set(&[1, 2, 3]), set(&[3, 1, 2]));
        assert_eq!(set(&[1, 2, 3]).remove(&value(2)), set(&[3, 1]));
    }
}

//! One root seed, many independent streams.
//!
//! Child streams are derived by label (`generator/3`, `nemesis`), so that one more draw in one place shifts no other.
//! ChaCha, because the standard generator may change between versions and a seed printed today must mean the same
//! tomorrow.

use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;

/// The root seed of a run.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seed(pub u64);

impl Seed {
    /// One that nobody chose, short enough to be typed.
    pub fn fresh() -> Seed {
        Seed(rand::random_range(0..10_000_000_000))
    }

    /// The stream called `label`.
    pub fn stream(self, label: &str) -> ChaCha8Rng {
        // FNV-1a spreads labels; ChaCha's own key schedule does the mixing.
        let hash = label
            .bytes()
            .fold(0xcbf2_9ce4_8422_2325_u64, |h, b| (h ^ u64::from(b)).wrapping_mul(0x0000_0100_0000_01b3));
        let mut key = [0; 32];
        key[..8].copy_from_slice(&self.0.to_le_bytes());
        key[8..16].copy_from_slice(&hash.to_le_bytes());
        key[16..24].copy_from_slice(&(label.len() as u64).to_le_bytes());
        ChaCha8Rng::from_seed(key)
    }

    /// The seed for a child with streams of its own.
    pub fn child(self, label: &str) -> Seed {
        use rand::Rng;
        Seed(self.stream(label).next_u64())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::Rng;

    #[test]
    fn streams_are_stable_and_independent() {
        let mut a = Seed(7).stream("nemesis");
        // Pinned: a seed that people wrote down must keep its meaning.
        assert_eq!(a.next_u64(), 11_029_575_341_498_776_752);
        assert_ne!(Seed(7).stream("nemesis").next_u64(), Seed(7).stream("generator").next_u64());
        assert_ne!(Seed(7).child("a"), Seed(7).child("b"));
    }
}

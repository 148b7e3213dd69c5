//! One file for each impairment: what becomes of a packet, as a function of packet, time and a seeded stream.

mod clog;
mod corrupt;
mod delay;
mod duplicate;
mod loss;
mod rate;
mod reorder;
mod reset;

use crate::faults::link::Impairment;
use rand_chacha::ChaCha8Rng;

/// Nanoseconds of one clock that never goes back.
pub(super) type Nanos = u64;

/// What becomes of a packet.
#[derive(Debug, PartialEq)]
pub(super) enum Verdict {
    /// It goes on as it is, untouched.
    Pass,
    /// It goes on, changed in place.
    Changed,
    /// It goes on twice.
    Twice,
    /// It goes on at this time, which is not before now.
    At(Nanos),
    /// It goes on when the impairment ends.
    Held,
    /// It is lost, as wanted.
    Lost,
    /// It is lost because the queue is full.
    Overflowed,
    /// These go on in its place.
    Instead([Box<[u8]>; 2]),
}

/// An impairment at work on one pair.
pub(super) trait Decide: Send {
    /// Decides on a packet that arrives at `now`. Packets come in the order of their times.
    fn decide(&mut self, packet: &mut [u8], now: Nanos, rng: &mut ChaCha8Rng) -> Verdict;
}

/// The impairment, ready to work from `begin` on.
pub(super) fn decider(impairment: &Impairment, begin: Nanos) -> Box<dyn Decide> {
    match *impairment {
        Impairment::Loss { probability, burst } => Box::new(loss::Loss::new(probability, burst)),
        Impairment::Corrupt { probability, bits, deliver } => Box::new(corrupt::Corrupt { probability, bits, deliver }),
        Impairment::Duplicate { probability } => Box::new(duplicate::Duplicate { probability }),
        Impairment::Rate { bits_per_s, burst_bytes, queue_bytes } => {
            Box::new(rate::Rate::new(bits_per_s, burst_bytes, queue_bytes))
        }
        Impairment::Delay { delay_us, jitter_us, keep_order } => {
            Box::new(delay::Delay::new(delay_us, jitter_us, keep_order))
        }
        Impairment::Reorder { probability, by_us } => Box::new(reorder::Reorder { probability, by_us }),
        Impairment::Clog { after_us, until_us } => Box::new(clog::Clog::new(begin, after_us, until_us)),
        Impairment::Reset { probability } => Box::new(reset::Reset { probability }),
    }
}

/// Where an impairment stands when several are on one pair: what happens to packets one by one first, then what a wire
/// does (narrow, then long), then what meddles with those that would arrive now.
pub(super) fn rank(impairment: &Impairment) -> u8 {
    match impairment {
        Impairment::Loss { .. } => 0,
        Impairment::Corrupt { .. } => 1,
        Impairment::Duplicate { .. } => 2,
        Impairment::Rate { .. } => 3,
        Impairment::Delay { .. } => 4,
        Impairment::Reorder { .. } => 5,
        Impairment::Clog { .. } => 6,
        Impairment::Reset { .. } => 7,
    }
}

/// Whether a thing of this probability happens now.
fn happens(probability: f64, rng: &mut ChaCha8Rng) -> bool {
    use rand::RngExt;
    // Drawn even for 0 and 1, so that the same packet number meets the same number at every probability.
    rng.random::<f64>() < probability
}

#[cfg(test)]
fn rng(seed: u64) -> ChaCha8Rng {
    use rand::SeedableRng;
    ChaCha8Rng::seed_from_u64(seed)
}

//! What of a file's unsynced changes survives a power cut: pure, seeded.

use super::data::{Change, SECTOR};
use crate::disk::Lose;
use rand::RngExt;
use rand::seq::SliceRandom;
use rand_chacha::ChaCha8Rng;

/// What becomes of a change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Fate {
    Lost,
    Kept,
    /// Of a write, these of its sectors survive: at least one, not all.
    Torn(Vec<bool>),
}

/// A sector of a write: offset and length in its bytes.
fn sectors(offset: u64, len: usize) -> Vec<(usize, usize)> {
    let mut found = Vec::new();
    let mut at = 0;
    while at < len {
        let to_boundary = (SECTOR - (offset + at as u64) % SECTOR) as usize;
        let piece = to_boundary.min(len - at);
        found.push((at, piece));
        at += piece;
    }
    found
}

fn sector_count(change: &Change) -> usize {
    match change {
        Change::Write { offset, bytes } => sectors(*offset, bytes.len()).len(),
        _ => 1,
    }
}

/// Some sectors, not all: as often the first ones as any.
fn tear(count: usize, rng: &mut ChaCha8Rng) -> Fate {
    let survive = rng.random_range(1..count);
    let mut kept: Vec<bool> = (0..count).map(|sector| sector < survive).collect();
    if rng.random() {
        kept.shuffle(rng);
    }
    Fate::Torn(kept)
}

/// The fate of each of a file's unsynced changes, oldest first.
pub(super) fn fates_of(lose: Lose, changes: &[&Change], rng: &mut ChaCha8Rng) -> Vec<Fate> {
    let counts: Vec<usize> = changes.iter().map(|change| sector_count(change)).collect();
    fates(lose, &counts, rng)
}

/// The fate of each of the writes that are not durable, oldest first, by how many sectors they have.
pub(crate) fn fates(lose: Lose, counts: &[usize], rng: &mut ChaCha8Rng) -> Vec<Fate> {
    let toss = |rng: &mut ChaCha8Rng| if rng.random() { Fate::Kept } else { Fate::Lost };
    let len = counts.len();
    match lose {
        Lose::All => vec![Fate::Lost; len],
        Lose::Subset => counts.iter().map(|_| toss(rng)).collect(),
        Lose::Torn => {
            let candidates: Vec<usize> = (0..len).filter(|&n| counts[n] > 1).collect();
            let torn = match candidates.as_slice() {
                [] => None,
                some => Some(some[rng.random_range(0..some.len())]),
            };
            let kept = torn.unwrap_or_else(|| rng.random_range(0..=len));
            (0..len)
                .map(|n| match n {
                    n if n < kept => Fate::Kept,
                    n if Some(n) == torn => tear(counts[n], rng),
                    _ => Fate::Lost,
                })
                .collect()
        }
        Lose::Sequence => match len {
            0 => Vec::new(),
            1 if counts[0] > 1 => vec![tear(counts[0], rng)],
            1 => vec![toss(rng)],
            count => {
                let lost = rng.random_range(0..count - 1);
                let kept = rng.random_range(lost + 1..count);
                (0..count)
                    .map(|n| match n {
                        n if n == lost => Fate::Lost,
                        n if n == kept => Fate::Kept,
                        _ => toss(rng),
                    })
                    .collect()
            }
        },
    }
}

/// How many of its bytes a fate costs a write.
pub(super) fn bytes_lost(change: &Change, fate: &Fate) -> u64 {
    match (change, fate) {
        (Change::Write { bytes, .. }, Fate::Lost) => bytes.len() as u64,
        (Change::Write { offset, bytes }, Fate::Torn(kept)) => {
            let gone = sectors(*offset, bytes.len()).into_iter().zip(kept).filter(|(_, kept)| !**kept);
            gone.map(|((_, len), _)| len as u64).sum()
        }
        _ => 0,
    }
}

/// What is left to be carried out on a file of `len` durable bytes. The length of a file is metadata: where the end of a
/// torn write is gone, the file may still be as long as if it were there.
pub(super) fn survivors(changes: &[&Change], fates: &[Fate], mut len: u64, rng: &mut ChaCha8Rng) -> Vec<Change> {
    let mut left = Vec::new();
    for (change, fate) in changes.iter().zip(fates) {
        match (change, fate) {
            (_, Fate::Lost) => {}
            (Change::Write { offset, bytes }, Fate::Torn(kept)) => {
                let end = offset + bytes.len() as u64;
                if end > len && rng.random() {
                    left.push(Change::SetLen(end));
                    len = end;
                }
                let pieces = sectors(*offset, bytes.len()).into_iter().zip(kept).filter(|(_, kept)| **kept);
                for ((at, piece), _) in pieces {
                    let offset = offset + at as u64;
                    left.push(Change::Write { offset, bytes: bytes[at..at + piece].into() });
                    len = len.max(offset + piece as u64);
                }
            }
            (change, _) => {
                match change {
                    Change::Write { offset, bytes } => len = len.max(offset + bytes.len() as u64),
                    Change::SetLen(to) => len = *to,
                    Change::Zero { .. } => {}
                }
                left.push((*change).clone());
            }
        }
    }
    left
}

#[cfg(test)]
mod tests {
    use super::*;
    use rand::SeedableRng;

    fn writes(lens: &[usize]) -> Vec<Change> {
        lens.iter().map(|len| Change::Write { offset: 100, bytes: vec![7; *len].into() }).collect()
    }

    fn decide(lose: Lose, lens: &[usize], seed: u64) -> Vec<Fate> {
        let changes = writes(lens);
        fates_of(lose, &changes.iter().collect::<Vec<_>>(), &mut ChaCha8Rng::seed_from_u64(seed))
    }

    #[test]
    fn sectors_follow_the_disk_not_the_write() {
        assert_eq!(sectors(500, 600), [(0, 12), (12, 512), (524, 76)]);
        assert_eq!(sectors(512, 512), [(0, 512)]);
        assert!(sectors(9, 0).is_empty());
    }

    #[test]
    fn every_way_to_lose_loses_what_it_says() {
        for seed in 0..200 {
            assert!(decide(Lose::All, &[10, 10], seed).iter().all(|fate| *fate == Fate::Lost));
            let torn = decide(Lose::Torn, &[10, 2000, 10, 3000], seed);
            let at = torn.iter().position(|fate| matches!(fate, Fate::Torn(_))).unwrap();
            assert!([1, 3].contains(&at));
            assert!(torn[..at].iter().all(|fate| *fate == Fate::Kept));
            assert!(torn[at + 1..].iter().all(|fate| *fate == Fate::Lost));
            let Fate::Torn(kept) = &torn[at] else { panic!() };
            assert!(kept.contains(&true) && kept.contains(&false));
            let sequence = decide(Lose::Sequence, &[10, 10, 10], seed);
            let lost = sequence.iter().position(|fate| *fate == Fate::Lost).unwrap();
            assert!(sequence[lost..].contains(&Fate::Kept));
            assert!(matches!(decide(Lose::Sequence, &[2000], seed)[0], Fate::Torn(_)));
        }
        let tosses: Vec<Fate> = (0..40).flat_map(|seed| decide(Lose::Subset, &[10; 5], seed)).collect();
        assert!(tosses.contains(&Fate::Lost) && tosses.contains(&Fate::Kept));
        assert_eq!(decide(Lose::Subset, &[10; 50], 7), decide(Lose::Subset, &[10; 50], 7));
    }

    #[test]
    fn a_torn_write_leaves_its_sectors() {
        let changes = writes(&[1000]);
        let changes: Vec<&Change> = changes.iter().collect();
        for seed in 0..20 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let left = survivors(&changes, &[Fate::Torn(vec![true, false, true])], 0, &mut rng);
            let pieces: Vec<(u64, usize)> = left
                .iter()
                .filter_map(|change| match change {
                    Change::Write { offset, bytes } => Some((*offset, bytes.len())),
                    _ => None,
                })
                .collect();
            assert_eq!(pieces, [(100, 412), (1024, 76)]);
        }
        assert_eq!(bytes_lost(changes[0], &Fate::Torn(vec![true, false, true])), 512);
    }
}

//! Grudges: who no longer hears whom. Pure functions of the nodes and a seeded stream.
//!
//! Nodes are numbered from 0. An ordered pair (a, b) in a grudge means: what a sends to b is dropped. The shapes are
//! those of Jepsen's `nemesis.clj` (halves, bridge, majorities-ring) and its successors.

use rand::seq::SliceRandom;
use rand::{Rng, RngExt};
use std::collections::BTreeSet;

/// Ordered pairs (from, to) whose packets are dropped.
pub type Grudge = BTreeSet<(usize, usize)>;

/// A way to split a cluster.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shape {
    /// One random node alone.
    One,
    /// First half (in random order) against the other, as even as possible.
    Halves,
    /// Every node on a random side, neither side empty.
    RandomHalves,
    /// Two halves that only one node still connects.
    Bridge,
    /// Every node sees a majority, no two the same one.
    MajoritiesRing,
    /// A random majority against the rest, sizes at random.
    MajorityMinority,
    /// A random third (rounded up, always a minority) alone.
    MinorityThird,
    /// A random side hears the other no more, but is still heard.
    OneWay,
    /// Everybody alone.
    Full,
}

impl Shape {
    /// All of them with their names in test files.
    pub const ALL: [(&'static str, Self, &'static str); 9] = [
        ("one", Self::One, "one random node alone"),
        ("halves", Self::Halves, "two halves, as even as possible"),
        ("random-halves", Self::RandomHalves, "every node on a random side"),
        ("bridge", Self::Bridge, "two halves that only one node still connects"),
        ("majorities-ring", Self::MajoritiesRing, "every node sees a majority, no two the same one"),
        ("majority-minority", Self::MajorityMinority, "a random majority against the rest"),
        ("minority-third", Self::MinorityThird, "a random third alone"),
        ("one-way", Self::OneWay, "one side no longer hears the other, but is still heard"),
        ("full", Self::Full, "everybody alone"),
    ];

    /// The grudge of this shape among `count` nodes; empty for fewer than two.
    pub fn grudge(self, count: usize, rng: &mut impl Rng) -> Grudge {
        if count < 2 {
            return Grudge::new();
        }
        let mut order: Vec<usize> = (0..count).collect();
        order.shuffle(rng);
        match self {
            Self::One => isolate(&order[..1], count),
            Self::Halves => isolate(&order[..count / 2], count),
            Self::RandomHalves => isolate(&order[..rng.random_range(1..count)], count),
            Self::Bridge => bridge(&order),
            Self::MajoritiesRing => majorities_ring(&order),
            Self::MajorityMinority => isolate(&order[..rng.random_range(1..=minority(count).max(1))], count),
            Self::MinorityThird => isolate(&order[..count.div_ceil(3).min(minority(count).max(1))], count),
            Self::OneWay => {
                let side = &order[..rng.random_range(1..count)];
                isolate(side, count).into_iter().filter(|(from, _)| !side.contains(from)).collect()
            }
            Self::Full => isolate_groups(&order.iter().map(|&node| vec![node]).collect::<Vec<_>>()),
        }
    }
}

/// The largest number of nodes that is no majority.
pub fn minority(count: usize) -> usize {
    count.saturating_sub(1) / 2
}

/// `side` against everybody else, in both directions.
pub fn isolate(side: &[usize], count: usize) -> Grudge {
    let rest = (0..count).filter(|node| !side.contains(node)).collect();
    isolate_groups(&[side.to_vec(), rest])
}

/// Groups that hear nothing of each other; a node in no group hears everybody.
pub fn isolate_groups(groups: &[Vec<usize>]) -> Grudge {
    let mut grudge = Grudge::new();
    for (i, group) in groups.iter().enumerate() {
        for other in groups.iter().enumerate().filter(|(j, _)| *j != i).flat_map(|(_, other)| other) {
            grudge.extend(group.iter().map(|node| (*node, *other)));
        }
    }
    grudge
}

fn bridge(order: &[usize]) -> Grudge {
    let (left, rest) = order.split_at(order.len() / 2);
    // The first of the rest is the bridge.
    isolate_groups(&[left.to_vec(), rest[1..].to_vec()])
}

/// Each node (in ring order) keeps its own majority: itself and its next neighbours on both sides; links are cut where
/// neither end keeps the other, and kept in both directions otherwise.
fn majorities_ring(order: &[usize]) -> Grudge {
    let count = order.len();
    if count == 3 {
        // A ring of three has no links to spare: one is cut, and the ends see different majorities.
        return isolate_groups(&[vec![order[0]], vec![order[2]]]);
    }
    // On each side as many as it takes for itself and both sides to be a majority.
    let reach = (count / 2).div_ceil(2);
    let mut grudge = Grudge::new();
    for i in 0..count {
        for j in 0..count {
            let distance = (i + count - j) % count;
            if distance.min(count - distance) > reach {
                grudge.insert((order[i], order[j]));
            }
        }
    }
    grudge
}

/// In words: `n1 n2 | n3 n4 n5` where nodes fall into sides, else the cut links `n1->n3 n2->n3`.
pub fn describe(grudge: &Grudge, names: &[String]) -> String {
    let name = |node: usize| names.get(node).map_or("?", String::as_str);
    let mut sides: Vec<Vec<usize>> = Vec::new();
    for node in 0..names.len() {
        let apart = |side: &Vec<usize>| grudge.contains(&(node, side[0])) || grudge.contains(&(side[0], node));
        match sides.iter_mut().find(|side| !apart(side)) {
            Some(side) => side.push(node),
            None => sides.push(vec![node]),
        }
    }
    if sides.len() > 1 && isolate_groups(&sides) == *grudge {
        let side = |side: &Vec<usize>| side.iter().map(|&n| name(n)).collect::<Vec<_>>().join(" ");
        return format!("{{{}}}", sides.iter().map(side).collect::<Vec<_>>().join(" | "));
    }
    grudge.iter().map(|&(from, to)| format!("{}->{}", name(from), name(to))).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use rand::SeedableRng;
    use rand_chacha::ChaCha8Rng;

    fn hears(grudge: &Grudge, count: usize, node: usize) -> BTreeSet<usize> {
        (0..count).filter(|&other| !grudge.contains(&(other, node)) && !grudge.contains(&(node, other))).collect()
    }

    proptest! {
        #[test]
        fn the_laws_of_each_shape(count in 2usize..10, seed: u64) {
            for (name, shape, _) in Shape::ALL {
                let mut rng = ChaCha8Rng::seed_from_u64(seed);
                let grudge = shape.grudge(count, &mut rng);
                let again = shape.grudge(count, &mut ChaCha8Rng::seed_from_u64(seed));
                prop_assert_eq!(&grudge, &again, "{} must depend on the seed alone", name);
                prop_assert!(grudge.iter().all(|&(a, b)| a != b && a < count && b < count), "{}", name);
                let mirrored: Grudge = grudge.iter().map(|&(a, b)| (b, a)).collect();
                if shape == Shape::OneWay {
                    prop_assert!(grudge.is_disjoint(&mirrored));
                } else {
                    prop_assert_eq!(&grudge, &mirrored, "{} must be symmetric", name);
                }
                // Two nodes have nobody in the middle, and no majority but both.
                let may_be_empty = count < 3 && matches!(shape, Shape::Bridge | Shape::MajoritiesRing);
                prop_assert!(may_be_empty || !grudge.is_empty(), "{}", name);
            }
        }

        #[test]
        fn majorities_ring_leaves_everybody_a_majority_of_their_own(count in 3usize..12, seed: u64) {
            let grudge = Shape::MajoritiesRing.grudge(count, &mut ChaCha8Rng::seed_from_u64(seed));
            let seen: Vec<_> = (0..count).map(|node| hears(&grudge, count, node)).collect();
            for set in &seen {
                prop_assert!(set.len() > count / 2, "{:?}", seen);
            }
            if grudge.len() > count {
                let distinct: BTreeSet<_> = seen.iter().collect();
                prop_assert!(distinct.len() > 1);
            }
        }

        #[test]
        fn one_side_of_a_minority_split_is_a_majority(count in 3usize..10, seed: u64) {
            for shape in [Shape::MajorityMinority, Shape::MinorityThird, Shape::One] {
                let grudge = shape.grudge(count, &mut ChaCha8Rng::seed_from_u64(seed));
                let sizes: BTreeSet<usize> = (0..count).map(|node| hears(&grudge, count, node).len()).collect();
                prop_assert!(sizes.iter().any(|&size| size > count / 2), "{:?}", grudge);
            }
        }
    }

    #[test]
    fn a_bridge_is_seen_by_both_sides() {
        let grudge = bridge(&[0, 1, 2, 3, 4]);
        assert_eq!(hears(&grudge, 5, 2).len(), 5);
        assert_eq!(hears(&grudge, 5, 0), BTreeSet::from([0, 1, 2]));
        assert_eq!(hears(&grudge, 5, 4), BTreeSet::from([2, 3, 4]));
    }

    #[test]
    fn words() {
        let names: Vec<String> = (1..=5).map(|i| format!("n{i}")).collect();
        assert_eq!(describe(&isolate(&[1], 5), &names), "{n1 n3 n4 n5 | n2}");
        assert_eq!(describe(&Grudge::from([(0, 2)]), &names), "n1->n3");
    }
}

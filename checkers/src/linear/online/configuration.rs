//! What is known at a return: the state, and what became of the operations that are open.

use super::super::problem::FastMap;

/// Operations of one key that may be open at a time; more are beyond any search.
pub(super) const SLOTS: usize = 256;

/// A set of slots.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub(super) struct Slots([u64; SLOTS / 64]);

impl Slots {
    pub(super) fn has(&self, slot: u32) -> bool {
        self.0[slot as usize / 64] >> (slot % 64) & 1 != 0
    }

    pub(super) fn add(&mut self, slot: u32) {
        self.0[slot as usize / 64] |= 1 << (slot % 64);
    }

    pub(super) fn remove(&mut self, slot: u32) {
        self.0[slot as usize / 64] &= !(1 << (slot % 64));
    }

    fn with(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] | other.0[i]))
    }

    fn without(self, other: Self) -> Self {
        Self(std::array::from_fn(|i| self.0[i] & !other.0[i]))
    }

    fn is_in(self, other: Self) -> bool {
        self.without(other) == Self::default()
    }
}

/// Unfinished operations that took effect: (kind, how many), sorted by kind, counts above 0.
pub(super) type Spent = Vec<(u32, u32)>;

pub(super) fn spent_of(spent: &Spent, kind: u32) -> u32 {
    spent.binary_search_by_key(&kind, |&(kind, _)| kind).map_or(0, |at| spent[at].1)
}

pub(super) fn spend(spent: &mut Spent, kind: u32) {
    match spent.binary_search_by_key(&kind, |&(kind, _)| kind) {
        Ok(at) => spent[at].1 += 1,
        Err(at) => spent.insert(at, (kind, 1)),
    }
}

/// One way in which things may stand.
#[derive(Clone, Debug)]
pub(super) struct Configuration {
    pub(super) state: u32,
    /// Open operations that took effect.
    pub(super) lin: Slots,
    /// Open operations that may have taken effect without a trace, just before one that overwrote what they did: they
    /// count as linearized when they return, and as not when they are needed before.
    pub(super) free: Slots,
    pub(super) spent: Spent,
}

impl Configuration {
    /// About how many bytes one takes, in a set.
    pub(super) fn bytes(&self) -> u64 {
        (size_of::<Self>() + 32 + self.spent.len() * 8) as u64
    }

    /// Whether whatever can happen after `other` can happen after this one. Both have the same state.
    fn covers(&self, other: &Self) -> bool {
        self.lin.is_in(other.lin)
            && other.lin.with(other.free).is_in(self.lin.with(self.free))
            && self.spent.iter().all(|&(kind, count)| spent_of(&other.spent, kind) >= count)
    }
}

/// Configurations of which none covers another.
#[derive(Default)]
pub(super) struct Antichain {
    /// By state and linearized operations, those left out that may be covered without being equal.
    by_key: FastMap<(u32, Slots), Vec<Configuration>>,
    pub(super) bytes: u64,
}

impl Antichain {
    /// Adds a configuration. `overwriting`: slots of open operations that overwrite. `false` when one that covers it is
    /// there already.
    pub(super) fn insert(&mut self, configuration: &Configuration, overwriting: Slots) -> bool {
        let key = (configuration.state, configuration.lin.without(overwriting));
        let bucket = self.by_key.entry(key).or_default();
        if bucket.iter().any(|other| other.covers(configuration)) {
            return false;
        }
        bucket.retain(|other| !configuration.covers(other));
        bucket.push(configuration.clone());
        self.bytes += configuration.bytes();
        true
    }

    pub(super) fn into_vec(self) -> Vec<Configuration> {
        self.by_key.into_values().flatten().collect()
    }
}

//! Which operations are impaired, and how.

use crate::disk::{DiskOp, Impairment, Rule, When};
use glob::{MatchOptions, Pattern};
use nix::errno::Errno;
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::{BTreeMap, BTreeSet};
use std::path::Path;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError, RwLock};
use std::time::{Duration, Instant};

/// The unit in which bits rot (bytes).
const PAGE: u64 = 4096;

/// A rule in force.
#[derive(Debug)]
pub(super) struct Active {
    rule: Rule,
    pattern: Pattern,
    /// Operations that it is about.
    matched: AtomicU64,
    /// Operations that it hit.
    hits: AtomicU64,
    tosses: Mutex<ChaCha8Rng>,
    /// Files whose fsync has failed once.
    failed: Mutex<BTreeSet<u64>>,
    /// Until when what was let through at a rate takes.
    busy_until: Mutex<Instant>,
    /// How much a disk that gets full can hold (bytes).
    capacity: u64,
}

impl Active {
    fn hits(&self, op: DiskOp, path: &Path) -> bool {
        let options = MatchOptions { require_literal_separator: true, ..MatchOptions::new() };
        if !self.rule.ops.contains(&op) || !self.pattern.matches_path_with(path, options) {
            return false;
        }
        let number = self.matched.fetch_add(1, Ordering::Relaxed) + 1;
        // Pages rot one by one, whoever reads them.
        let hit = self.rule.effect == Impairment::Rot
            || match self.rule.when {
                When::Always => true,
                When::Nth(n) => n == number,
                When::Probability(p) => self.tosses.lock().unwrap_or_else(PoisonError::into_inner).random::<f64>() < p,
            };
        let counted_later =
            matches!(self.rule.effect, Impairment::Rot | Impairment::LoseOnFsync | Impairment::Full { .. });
        if hit && !counted_later {
            self.hits.fetch_add(1, Ordering::Relaxed);
        }
        hit
    }

    /// How long so many bytes take from now on, in their turn, at the rate of this rule.
    fn takes(&self, bytes: u64) -> Duration {
        let Impairment::Rate { bytes_per_s } = self.rule.effect else { return Duration::ZERO };
        let mut busy_until = self.busy_until.lock().unwrap_or_else(PoisonError::into_inner);
        let now = Instant::now();
        let own = Duration::from_secs_f64(bytes as f64 / bytes_per_s.max(1) as f64);
        *busy_until = (*busy_until).max(now) + own;
        *busy_until - now
    }
}

/// All rules in force, by id.
#[derive(Debug, Default)]
pub(super) struct Rules {
    /// So that nothing else is looked at while there are none.
    any: AtomicBool,
    /// Whether one of them is about what is read.
    reads: AtomicBool,
    active: RwLock<BTreeMap<String, Arc<Active>>>,
}

/// The rules that hit one operation.
#[derive(Debug, Default)]
pub(super) struct Hits {
    rules: Vec<Arc<Active>>,
    /// How long those take that let bytes through at a rate.
    takes: Duration,
}

impl Rules {
    /// Puts a rule in force; one with that id stays as it is. `used` is what the disk holds now (bytes).
    ///
    /// # Errors
    /// When its path is no pattern.
    pub(super) fn add(&self, id: &str, rule: Rule, used: u64) -> Result<(), String> {
        let pattern = crate::disk::pattern(&rule.path)?;
        let tosses = Mutex::new(ChaCha8Rng::seed_from_u64(rule.seed));
        let (matched, hits, failed) = Default::default();
        let busy_until = Mutex::new(Instant::now());
        let capacity = match rule.effect {
            Impairment::Full { left } => used.saturating_add(left),
            _ => u64::MAX,
        };
        let active = Active { rule, pattern, matched, hits, tosses, failed, busy_until, capacity };
        let mut all = self.active.write().unwrap_or_else(PoisonError::into_inner);
        all.entry(id.to_owned()).or_insert_with(|| Arc::new(active));
        self.note(&all);
        Ok(())
    }

    fn note(&self, all: &BTreeMap<String, Arc<Active>>) {
        self.any.store(!all.is_empty(), Ordering::Release);
        let reads = all.values().any(|active| active.rule.ops.contains(&DiskOp::Read));
        self.reads.store(reads, Ordering::Release);
    }

    /// Whether a rule is about what is read from the disk: then files are to be read from there.
    pub(super) fn concern_reads(&self) -> bool {
        self.reads.load(Ordering::Acquire)
    }

    /// Takes a rule out; which it was and how often it hit.
    pub(super) fn remove(&self, id: &str) -> Option<(Rule, u64)> {
        let mut all = self.active.write().unwrap_or_else(PoisonError::into_inner);
        let active = all.remove(id)?;
        self.note(&all);
        Some((active.rule.clone(), active.hits.load(Ordering::Relaxed)))
    }

    /// How often a rule has hit; `None` when it is not in force.
    pub(super) fn count(&self, id: &str) -> Option<u64> {
        let all = self.active.read().unwrap_or_else(PoisonError::into_inner);
        all.get(id).map(|active| active.hits.load(Ordering::Relaxed))
    }

    fn is_in_force(&self, active: &Arc<Active>) -> bool {
        let all = self.active.read().unwrap_or_else(PoisonError::into_inner);
        all.values().any(|other| Arc::ptr_eq(other, active))
    }

    /// How much the disk can hold (bytes), if it gets full.
    pub(super) fn capacity(&self) -> Option<u64> {
        let all = self.active.read().unwrap_or_else(PoisonError::into_inner);
        all.values().map(|active| active.capacity).min().filter(|capacity| *capacity < u64::MAX)
    }

    /// What hits an operation on so many bytes; `path` is only asked for when there are rules.
    pub(super) fn hits(&self, op: DiskOp, bytes: u64, path: impl FnOnce() -> std::path::PathBuf) -> Hits {
        if !self.any.load(Ordering::Acquire) {
            return Hits::default();
        }
        let path = path();
        let all = self.active.read().unwrap_or_else(PoisonError::into_inner);
        let rules: Vec<Arc<Active>> = all.values().filter(|active| active.hits(op, &path)).cloned().collect();
        let takes = rules.iter().map(|active| active.takes(bytes)).max().unwrap_or_default();
        Hits { rules, takes }
    }

    /// Whether `hits` holds a rule that lets its operation hang, and that is still in force.
    pub(super) fn hangs(&self, hits: &Hits) -> bool {
        hits.rules.iter().any(|active| active.rule.effect == Impairment::Hang && self.is_in_force(active))
    }
}

impl Hits {
    pub(super) fn is_empty(&self) -> bool {
        self.rules.is_empty()
    }

    /// Whether the operation takes longer.
    pub(super) fn wait(&self) -> bool {
        !self.takes.is_zero()
            || self.rules.iter().any(|active| matches!(active.rule.effect, Impairment::Slow { .. } | Impairment::Hang))
    }

    /// How much longer, hanging aside.
    pub(super) fn delay(&self) -> Duration {
        let delay = |active: &Arc<Active>| match active.rule.effect {
            Impairment::Slow { delay_ms } => Duration::from_millis(delay_ms),
            _ => Duration::ZERO,
        };
        self.takes + self.rules.iter().map(delay).sum::<Duration>()
    }

    /// How much the disk can hold (bytes), if it gets full.
    pub(super) fn capacity(&self) -> Option<u64> {
        self.rules.iter().map(|active| active.capacity).min().filter(|capacity| *capacity < u64::MAX)
    }

    /// The disk was full for this operation.
    pub(super) fn count_full(&self) {
        for active in self.rules.iter().filter(|active| active.capacity < u64::MAX) {
            active.hits.fetch_add(1, Ordering::Relaxed);
        }
    }

    /// With what it fails.
    pub(super) fn error(&self) -> Option<Errno> {
        self.rules.iter().find_map(|active| match active.rule.effect {
            Impairment::Fail(error) => Some(Errno::from_raw(error.errno())),
            _ => None,
        })
    }

    /// Whether this fsync of the file `ino` fails and leaves its pages clean: once a file.
    pub(super) fn lose_on_fsync(&self, ino: u64) -> bool {
        self.rules.iter().any(|active| {
            let first = active.rule.effect == Impairment::LoseOnFsync
                && active.failed.lock().unwrap_or_else(PoisonError::into_inner).insert(ino);
            if first {
                active.hits.fetch_add(1, Ordering::Relaxed);
            }
            first
        })
    }

    /// Where a write to `offset` of a file of `len` bytes lands, if elsewhere: the same place in another page.
    pub(super) fn misdirected(&self, offset: u64, len: u64) -> Option<u64> {
        let active = self.rules.iter().find(|active| active.rule.effect == Impairment::Misdirect)?;
        let pages = len.div_ceil(PAGE).max(2);
        let away = 1 + mix(active.rule.seed ^ mix(offset)) % (pages - 1);
        Some((offset / PAGE + away) % pages * PAGE + offset % PAGE)
    }

    /// Lets the bits of a file rot that was read at `offset` (a multiple of the page size, as the kernel reads).
    pub(super) fn rot(&self, path: &Path, offset: u64, bytes: &mut [u8]) {
        for active in self.rules.iter().filter(|active| active.rule.effect == Impairment::Rot) {
            let name = path.as_os_str().as_encoded_bytes().iter().fold(active.rule.seed, |h, b| mix(h ^ u64::from(*b)));
            for (number, page) in bytes.chunks_mut(PAGE as usize).enumerate() {
                let at = offset / PAGE + number as u64;
                let random = mix(name ^ mix(at));
                let rotten = match active.rule.when {
                    When::Always => true,
                    When::Nth(n) => at + 1 == n,
                    When::Probability(p) => (mix(random) as f64) < p * u64::MAX as f64,
                };
                if rotten && !page.is_empty() {
                    let bit = random % (page.len() as u64 * 8);
                    page[(bit / 8) as usize] ^= 1 << (bit % 8);
                    active.hits.fetch_add(1, Ordering::Relaxed);
                }
            }
        }
    }
}

/// Spreads the bits of a number (the finisher of SplitMix64): the same page rots the same way each time it is read.
fn mix(mut x: u64) -> u64 {
    x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::disk::DiskError;
    use std::path::PathBuf;

    fn rule(path: &str, when: When, effect: Impairment) -> Rule {
        Rule { ops: vec![DiskOp::Write], path: path.to_owned(), when, effect, seed: 7 }
    }

    #[test]
    fn a_rule_hits_its_operations_and_paths() {
        let hits = |pattern: &str, op, path: &str| {
            let rules = Rules::default();
            rules.add("1", rule(pattern, When::Always, Impairment::Fail(DiskError::NoSpace)), 0).unwrap();
            rules.hits(op, 0, || PathBuf::from(path)).error() == Some(Errno::ENOSPC)
        };
        assert!(hits("**", DiskOp::Write, "a/b/wal-1.log"));
        assert!(!hits("**", DiskOp::Read, "a/b/wal-1.log"));
        // A name without a folder is looked for in all of them.
        assert!(hits("wal-*.log", DiskOp::Write, "a/b/wal-1.log"));
        assert!(hits("wal-?.log", DiskOp::Write, "wal-1.log"));
        assert!(!hits("wal-?.log", DiskOp::Write, "a/wal-10.log"));
        assert!(hits("a/*/wal-1.log", DiskOp::Write, "a/b/wal-1.log"));
        assert!(!hits("a/*", DiskOp::Write, "a/b/wal-1.log"));
        assert!(Rules::default().add("1", rule("[", When::Always, Impairment::Hang), 0).is_err());
    }

    #[test]
    fn the_nth_and_no_other() {
        let rules = Rules::default();
        rules.add("1", rule("**", When::Nth(3), Impairment::Fail(DiskError::Io)), 0).unwrap();
        let hit: Vec<bool> = (0..5).map(|_| rules.hits(DiskOp::Write, 0, || "f".into()).error().is_some()).collect();
        assert_eq!(hit, [false, false, true, false, false]);
        assert_eq!(rules.count("1"), Some(1));
        assert_eq!(rules.remove("1").unwrap().1, 1);
        assert_eq!(rules.count("1"), None);
    }

    #[test]
    fn probabilities_are_seeded() {
        let count = || {
            let rules = Rules::default();
            rules.add("1", rule("**", When::Probability(0.2), Impairment::Fail(DiskError::Io)), 0).unwrap();
            (0..1000).for_each(|_| drop(rules.hits(DiskOp::Write, 0, || "f".into())));
            rules.count("1").unwrap()
        };
        assert!((150..250).contains(&count()), "{}", count());
        assert_eq!(count(), count());
    }

    #[test]
    fn a_page_rots_the_same_way_each_time() {
        let rules = Rules::default();
        let rot = Rule { ops: vec![DiskOp::Read], ..rule("**", When::Probability(0.5), Impairment::Rot) };
        rules.add("1", rot, 0).unwrap();
        let read = |offset: u64, len: usize| {
            let mut bytes = vec![0; len];
            rules.hits(DiskOp::Read, 0, || "f".into()).rot(Path::new("f"), offset, &mut bytes);
            bytes
        };
        let whole = read(0, 100 * PAGE as usize);
        assert_eq!(whole, read(0, 100 * PAGE as usize));
        assert_eq!(whole[8192..16384], read(8192, 8192));
        let flipped: u32 = whole.iter().map(|byte| byte.count_ones()).sum();
        assert!((30..70).contains(&flipped), "{flipped}");
    }

    #[test]
    fn a_misdirected_write_lands_elsewhere() {
        let rules = Rules::default();
        rules.add("1", rule("**", When::Always, Impairment::Misdirect), 0).unwrap();
        let hits = rules.hits(DiskOp::Write, 0, || "f".into());
        for offset in [0, 100, 4096, 9000] {
            let there = hits.misdirected(offset, 20_000).unwrap();
            assert!(there / PAGE != offset / PAGE && there % PAGE == offset % PAGE && there < 5 * PAGE);
        }
        assert_eq!(hits.misdirected(10, 50), Some(4106));
    }

    #[test]
    fn bytes_pass_at_a_rate_one_after_the_other() {
        let rules = Rules::default();
        rules.add("1", rule("**", When::Always, Impairment::Rate { bytes_per_s: 1000 }), 0).unwrap();
        let delays: Vec<f64> =
            (0..3).map(|_| rules.hits(DiskOp::Write, 500_000, || "f".into()).delay().as_secs_f64()).collect();
        for (n, delay) in delays.iter().enumerate() {
            // Each waits for those before it; what has passed meanwhile is nothing beside that.
            let whole = 500.0 * (n + 1) as f64;
            assert!(*delay <= whole && *delay > whole - 250.0, "{delays:?}");
        }
        assert!(rules.hits(DiskOp::Read, 500, || "f".into()).delay().is_zero());
    }

    #[test]
    fn the_least_capacity_counts_and_what_is_full_is_counted() {
        let rules = Rules::default();
        assert_eq!(rules.capacity(), None);
        rules.add("1", rule("**", When::Always, Impairment::Full { left: 100 }), 50).unwrap();
        rules.add("2", rule("**", When::Always, Impairment::Full { left: 20 }), 60).unwrap();
        let hits = rules.hits(DiskOp::Write, 0, || "f".into());
        assert_eq!((rules.capacity(), hits.capacity(), rules.count("1")), (Some(80), Some(80), Some(0)));
        hits.count_full();
        assert_eq!(rules.count("1"), Some(1));
        rules.remove("2");
        assert_eq!(rules.capacity(), Some(150));
    }
}

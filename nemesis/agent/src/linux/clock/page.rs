//! The page that a patched program shares with the agent: how far its clocks are off. Read-only to the program.
//!
//! ```text
//!    0  turn: u8         slot `turn % 2` counts; one more with each change
//! 1024  slot 0           2048  slot 1
//!
//! slot  0  count: u64    so many terms, whose sum is the shift
//!      64  terms, 160 bytes each
//! term  0  clocks: u64   bit n: CLOCK number n is shifted, the others tell the truth
//!       8  offset: i64   nanoseconds
//!      16  rate: i64     in 2^-32 of a nanosecond for each nanosecond since the beginning; -2^32 stands still
//!      24  period: u64   nanoseconds; unless 0: in every odd period `other` takes the place of `offset`
//!      32  other: i64    nanoseconds
//!      40  tag: u64      of the fault that it belongs to; not for the stub
//!      48  base: [i64]   the beginning, on each clock's own scale
//! ```
//!
//! A change is written to the slot that does not count, then the turn, one byte: a writer that is killed in between
//! leaves the old shift in force, never half of a new one. No terms is the truth, so that nothing of the program needs to
//! be kept to undo a shift, and whoever finds the file can do it.

use super::super::state::clock_ns;
use crate::faults::clock::ClockShift;
use crate::protocol::AgentError;
use nix::time::ClockId;
use std::fs::{File, OpenOptions};
use std::os::unix::fs::{FileExt, OpenOptionsExt};
use std::path::Path;

pub(super) const CLOCK_MAX: usize = 11;
pub(super) const SLOT_FIRST: usize = 1024;
pub(super) const SLOT_LEN: usize = 1024;
pub(super) const TERM_FIRST: usize = 64;
pub(super) const TERM_LEN: usize = 160;
pub(super) const CLOCKS: usize = 0;
pub(super) const OFFSET: usize = 8;
pub(super) const RATE: usize = 16;
pub(super) const PERIOD: usize = 24;
pub(super) const OTHER: usize = 32;
const TAG: usize = 40;
pub(super) const BASE: usize = 48;

/// Length of the file: one page.
const PAGE_LEN: usize = 4096;

/// Most terms of a slot.
const TERMS_MAX: usize = (SLOT_LEN - TERM_FIRST) / TERM_LEN;

/// CLOCK_REALTIME, CLOCK_REALTIME_COARSE and CLOCK_TAI.
const WALL_CLOCKS: u64 = 1 | 1 << 5 | 1 << 11;

/// CLOCK_MONOTONIC and CLOCK_MONOTONIC_COARSE. CLOCK_BOOTTIME and CLOCK_MONOTONIC_RAW stay true always: by the first the
/// agent measures.
const MONOTONIC_CLOCKS: u64 = 1 << 1 | 1 << 6;

/// One term of a shift, and when it began.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Term {
    tag: u64,
    clocks: u64,
    offset_ns: i64,
    rate: i64,
    period_ns: u64,
    other_ns: i64,
    base_ns: [i64; CLOCK_MAX + 1],
}

impl Term {
    /// `shift`, beginning now, of the fault called `id`.
    pub(crate) fn begin(id: &str, shift: &ClockShift, monotonic: bool) -> Self {
        let clocks = WALL_CLOCKS | if monotonic { MONOTONIC_CLOCKS } else { 0 };
        let base_ns = std::array::from_fn(|clock| clock_ns(ClockId::from_raw(clock as i32)));
        let term = Self { tag: tag(id), clocks, base_ns, ..Self::default() };
        let ms = |ms: i64| ms.saturating_mul(1_000_000);
        match *shift {
            ClockShift::Bump { offset_ms } => Self { offset_ns: ms(offset_ms), ..term },
            ClockShift::Strobe { offset_ms, period_ms } => {
                let period_ns = period_ms.saturating_mul(1_000_000);
                Self { offset_ns: ms(offset_ms), other_ns: ms(offset_ms.saturating_neg()), period_ns, ..term }
            }
            ClockShift::Drift { ppm } => Self { rate: (i128::from(ppm) * (1 << 32) / 1_000_000) as i64, ..term },
            ClockShift::Freeze => Self { rate: -(1 << 32), ..term },
        }
    }

    fn shift_ns(&self, clock: usize, true_ns: i64) -> i64 {
        if clock > CLOCK_MAX || self.clocks & (1 << clock) == 0 {
            return 0;
        }
        let elapsed = (true_ns - self.base_ns[clock]).max(0);
        match (elapsed as u64).checked_div(self.period_ns) {
            Some(turns) if turns % 2 == 1 => self.other_ns,
            Some(_) => self.offset_ns,
            None => self.offset_ns + ((i128::from(elapsed) * i128::from(self.rate)) >> 32) as i64,
        }
    }

    fn bytes(&self) -> [u8; TERM_LEN] {
        let mut bytes = [0; TERM_LEN];
        let mut put = |at: usize, word: [u8; 8]| bytes[at..at + 8].copy_from_slice(&word);
        put(CLOCKS, self.clocks.to_ne_bytes());
        put(OFFSET, self.offset_ns.to_ne_bytes());
        put(RATE, self.rate.to_ne_bytes());
        put(PERIOD, self.period_ns.to_ne_bytes());
        put(OTHER, self.other_ns.to_ne_bytes());
        put(TAG, self.tag.to_ne_bytes());
        for (clock, base) in self.base_ns.iter().enumerate() {
            put(BASE + 8 * clock, base.to_ne_bytes());
        }
        bytes
    }

    fn from_bytes(bytes: &[u8; TERM_LEN]) -> Self {
        let word = |at: usize| i64::from_ne_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        Self {
            tag: word(TAG) as u64,
            clocks: word(CLOCKS) as u64,
            offset_ns: word(OFFSET),
            rate: word(RATE),
            period_ns: word(PERIOD) as u64,
            other_ns: word(OTHER),
            base_ns: std::array::from_fn(|clock| word(BASE + 8 * clock)),
        }
    }
}

/// Tells the terms of different faults apart (FNV-1a, so that every version of this program agrees).
pub(crate) fn tag(id: &str) -> u64 {
    id.bytes().fold(0xcbf2_9ce4_8422_2325, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3))
}

/// How far `clock` is off by all `terms` when it truly shows `true_ns`: what the stub computes, in other words.
pub(super) fn shift_ns(terms: &[Term], clock: usize, true_ns: i64) -> i64 {
    let shift: i64 = terms.iter().map(|term| term.shift_ns(clock, true_ns)).sum();
    // No clock shows less than nothing.
    shift.max(-true_ns)
}

/// Makes the page, telling the truth; one that is there stays as it is.
///
/// # Errors
/// When it cannot be written.
pub(super) fn create(path: &Path) -> Result<(), AgentError> {
    // Programs of any user must be able to map it, and none to write it.
    let file = OpenOptions::new().create(true).write(true).truncate(false).mode(0o644).open(path);
    file.and_then(|file| file.set_len(PAGE_LEN as u64)).map_err(|e| AgentError::io("create", path, e))
}

/// Adds a term. The caller holds the lock: there is one writer.
///
/// # Errors
/// When there are too many, or the page cannot be written; the old shift then stays in force.
pub(crate) fn add(path: &Path, term: Term) -> Result<(), AgentError> {
    let mut terms = terms(path)?;
    if terms.len() == TERMS_MAX {
        return Err(AgentError::new(format!("{TERMS_MAX} faults shift this clock already")));
    }
    terms.push(term);
    set(path, &terms)
}

/// Leaves only the terms of faults with these tags. The caller holds the lock.
///
/// # Errors
/// When the page cannot be written; the old shift then stays in force.
pub(crate) fn keep(path: &Path, tags: &[u64]) -> Result<(), AgentError> {
    let mut terms = terms(path)?;
    terms.retain(|term| tags.contains(&term.tag));
    set(path, &terms)
}

/// Whether the fault with this tag shifts the clock.
///
/// # Errors
/// When the page cannot be read.
pub(crate) fn has(path: &Path, tag: u64) -> Result<bool, AgentError> {
    Ok(terms(path)?.iter().any(|term| term.tag == tag))
}

fn set(path: &Path, terms: &[Term]) -> Result<(), AgentError> {
    let mut bytes = vec![0; TERM_FIRST];
    bytes[..8].copy_from_slice(&(terms.len() as u64).to_ne_bytes());
    bytes.extend(terms.iter().flat_map(Term::bytes));
    let write = |file: File| {
        let turn = turn(&file)?.wrapping_add(1);
        file.write_all_at(&bytes, slot_at(turn))?;
        file.write_all_at(&[turn], 0)
    };
    let opened = OpenOptions::new().read(true).write(true).open(path);
    opened.and_then(write).map_err(|e| AgentError::io("write", path, e))
}

/// The terms in force.
///
/// # Errors
/// When the page cannot be read.
pub(super) fn terms(path: &Path) -> Result<Vec<Term>, AgentError> {
    let read = |file: File| {
        let slot = slot_at(turn(&file)?);
        let mut count = [0; 8];
        file.read_exact_at(&mut count, slot)?;
        let count = (u64::from_ne_bytes(count) as usize).min(TERMS_MAX);
        let term = |n: usize| {
            let mut bytes = [0; TERM_LEN];
            file.read_exact_at(&mut bytes, slot + (TERM_FIRST + n * TERM_LEN) as u64)?;
            Ok(Term::from_bytes(&bytes))
        };
        (0..count).map(term).collect()
    };
    File::open(path).and_then(read).map_err(|e| AgentError::io("read", path, e))
}

fn turn(file: &File) -> std::io::Result<u8> {
    let mut turn = [0];
    file.read_exact_at(&mut turn, 0)?;
    Ok(turn[0])
}

fn slot_at(turn: u8) -> u64 {
    (SLOT_FIRST + SLOT_LEN * usize::from(turn % 2)) as u64
}

//! Interned strings.
//!
//! Histories repeat a handful of strings (`read`, `write`, `n3`, `timeout`) millions of times. A [`Sym`] is four bytes,
//! copies freely and compares by number; the text lives once, for the life of the process.

use std::collections::HashMap;
use std::fmt;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{LazyLock, OnceLock, RwLock};

/// An interned string. Equal text always has an equal `Sym` within one process; the number itself means nothing
/// outside it and is never written to disk.
#[derive(Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Sym(u32);

/// Text -> number.
static TABLE: LazyLock<RwLock<HashMap<&'static str, u32>>> = LazyLock::new(RwLock::default);

/// About how many bytes all of this takes.
static BYTES: AtomicU64 = AtomicU64::new(0);

/// What a text takes besides itself (bytes): its entries in the table and in the list.
const ENTRY_BYTES: u64 = 64;

/// How many texts the first segment holds; each one after it holds twice as many.
const FIRST: usize = 64;

type Segment = Box<[OnceLock<&'static str>]>;

/// Number -> text, in segments that never move: reading takes no lock.
static TEXTS: [OnceLock<Segment>; 27] = [const { OnceLock::new() }; 27];

/// Segment of a number, and its place in it.
fn place(id: u32) -> (usize, usize) {
    let n = id as usize + FIRST;
    let segment = (n / FIRST).ilog2() as usize;
    (segment, n - (FIRST << segment))
}

impl Sym {
    /// Interns `text`. Texts are kept until the process ends, so intern vocabularies, not payloads without bound.
    ///
    /// # Panics
    /// When four billion different strings have been interned.
    pub fn new(text: &str) -> Self {
        // A panic while holding the lock can only come from running out of memory: the table stays usable.
        if let Some(&id) = TABLE.read().unwrap_or_else(|e| e.into_inner()).get(text) {
            return Self(id);
        }
        let mut table = TABLE.write().unwrap_or_else(|e| e.into_inner());
        if let Some(&id) = table.get(text) {
            return Self(id);
        }
        let id = u32::try_from(table.len()).expect("four billion interned strings");
        let text: &'static str = Box::leak(text.to_owned().into_boxed_str());
        let (segment, at) = place(id);
        let texts = TEXTS[segment].get_or_init(|| (0..FIRST << segment).map(|_| OnceLock::new()).collect());
        // Under the lock nobody else has this number.
        let _ = texts[at].set(text);
        BYTES.fetch_add(text.len() as u64 + ENTRY_BYTES, Ordering::Relaxed);
        table.insert(text, id);
        Self(id)
    }

    /// About how many bytes all texts so far take: they are kept until the process ends.
    pub fn table_bytes() -> u64 {
        BYTES.load(Ordering::Relaxed)
    }

    /// The number, for columns of a history in this process.
    pub(crate) fn id(self) -> u32 {
        self.0
    }

    /// The `Sym` with this number, which must have come from [`Sym::id`] in this process.
    pub(crate) fn from_id(id: u32) -> Self {
        Self(id)
    }

    /// The text.
    pub fn as_str(self) -> &'static str {
        let (segment, at) = place(self.0);
        // Every number was given out together with its text.
        TEXTS[segment].get().and_then(|texts| texts[at].get()).copied().unwrap_or("")
    }
}

impl fmt::Debug for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.as_str())
    }
}

impl fmt::Display for Sym {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.pad(self.as_str())
    }
}

impl From<&str> for Sym {
    fn from(text: &str) -> Self {
        Self::new(text)
    }
}

impl PartialEq<str> for Sym {
    fn eq(&self, other: &str) -> bool {
        self.as_str() == other
    }
}

impl PartialEq<&str> for Sym {
    fn eq(&self, other: &&str) -> bool {
        self.as_str() == *other
    }
}

//! The state machine: keys with JSON values, and what is remembered of requests so that none applies twice.

use serde::{Deserialize, Serialize};
use serde_json::Value as Json;
use std::collections::BTreeMap;

/// Sessions remembered; the one used longest ago goes first.
const SESSIONS_MAX: usize = 10_000;

/// What a client wants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Command {
    /// Sets a key.
    Put {
        /// Which.
        key: String,
        /// To what.
        value: Json,
    },
    /// Sets a key if it has the expected value (null for an absent one).
    Cas {
        /// Which.
        key: String,
        /// If it is this.
        expected: Json,
        /// To what.
        new: Json,
    },
    /// Removes a key.
    Delete {
        /// Which.
        key: String,
    },
}

/// A command and who sent it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Request {
    /// A session; its requests come one after another.
    pub session: String,
    /// Number of the request within the session; the same number again is the same request again.
    pub sequence: u64,
    /// What to do.
    pub command: Command,
}

/// What came of it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub enum Applied {
    /// Done.
    Done,
    /// The compare-and-set found this.
    Mismatch(Json),
    /// An answer to a request older than the session's last: the client has its answer already.
    Old,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Session {
    sequence: u64,
    applied: Applied,
    /// Entry at which it was last used.
    used: u64,
}

/// The whole state.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(from = "Saved")]
pub struct Store {
    values: BTreeMap<String, Json>,
    sessions: BTreeMap<String, Session>,
    /// Which session was used last at which entry.
    #[serde(skip_serializing)]
    by_use: BTreeMap<u64, String>,
    /// Sum of [`fingerprint`] over all keys: kept up to date, because a node is asked for it at any time.
    #[serde(skip_serializing)]
    hash: u64,
}

/// What a snapshot holds of a [`Store`]; the rest follows from it.
#[derive(Deserialize)]
struct Saved {
    values: BTreeMap<String, Json>,
    sessions: BTreeMap<String, Session>,
}

impl From<Saved> for Store {
    fn from(Saved { values, sessions }: Saved) -> Self {
        let by_use = sessions.iter().map(|(name, session)| (session.used, name.clone())).collect();
        let hash = values.iter().fold(0, |sum: u64, (key, value)| sum.wrapping_add(fingerprint(key, value)));
        Self { values, sessions, by_use, hash }
    }
}

/// FNV-1a, then the last step of SplitMix64, without which sums of similar keys would look alike.
fn fingerprint(key: &str, value: &Json) -> u64 {
    let value = value.to_string();
    // No text holds the byte 0xff, so key and value cannot run into each other.
    let bytes = key.bytes().chain([0xff]).chain(value.bytes());
    let sum = bytes.fold(0xcbf2_9ce4_8422_2325, |sum, byte| (sum ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
    let sum = (sum ^ (sum >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let sum = (sum ^ (sum >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    sum ^ (sum >> 31)
}

impl Store {
    /// The value of `key`; null when absent.
    pub fn get(&self, key: &str) -> Json {
        self.values.get(key).cloned().unwrap_or_default()
    }

    /// How many keys there are.
    pub fn keys(&self) -> usize {
        self.values.len()
    }

    /// Applies the request in entry `index`. `dedupe` is false only with the planted bug `apply-twice`.
    pub fn apply(&mut self, index: u64, request: Request, dedupe: bool) -> Applied {
        let known = self.sessions.get(&request.session).filter(|_| dedupe);
        let applied = match known {
            Some(session) if request.sequence < session.sequence => return Applied::Old,
            Some(session) if request.sequence == session.sequence => session.applied.clone(),
            _ => self.change(request.command),
        };
        let session = Session { sequence: request.sequence, applied: applied.clone(), used: index };
        if let Some(before) = self.sessions.insert(request.session.clone(), session) {
            self.by_use.remove(&before.used);
        }
        self.by_use.insert(index, request.session);
        if self.sessions.len() > SESSIONS_MAX
            && let Some((_, oldest)) = self.by_use.pop_first()
        {
            // By the log's own clock, so that every replica forgets the same one.
            self.sessions.remove(&oldest);
        }
        applied
    }

    fn change(&mut self, command: Command) -> Applied {
        match command {
            Command::Put { key, value } => self.set(key, value),
            Command::Delete { key } => self.set(key, Json::Null),
            Command::Cas { key, expected, new } => {
                let current = self.get(&key);
                if current == expected { self.set(key, new) } else { Applied::Mismatch(current) }
            }
        }
    }

    fn set(&mut self, key: String, value: Json) -> Applied {
        if let Some(before) = self.values.get(&key) {
            self.hash = self.hash.wrapping_sub(fingerprint(&key, before));
        }
        if value.is_null() {
            self.values.remove(&key);
        } else {
            self.hash = self.hash.wrapping_add(fingerprint(&key, &value));
            self.values.insert(key, value);
        }
        Applied::Done
    }

    /// Checksum of the values, the same on every replica at the same entry. O(1).
    pub fn hash(&self) -> u64 {
        self.hash
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use serde_json::json;

    fn request(sequence: u64, command: Command) -> Request {
        Request { session: "s".to_owned(), sequence, command }
    }

    #[test]
    fn a_request_applies_once() {
        let mut store = Store::default();
        let put = |value: i64| Command::Put { key: "a".to_owned(), value: json!(value) };
        let cas = Command::Cas { key: "a".to_owned(), expected: json!(1), new: json!(2) };
        assert_eq!(store.apply(1, request(1, put(1)), true), Applied::Done);
        assert_eq!(store.apply(2, request(2, cas.clone()), true), Applied::Done);
        assert_eq!(store.apply(3, request(2, cas.clone()), true), Applied::Done, "the same answer again");
        assert_eq!(store.apply(4, request(1, put(1)), true), Applied::Old);
        assert_eq!(store.get("a"), json!(2));
        assert_eq!(store.apply(5, request(3, cas.clone()), true), Applied::Mismatch(json!(2)));
        assert_eq!(store.apply(6, request(1, put(1)), false), Applied::Done, "the planted bug");
        assert_eq!(store.get("a"), json!(1));
    }

    #[test]
    fn null_is_absence() {
        let mut store = Store::default();
        let cas = Command::Cas { key: "a".to_owned(), expected: Json::Null, new: json!(7) };
        assert_eq!(store.apply(1, request(1, cas), true), Applied::Done);
        store.apply(2, request(2, Command::Delete { key: "a".to_owned() }), true);
        assert_eq!((store.get("a"), store.keys()), (Json::Null, 0));
    }

    #[test]
    fn old_sessions_are_forgotten_the_same_everywhere() {
        let mut store = Store::default();
        for n in 0..SESSIONS_MAX as u64 + 50 {
            let command = Command::Delete { key: "a".to_owned() };
            store.apply(n, Request { session: format!("s{n}"), sequence: 1, command }, true);
        }
        assert_eq!((store.sessions.len(), store.by_use.len()), (SESSIONS_MAX, SESSIONS_MAX));
        assert!(!store.sessions.contains_key("s0"));
        assert!(store.sessions.contains_key("s50"));
    }

    proptest! {
        /// A replica that comes from a snapshot is the same in everything as one that applied all entries, whenever the
        /// snapshot was taken; and the checksum tells different values apart.
        #[test]
        fn a_snapshot_loses_nothing(
            requests in prop::collection::vec((0..4u64, 0..6u64, 0..3u8, 0..3i64, 0..3i64), 0..60),
            at in 0..60usize,
        ) {
            let requests = requests.into_iter().map(|(session, sequence, key, a, b)| {
                let key = format!("k{key}");
                let command = match (a, b) {
                    (0, 0) => Command::Delete { key },
                    (0, _) => Command::Put { key, value: json!(b) },
                    _ => Command::Cas { key, expected: json!(a), new: json!(b) },
                };
                Request { session: format!("s{session}"), sequence, command }
            });
            let (mut whole, mut restored) = (Store::default(), Store::default());
            for (n, request) in requests.enumerate() {
                if n == at {
                    restored = serde_json::from_str(&serde_json::to_string(&whole).unwrap()).unwrap();
                }
                let before = whole.clone();
                let answer = whole.apply(n as u64 + 1, request.clone(), true);
                if n >= at {
                    prop_assert_eq!(restored.apply(n as u64 + 1, request, true), answer);
                    prop_assert_eq!(&restored, &whole);
                }
                prop_assert_eq!(before.hash() == whole.hash(), before.values == whole.values);
            }
        }
    }
}

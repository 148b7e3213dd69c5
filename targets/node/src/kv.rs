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
pub struct Store {
    values: BTreeMap<String, Json>,
    sessions: BTreeMap<String, Session>,
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
        if dedupe && let Some(session) = self.sessions.get_mut(&request.session) {
            if request.sequence == session.sequence {
                session.used = index;
                return session.applied.clone();
            }
            if request.sequence < session.sequence {
                return Applied::Old;
            }
        }
        let applied = self.change(request.command);
        let session = Session { sequence: request.sequence, applied: applied.clone(), used: index };
        self.sessions.insert(request.session, session);
        if self.sessions.len() > SESSIONS_MAX {
            // By the log's own clock, so that every replica forgets the same one.
            let oldest = self.sessions.iter().min_by_key(|(_, s)| s.used).map(|(name, _)| name.clone());
            oldest.and_then(|name| self.sessions.remove(&name));
        }
        applied
    }

    fn change(&mut self, command: Command) -> Applied {
        let set = |values: &mut BTreeMap<String, Json>, key: String, value: Json| {
            if value.is_null() {
                values.remove(&key)
            } else {
                values.insert(key, value)
            };
            Applied::Done
        };
        match command {
            Command::Put { key, value } => set(&mut self.values, key, value),
            Command::Delete { key } => set(&mut self.values, key, Json::Null),
            Command::Cas { key, expected, new } => {
                let current = self.get(&key);
                if current == expected { set(&mut self.values, key, new) } else { Applied::Mismatch(current) }
            }
        }
    }

    /// Checksum of the state, the same on every replica at the same entry.
    pub fn hash(&self) -> u32 {
        crc32fast::hash(serde_json::to_string(&self.values).unwrap_or_default().as_bytes())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
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
        assert_eq!(store.sessions.len(), SESSIONS_MAX);
        assert!(!store.sessions.contains_key("s0"));
    }
}

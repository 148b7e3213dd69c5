//! Faults in force, from the nemesis events of a history.

use crate::{Event, EventKind, History, Value};
use serde::Serialize;

/// A fault and how long it was in force.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub(super) struct Fault {
    /// `partition {n1 n2 | n3}`.
    pub(super) what: String,
    /// When it began (nanoseconds since the run's start), and at which event.
    pub(super) from_ns: u64,
    pub(super) from: u64,
    /// The same for its end; without one it lasted.
    pub(super) to_ns: Option<u64>,
    pub(super) to: Option<u64>,
}

/// Our own events say what they are about: a map with `id`, `action`, `targets` and `outcome`. Those of others come in pairs
/// of equal names or as `start…` and `stop…`, as with Jepsen.
pub(super) fn of(history: &History) -> Vec<Fault> {
    let mut found: Vec<(String, Fault)> = Vec::new();
    for event in history.iter().filter(|event| event.kind == EventKind::Nemesis) {
        match (field(&event, "id"), field(&event, "action").as_deref()) {
            (Some(id), Some("inject")) => {
                let outcome = field(&event, "outcome");
                if outcome.is_none_or(|outcome| outcome == "installed" || outcome == "indeterminate") {
                    let targets = field(&event, "targets").unwrap_or_default();
                    found.push((id, fault(&event, format!("{} {targets}", event.f))));
                }
            }
            (Some(id), Some("heal")) => end(&mut found, &id, &event),
            (Some(_), _) => {}
            (None, _) => of_others(&mut found, &event),
        }
    }
    found.into_iter().map(|(_, fault)| fault).collect()
}

fn of_others(found: &mut Vec<(String, Fault)>, event: &Event) {
    let f = event.f.as_str();
    let begins = ["start-", "start"].iter().find_map(|word| f.strip_prefix(word));
    let ends = ["stop-", "stop", "heal-", "heal"].iter().find_map(|word| f.strip_prefix(word));
    match (begins, ends) {
        (_, Some(name)) => end(found, name, event),
        (Some(name), None) => {
            // Jepsen tells both that it begins and that it has begun.
            if !found.iter().any(|(id, fault)| id == name && fault.to.is_none()) {
                found.push((name.to_owned(), fault(event, format!("{f} {}", event.value))));
            }
        }
        (None, None) => {}
    }
}

fn fault(event: &Event, what: String) -> Fault {
    let what = what.trim().trim_end_matches("nil").trim_end().to_owned();
    Fault { what, from_ns: event.time_ns, from: event.index, to_ns: None, to: None }
}

fn end(found: &mut [(String, Fault)], id: &str, event: &Event) {
    for (_, open) in found.iter_mut().filter(|(other, fault)| other == id && fault.to.is_none()) {
        (open.to_ns, open.to) = (Some(event.time_ns), Some(event.index));
    }
}

fn field(event: &Event, name: &str) -> Option<String> {
    let Value::Map(entries) = &event.value else { return None };
    let (_, value) = entries.iter().find(|(key, _)| *key == Value::str(name))?;
    Some(value.to_string())
}

//! What the nemesis had in force at some time, by the events of a saved history.

use squall_checkers::{Event, EventKind, History, Value, seconds};

/// From injection to healing; never healed is for ever.
struct Interval {
    id: String,
    what: String,
    begin_ns: u64,
    end_ns: Option<u64>,
}

/// In a few words each: `partition {n4 | n1 n2 n3 n5} from 14.800 s to 17.803 s`.
pub(crate) fn in_force_between(history: &History, from_ns: u64, to_ns: u64) -> Vec<String> {
    let touches = |i: &&Interval| i.begin_ns <= to_ns && i.end_ns.is_none_or(|end| end >= from_ns);
    let words = |i: &Interval| match i.end_ns {
        Some(end) => format!("{} from {} s to {} s", i.what, seconds(i.begin_ns), seconds(end)),
        None => format!("{} since {} s", i.what, seconds(i.begin_ns)),
    };
    intervals(history).iter().filter(touches).map(words).collect()
}

fn intervals(history: &History) -> Vec<Interval> {
    let mut found: Vec<Interval> = Vec::new();
    for event in history.iter().filter(|event| event.kind == EventKind::Nemesis) {
        let (Some(id), Some(action)) = (field(&event, "id"), field(&event, "action")) else { continue };
        match (action.as_str(), field(&event, "outcome").as_deref()) {
            ("inject", Some("installed" | "indeterminate")) => {
                let what = format!("{} {}", event.f, field(&event, "targets").unwrap_or_default());
                found.push(Interval { id, what, begin_ns: event.time_ns, end_ns: None });
            }
            ("heal", Some("healed")) => {
                for open in found.iter_mut().filter(|open| open.id == id && open.end_ns.is_none()) {
                    open.end_ns = Some(event.time_ns);
                }
            }
            _ => {}
        }
    }
    found
}

/// A field of what a nemesis event holds, as text.
pub(crate) fn field(event: &Event, name: &str) -> Option<String> {
    let Value::Map(entries) = &event.value else { return None };
    let (_, value) = entries.iter().find(|(key, _)| *key == Value::str(name))?;
    Some(match value {
        Value::Str(text) => text.as_str().to_owned(),
        other => other.to_string(),
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_checkers::Sym;

    fn event(index: u64, time_ns: u64, action: &str, outcome: &str) -> Event {
        let pairs = [("id", "1-kill"), ("action", action), ("targets", "n2"), ("outcome", outcome)];
        Event {
            index,
            time_ns,
            kind: EventKind::Nemesis,
            process: 0,
            f: Sym::new("kill"),
            key: Value::Nil,
            value: Value::Map(pairs.into_iter().map(|(k, v)| (Value::str(k), Value::str(v))).collect()),
            node: None,
            intended_ns: None,
            error: None,
        }
    }

    #[test]
    fn faults_that_overlap_are_named() {
        let second = 1_000_000_000;
        let history =
            History::from_events([event(0, 2 * second, "inject", "installed"), event(1, 4 * second, "heal", "healed")])
                .unwrap();
        let between = |from: u64, to: u64| in_force_between(&history, from * second, to * second);
        assert!(between(0, 1).is_empty());
        assert!(between(5, 9).is_empty());
        assert_eq!(between(3, 9), ["kill n2 from 2.000 s to 4.000 s"]);
        let skipped = History::from_events([event(0, second, "inject", "skipped")]).unwrap();
        assert!(in_force_between(&skipped, 0, 9 * second).is_empty());
    }
}

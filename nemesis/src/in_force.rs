//! What the nemesis had in force at some moment, by the events of a saved history.

use squall_checkers::{EventKind, History, Value, seconds};

/// In a few words each: `partition {n4 | n1 n2 n3 n5} since 14.800 s`.
pub(crate) fn in_force_at(history: &History, time_ns: u64) -> Vec<String> {
    let mut open: Vec<(String, String)> = Vec::new();
    for event in history.iter().take_while(|event| event.time_ns <= time_ns) {
        if event.kind != EventKind::Nemesis {
            continue;
        }
        let field = |name: &str| match &event.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| *key == Value::str(name)).map(|(_, v)| text(v)),
            _ => None,
        };
        let (Some(id), Some(action)) = (field("id"), field("action")) else { continue };
        match (action.as_str(), field("outcome").as_deref()) {
            ("inject", Some("installed" | "indeterminate")) => {
                let targets = field("targets").unwrap_or_default();
                open.push((id, format!("{} {targets} since {} s", event.f, seconds(event.time_ns))));
            }
            ("heal", Some("healed")) => open.retain(|(other, _)| *other != id),
            _ => {}
        }
    }
    open.into_iter().map(|(_, what)| what).collect()
}

fn text(value: &Value) -> String {
    match value {
        Value::Str(text) => text.as_str().to_owned(),
        other => other.to_string(),
    }
}

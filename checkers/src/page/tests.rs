//! What a page must hold, and what must not get into it.

use super::*;
use crate::testing::history;
use crate::{CheckOptions, Event, EventKind, Value, linear};

fn page_of(history: &History, model: ModelKind) -> String {
    let options = CheckOptions { deadline: None, ..CheckOptions::default() };
    let result = linear::check(history, model, &options);
    render(history, &result, &PageOptions::new("stale <read>", model)).unwrap()
}

/// The embedded data.
fn data_of(page: &str) -> serde_json::Value {
    let (_, rest) = page.split_once(r#"<script id="data" type="application/json">"#).unwrap();
    serde_json::from_str(rest.split_once("</script>").unwrap().0).unwrap()
}

fn with_faults(history: &History) -> History {
    let mut events: Vec<Event> = history.iter().collect();
    let nemesis = |action: &str, time_ns| {
        let pairs = [("id", "1-partition"), ("action", action), ("targets", "{n1 | n2}"), ("outcome", "installed")];
        Event {
            index: 0,
            time_ns,
            kind: EventKind::Nemesis,
            process: 0,
            f: "partition".into(),
            key: Value::Nil,
            value: Value::Map(pairs.into_iter().map(|(k, v)| (Value::str(k), Value::str(v))).collect()),
            node: None,
            intended_ns: None,
            error: None,
        }
    };
    events.insert(2, nemesis("inject", 1));
    events.push(nemesis("heal", 9));
    History::from_events(events.into_iter().enumerate().map(|(i, event)| Event { index: i as u64, ..event })).unwrap()
}

#[test]
fn the_data_of_a_stale_read() {
    let history = with_faults(&history("p0 w1 0..1; p1 w2 2..3; p2 r2 4..5; p3 r1 6..7; p4 w3 6..; p5 w4! 8..9"));
    let data = data_of(&page_of(&history, ModelKind::Register));
    insta::assert_snapshot!(serde_json::to_string_pretty(&data).unwrap());
}

#[test]
fn a_valid_history_has_an_order_of_everything() {
    let data = data_of(&page_of(&history("p0 w1 0..5; p1 w2 1..4; p2 r1 2..3; p0 r2 6..7"), ModelKind::Register));
    let tree = &data["keys"][0]["tree"];
    assert_eq!(tree["complete"], true);
    assert_eq!(tree["op"].as_array().unwrap().len(), 4);
    assert!(data["keys"][0]["explanation"].is_null());
}

#[test]
fn hostile_values_stay_text() {
    let hostile = "</script><script>alert(1)</script><!-- {{js}} \u{2028}";
    let mut events: Vec<Event> = history("p0 r1 0..1").iter().collect();
    events[0].key = Value::str(hostile);
    events[1].key = Value::str(hostile);
    events[1].value = Value::str(hostile);
    let page = page_of(&History::from_events(events).unwrap(), ModelKind::Register);
    assert!(!page.contains("alert(1)</script>"), "a value ends the data");
    assert_eq!(page.matches("<script").count(), 2, "nothing but the data and the page's own script");
    assert_eq!(page.matches("</script>").count(), 2);
    assert!(!page.contains("<title>stale <read>"), "the title is text");
    let data = data_of(&page);
    assert_eq!(data["keys"][0]["key"], hostile);
    assert_eq!(data["keys"][0]["ops"]["text"][0], format!("read -> {hostile}"));
}

#[test]
fn nothing_else_is_needed() {
    let page = page_of(&history("p0 w1 0..1; p1 r1 2..3"), ModelKind::Register);
    for foreign in ["http:", "https:", "src=", "href=", "@import", "url(", "fetch(", "XMLHttpRequest", "{{"] {
        assert!(!page.contains(foreign), "{foreign}");
    }
    assert!(page.starts_with("<!doctype html>") && page.trim_end().ends_with("</html>"));
}

#[test]
fn a_key_that_is_not_there_is_named() {
    let history = history("p0 w1 0..1");
    let result = linear::check(&history, ModelKind::Register, &CheckOptions::default());
    let options = PageOptions { key: Some("7".into()), ..PageOptions::new("x", ModelKind::Register) };
    let error = render(&history, &result, &options).unwrap_err();
    assert_eq!(error.to_string(), "no operation of the history acts on key 7");
}

#[test]
fn faults_of_others_come_in_pairs() {
    let event = |index: u64, f: &str| Event {
        index,
        time_ns: index,
        kind: EventKind::Nemesis,
        process: 0,
        f: f.into(),
        key: Value::Nil,
        value: Value::Nil,
        node: None,
        intended_ns: None,
        error: None,
    };
    let names = ["start-partition", "start-partition", "start", "stop-partition", "stop-partition"];
    let history = History::from_events(names.iter().enumerate().map(|(i, f)| event(i as u64, f))).unwrap();
    let found: Vec<_> = faults::of(&history).into_iter().map(|fault| (fault.what, fault.from, fault.to)).collect();
    assert_eq!(found, [("start-partition".to_owned(), 0, Some(3)), ("start".to_owned(), 2, None)]);
}

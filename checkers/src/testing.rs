//! A mini-language for histories, and random ones, for tests.
//!
//! `p0 w1 0..3; p1 r1 1..2; p2 c1>2 4..; p3 c1>2! 5..6` is: process 0 writes 1 from time 0 to 3, process 1 reads 1,
//! process 2 compares 1 and sets 2 and is never answered, process 3's attempt fails. `r_` reads nil; for keys `g`, `p`,
//! `a`, `d` are get, put, append (of texts) and delete.

use crate::{Event, EventKind, History, Value};

/// A history in the mini-language.
pub(crate) fn history(text: &str) -> History {
    let mut events: Vec<(u64, bool, Event)> = Vec::new();
    for op in text.split(';').map(str::trim).filter(|op| !op.is_empty()) {
        let fields: Vec<&str> = op.split_whitespace().collect();
        let [process, what, window] = fields[..] else { panic!("{op}: three words make an operation") };
        let process: u32 = process.trim_start_matches('p').parse().expect("a process such as p0");
        let (start, end) = window.split_once("..").expect("a window such as 0..3");
        let start: u64 = start.parse().expect("a start");
        let (what, failed) = what.strip_suffix('!').map_or((what, false), |what| (what, true));
        let (f, argument, result) = parse(what);
        let event = |kind, time_ns, value| Event {
            index: 0,
            time_ns,
            kind,
            process,
            f: f.into(),
            key: Value::Nil,
            value,
            node: None,
            intended_ns: None,
            error: None,
        };
        events.push((start, false, event(EventKind::Invoke, start, argument)));
        if let Ok(end) = end.parse() {
            let kind = if failed { EventKind::Fail } else { EventKind::Ok };
            events.push((end, true, event(kind, end, result)));
        }
    }
    // At the same time, calls come first: then the operations overlap.
    events.sort_by_key(|&(time, is_return, _)| (time, is_return));
    let events = events.into_iter().enumerate().map(|(index, (_, _, event))| Event { index: index as u64, ..event });
    History::from_events(events).expect("indexes are dense")
}

fn parse(what: &str) -> (&'static str, Value, Value) {
    let number = |text: &str| match text {
        "_" => Value::Nil,
        _ => Value::Int(text.parse().expect("a number")),
    };
    let text = |text: &str| if text == "_" { Value::Nil } else { Value::str(text) };
    let (f, rest) = what.split_at(1);
    match f {
        "r" => ("read", Value::Nil, number(rest)),
        "w" => ("write", number(rest), number(rest)),
        "c" => {
            let (expected, new) = rest.split_once('>').expect("a cas such as c1>2");
            let pair = Value::list([number(expected), number(new)]);
            ("cas", pair.clone(), pair)
        }
        "g" => ("get", Value::Nil, text(rest)),
        "p" => ("put", text(rest), Value::Nil),
        "a" => ("append", text(rest), Value::Nil),
        "d" => ("delete", Value::Nil, Value::Nil),
        other => panic!("unknown operation {other}"),
    }
}

//! The format against itself, against cuts and against damage.

use crate::event::ALL_KINDS;
use crate::{Event, EventKind, HistoryError, HistoryReader, HistoryWriter, Value};
use proptest::prelude::*;
use std::io::Cursor;
use std::path::Path;

fn value() -> impl Strategy<Value = Value> {
    let text = prop_oneof![
        Just("n1".to_owned()),
        Just("$map".to_owned()),
        Just("\u{0}\u{1f}\u{7f}\"\\\n\t\r/ü𝄞".to_owned()),
        "[a-c]{0,3}",
    ];
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        (-3i64..3).prop_map(Value::Int),
        text.prop_map(|t| Value::str(&t)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::list),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(|pairs| Value::Map(pairs.into())),
        ]
    })
}

fn event() -> impl Strategy<Value = Event> {
    let sym = prop::sample::select(vec!["read", "write", "n1", "ti\"me\nout", ""]);
    (
        (any::<u64>(), prop::sample::select(ALL_KINDS.to_vec()), any::<u32>(), sym.clone()),
        (value(), value()),
        (prop::option::of(sym.clone()), prop::option::of(any::<u64>()), prop::option::of(sym)),
    )
        .prop_map(|((time_ns, kind, process, f), (key, value), (node, intended_ns, error))| Event {
            index: 0,
            time_ns,
            kind,
            process,
            f: f.into(),
            key,
            value,
            node: node.map(Into::into),
            intended_ns,
            error: error.map(Into::into),
        })
}

fn numbered(mut events: Vec<Event>) -> Vec<Event> {
    events.iter_mut().enumerate().for_each(|(at, event)| event.index = at as u64);
    events
}

/// The bytes of a history file with a frame after each `frame_events` events.
fn file_of(events: &[Event], frame_events: usize) -> Vec<u8> {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.history");
    let mut writer = HistoryWriter::create(&path).unwrap();
    for (at, event) in events.iter().enumerate() {
        writer.append(event).unwrap();
        if at % frame_events == frame_events - 1 {
            writer.flush().unwrap();
        }
    }
    writer.sync().unwrap();
    std::fs::read(&path).unwrap()
}

fn read(bytes: &[u8]) -> (Vec<Event>, Option<crate::Truncated>, Option<HistoryError>) {
    let mut reader = HistoryReader::new(Path::new("test.history"), Box::new(Cursor::new(bytes.to_vec())));
    let mut events = Vec::new();
    let mut error = None;
    for event in &mut reader {
        match event {
            Ok(event) => events.push(event),
            Err(e) => error = Some(e),
        }
    }
    (events, reader.truncated(), error)
}

fn sample(len: usize) -> Vec<Event> {
    (0..len as u64)
        .map(|index| Event {
            index,
            time_ns: index * 1_000_003,
            kind: if index % 2 == 0 { EventKind::Invoke } else { EventKind::Ok },
            process: (index / 2 % 5) as u32,
            f: ["read", "write", "cas"][index as usize / 2 % 3].into(),
            key: Value::Int(index as i64 % 7),
            value: Value::Int(index as i64 * 17),
            node: Some("n1".into()),
            intended_ns: None,
            error: None,
        })
        .collect()
}

proptest! {
    #[test]
    fn every_event_comes_back(events in prop::collection::vec(event(), 0..20), frame_events in 1usize..8) {
        let events = numbered(events);
        let (got, truncated, error) = read(&file_of(&events, frame_events));
        prop_assert_eq!(got, events);
        prop_assert!(truncated.is_none());
        prop_assert!(error.is_none(), "{:?}", error);
    }

    #[test]
    fn garbage_is_refused_without_panic(bytes in prop::collection::vec(any::<u8>(), 0..200)) {
        let (events, _, _) = read(&bytes);
        prop_assert!(events.is_empty());
    }

    #[test]
    fn damage_never_yields_wrong_events(flips in prop::collection::vec((any::<prop::sample::Index>(), 0u8..8), 1..4)) {
        let events = sample(120);
        let mut bytes = file_of(&events, 16);
        for (at, bit) in flips {
            let at = at.index(bytes.len());
            bytes[at] ^= 1 << bit;
        }
        let (got, _, _) = read(&bytes);
        prop_assert!(got.len() <= events.len());
        prop_assert_eq!(&got[..], &events[..got.len()]);
    }
}

#[test]
fn any_single_bit_flip_is_noticed_and_placed() {
    let events = sample(60);
    let frame_events = 12;
    let intact = file_of(&events, frame_events);
    let starts: Vec<usize> = frame_starts(&intact);
    let mut harmless = 0;
    for at in 0..intact.len() {
        for bit in 0..8 {
            let mut bytes = intact.clone();
            bytes[at] ^= 1 << bit;
            let frame = starts.partition_point(|&start| start <= at) - 1;
            let (got, truncated, error) = read(&bytes);
            if got == events && error.is_none() && truncated.is_none() {
                // A few bits of compressed data mean nothing: the checksum is that of the content.
                harmless += 1;
                continue;
            }
            assert!(got == events[..frame * frame_events], "byte {at} bit {bit}: {} events", got.len());
            match error {
                Some(HistoryError::CorruptFrame { frame: found, offset, events_intact, .. }) => {
                    assert_eq!(
                        (found, offset, events_intact),
                        (frame as u64, starts[frame] as u64, (frame * frame_events) as u64),
                        "byte {at} bit {bit}"
                    );
                }
                Some(other) => panic!("byte {at} bit {bit}: {other}"),
                // In the last frame, a damaged size cannot be told from a cut.
                None => {
                    assert!(truncated.is_some() && frame == starts.len() - 1, "byte {at} bit {bit}: not noticed");
                }
            }
        }
    }
    assert!(harmless * 100 < intact.len() * 8, "{harmless} of {} bits do nothing", intact.len() * 8);
}

fn frame_starts(bytes: &[u8]) -> Vec<usize> {
    let mut starts = vec![];
    let mut at = 0;
    while at < bytes.len() {
        starts.push(at);
        at += zstd::zstd_safe::find_frame_compressed_size(&bytes[at..]).unwrap();
    }
    starts
}

#[test]
fn cut_anywhere_the_rest_is_readable() {
    let events = sample(60);
    let bytes = file_of(&events, 12);
    let starts = frame_starts(&bytes);
    for len in 0..bytes.len() {
        let whole = starts.partition_point(|&start| start <= len) - 1;
        let (got, truncated, error) = read(&bytes[..len]);
        assert!(error.is_none(), "cut to {len}: {error:?}");
        assert_eq!(got, events[..whole * 12], "cut to {len}");
        assert_eq!(truncated.is_some(), starts[whole] != len, "cut to {len}");
        if let Some(truncated) = truncated {
            assert_eq!((truncated.events, truncated.offset), (whole as u64 * 12, starts[whole] as u64));
        }
    }
}

#[test]
fn a_lost_frame_in_the_middle_is_a_gap() {
    let bytes = file_of(&sample(60), 12);
    let starts = frame_starts(&bytes);
    let without_second = [&bytes[..starts[1]], &bytes[starts[2]..]].concat();
    let (got, _, error) = read(&without_second);
    assert_eq!(got.len(), 12);
    assert!(matches!(error, Some(HistoryError::IndexGap { expected: 12, found: 24 })), "{error:?}");
}

#[test]
fn large_histories_span_frames_and_read_buffers() {
    let events = sample(60_000);
    let bytes = file_of(&events, usize::MAX);
    assert!(frame_starts(&bytes).len() > 10);
    let (got, truncated, error) = read(&bytes);
    assert!(truncated.is_none() && error.is_none());
    assert_eq!(got, events);
}

#[test]
fn a_full_disk_is_an_error() {
    // Every write to /dev/full fails with ENOSPC; it exists on Linux only.
    if !Path::new("/dev/full").exists() {
        eprintln!("skipped: no /dev/full");
        return;
    }
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.history");
    let mut writer = HistoryWriter::create(&path).unwrap();
    writer.append(&sample(1)[0]).unwrap();
    writer.sync().unwrap();
    writer.replace_file(std::fs::OpenOptions::new().write(true).open("/dev/full").unwrap());
    writer.append(&sample(2)[1]).unwrap();
    let error = writer.sync().unwrap_err();
    assert!(matches!(error, HistoryError::Io { action: "append to", .. }), "{error}");
    // Room again: nothing was lost, and half a frame never stayed behind.
    writer.replace_file(std::fs::OpenOptions::new().append(true).open(&path).unwrap());
    writer.sync().unwrap();
    let (got, truncated, error) = read(&std::fs::read(&path).unwrap());
    assert_eq!(got, sample(2));
    assert!(truncated.is_none() && error.is_none());
}

#[test]
fn an_existing_history_is_never_overwritten() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.history");
    HistoryWriter::create(&path).unwrap();
    assert!(HistoryWriter::create(&path).is_err());
}

#[test]
fn bad_lines_say_where_and_what() {
    let table = [
        ("[]", "line 3, column 1: invalid type: sequence, expected an event as a JSON object"),
        (r#"{"type":"invoke"}"#, "line 3, column 17: field `f` is missing"),
        (r#"{"f":"x"}"#, "line 3, column 9: field `type` is missing"),
        (
            r#"{"type":"invok","f":"x"}"#,
            "line 3, column 15: unknown type `invok`; types are invoke, ok, fail, info, nemesis, phase",
        ),
        (r#"{"type":"ok","type":"ok"}"#, "line 3, column 25: field `type` appears twice"),
        (
            r#"{"value":1.5}"#,
            "line 3, column 12: invalid type: floating point `1.5`, expected null, a truth value, a whole number of 64 \
             bits, a string, a list or a map",
        ),
        (r#"{"process":-1}"#, "line 3, column 13: invalid value: integer `-1`, expected u32"),
    ];
    for (line, expected) in table {
        assert_eq!(super::parse_line(line.as_bytes(), 3, 0).unwrap_err().to_string(), expected);
    }
    let deep = format!("{{\"value\":{}", "[".repeat(100_000));
    assert!(super::parse_line(deep.as_bytes(), 1, 0).is_err());
}

#[test]
fn the_zstd_program_prints_json_lines() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.history");
    let events = sample(50);
    std::fs::write(&path, file_of(&events, 12)).unwrap();
    let Ok(output) = std::process::Command::new("zstd").arg("-dc").arg(&path).output() else {
        eprintln!("skipped: no zstd program");
        return;
    };
    assert!(output.status.success());
    let lines: Vec<&str> = std::str::from_utf8(&output.stdout).unwrap().lines().collect();
    assert_eq!(lines.len(), 50);
    assert_eq!(
        lines[3],
        r#"{"index":3,"time":3000009,"type":"ok","process":1,"f":"write","key":3,"value":51,"node":"n1"}"#
    );
}

proptest! {
    /// What is read without the general parser is read alike by it, whatever became of the line.
    #[test]
    fn the_short_way_agrees(event in event(), at in any::<prop::sample::Index>(), byte: u8, how in 0u8..4) {
        let mut line = Vec::new();
        super::Encoder::default().line(&mut line, &event);
        match how {
            0 => {}
            1 => *at.get_mut(&mut line) = byte,
            2 => line.insert(at.index(line.len()), byte),
            _ => drop(line.remove(at.index(line.len()))),
        }
        if let Some((short, len)) = super::fast::parse(&line, &mut super::fast::Vocabulary::new()) {
            let first = line.iter().position(|&byte| byte == b'\n').map_or(line.len(), |at| at + 1);
            prop_assert_eq!(len, first);
            let long = super::parse_line(&line[..len - 1], 1, 0);
            prop_assert_eq!(long.ok(), Some(short));
        }
    }
}

#[test]
fn all_cores_read_what_one_reads() {
    let bytes = file_of(&sample(300), 40);
    let cut = (0..bytes.len()).step_by(61).map(|len| bytes[..len].to_vec());
    let flipped = (0..bytes.len()).step_by(67).map(|at| {
        let mut damaged = bytes.clone();
        damaged[at] ^= 1 << (at % 8);
        damaged
    });
    let mut gap = bytes.clone();
    gap.extend(file_of(&sample(2), 2));
    let mut unusual = zstd::bulk::Compressor::new(1).unwrap();
    unusual.set_parameter(zstd::zstd_safe::CParameter::ChecksumFlag(true)).unwrap();
    let spaced = unusual.compress(b"\n{ \"type\": \"invoke\", \"process\": 0, \"f\": \"read\" }\n").unwrap();
    let file = tempfile::NamedTempFile::new().unwrap();
    for bytes in [bytes.clone(), gap, spaced].into_iter().chain(cut).chain(flipped) {
        let (events, truncated, error) = read(&bytes);
        std::fs::write(&file, &bytes).unwrap();
        match HistoryReader::read_file(&file) {
            Ok((history, note)) => {
                assert_eq!((history.iter().collect::<Vec<_>>(), note), (events, truncated));
                assert!(error.is_none(), "{error:?} was not noticed");
            }
            Err(other) => assert_eq!(Some(other.to_string()), error.map(|error| error.to_string())),
        }
    }
}

//! Formats are recognised, read, and written back.

use super::*;
use crate::{export_edn, export_jsonl};
use proptest::prelude::*;

fn lines(text: &str) -> Vec<String> {
    match read_text(text.as_bytes(), &ImportOptions::default()) {
        Ok(history) => history
            .iter()
            .map(|e| {
                let error = e.error.map(|e| format!(" ({e})")).unwrap_or_default();
                format!("{} p{} {} {} {}{error}", e.kind.as_str(), e.process, e.f, e.key, e.value)
            })
            .collect(),
        Err(error) => vec![error.to_string()],
    }
}

#[test]
fn formats_are_recognised_by_content() {
    let table: [(&str, Option<Format>); 19] = [
        ("[\n {\"ClientId\": 0}]", Some(Format::Porcupine)),
        ("{\"clientid\": 0, \"input\": {}, \"call\": 1}", Some(Format::Porcupine)),
        ("[\n {:type :ok}]", Some(Format::Edn)),
        ("{\"type\": \"ok\", \"f\": \"a\", \"value\": {\"input\": 1, \"call\": 2}}", Some(Format::JsonLines)),
        ("{\"ClientId\": 0, \"Input\": {", Some(Format::Porcupine)),
        ("{\"type\":\"ok\"}", Some(Format::JsonLines)),
        ("\n { \"type\":\"ok\"}", Some(Format::JsonLines)),
        ("{:type :ok}", Some(Format::Edn)),
        ("; c\n\n[{:type :ok}]", Some(Format::Edn)),
        ("({:type :ok})", Some(Format::Edn)),
        ("#jepsen.history.Op{:type :ok}", Some(Format::Edn)),
        ("INFO  jepsen.util - 0\t:invoke\t:read\tnil", Some(Format::JepsenLog)),
        ("0\t:invoke\t:read\tnil", Some(Format::JepsenLog)),
        ("# @object atomic-queue\n[1] call enq(1)", Some(Format::ObjectLog)),
        ("    [4] call push(c)", Some(Format::ObjectLog)),
        ("hello", None),
        ("", None),
        ("\n\n", None),
        ("{", Some(Format::Edn)),
    ];
    for (text, format) in table {
        assert_eq!(detect(text.as_bytes()), format, "{text:?}");
    }
    assert_eq!(detect(&ZSTD_MAGIC), Some(Format::History));
}

#[test]
fn jepsen_maps() {
    let text = "[{:type :invoke, :f :cas, :value [1 2], :process 4, :time 5, :other {:a 1}}\n\
                 {:process :nemesis, :type :info, :f :start, :value {\"n1\" #{\"n2\"}}}\n\
                 {:type :info, :f :cas, :value [1 2], :process 4, :error [:timeout \"x\"]}]";
    assert_eq!(
        lines(text),
        ["invoke p4 cas nil [1 2]", "nemesis p0 start nil {n1 [n2]}", "info p4 cas nil [1 2] ([timeout x])"]
    );
}

#[test]
fn independent_keys() {
    let text = "{:type :invoke :f :read :value [7 nil]}\n{:type :ok :f :read :value [7 3]}\n\
                {:type :invoke :f :read :value [8 nil]}\n{:type :fail :f :read :value nil}";
    let history = read_text(text.as_bytes(), &ImportOptions { independent_keys: true }).unwrap();
    let got: Vec<_> = history.iter().map(|e| (e.key, e.value)).collect();
    let int = Value::Int;
    assert_eq!(got, [(int(7), Value::Nil), (int(7), int(3)), (int(8), Value::Nil), (Value::Nil, Value::Nil)]);
    assert!(history.ops().is_ok());
    let error = read_text(b"{:type :ok :f :read :value 3}", &ImportOptions { independent_keys: true }).unwrap_err();
    assert!(error.to_string().contains("`[key value]`, not `3`"), "{error}");
}

#[test]
fn jepsen_log_lines() {
    let text = "INFO  jepsen.util - 3\t:invoke\t:cas\t[1 4]\nINFO  jepsen.core - Worker 3 starting\n\
                INFO  jepsen.util - 3\t:info\t:cas\t:timed-out\nINFO  jepsen.util - :nemesis\t:info\t:start\tnil\n";
    assert_eq!(lines(text), ["invoke p3 cas nil [1 4]", "info p3 cas nil nil (timed-out)", "nemesis p0 start nil nil"]);
    assert_eq!(lines("0\t:ok\t:read\t[1"), ["line 1, column 13: the bracket that opens here is never closed"]);
}

/// Later versions: a date, the thread, tabs; and lines before the first event.
#[test]
fn later_jepsen_logs() {
    let text = "2024-05-01 12:00:00,001{GMT}\tINFO\t[jepsen test runner] jepsen.core: Running test\n\
                2024-05-01 12:00:00,002{GMT}\tINFO\t[jepsen worker 3] jepsen.util: 3\t:invoke\t:read\tnil\n\
                2024-05-01 12:00:00,003{GMT}\tINFO\t[jepsen worker 3] jepsen.util: 3\t:ok\t:read\t4\n";
    assert_eq!(lines(text), ["invoke p3 read nil nil", "ok p3 read nil 4"]);
    assert_eq!(detect(b"INFO  jepsen.core - Running\nINFO  jepsen.util - 0\t:ok\t:read\t1"), Some(Format::JepsenLog));
    assert_eq!(detect(b"INFO  hello\nINFO  world"), None);
    let bad = "INFO  jepsen.util - x\t:ok\t:read\t1";
    assert_eq!(detect(bad.as_bytes()), None);
    let text = format!("0\t:invoke\t:read\tnil\n{bad}\n");
    assert_eq!(lines(&text), ["line 2, column 21: `x` is neither a process number nor `:nemesis`"]);
    let text = "0\t:invoke\t:read\tnil\nINFO  jepsen.util - 0\t:okay\t:read\t1\n";
    assert_eq!(lines(text), ["line 2, column 23: unknown type `:okay`"]);
}

#[test]
fn porcupine_operations() {
    let kv = r#"[{"ClientId":0,"Input":{"Op":1,"Key":"x","Value":"a"},"Call":10,"Output":{"Value":""},"Return":20},
                 {"ClientId":1,"Input":{"op":"get","key":"x"},"Call":15,"Output":{"value":"a"},"Return":30},
                 {"ClientId":1,"Input":{"op":2,"key":"x","value":"b"},"Call":30,"Output":null,"Return":null}]"#;
    assert_eq!(
        lines(kv),
        ["invoke p0 put x a", "invoke p1 get x nil", "ok p0 put x ", "invoke p2 append x b", "ok p1 get x a",]
    );
    let etcd = r#"{"ClientId":0,"Input":{"Op":1,"Arg1":3},"Call":-5,"Output":{"Unknown":true},"Return":2}
{"ClientId":0,"Input":{"Op":2,"Arg1":3,"Arg2":4},"Call":3,"Output":{"Ok":false},"Return":4}
{"ClientId":0,"Input":{"Op":0,"Arg1":0},"Call":6,"Output":{"Exists":true,"Value":3},"Return":7}"#;
    assert_eq!(
        lines(etcd),
        [
            "invoke p0 write nil 3",
            "info p0 write nil nil",
            "invoke p1 cas nil [3 4]",
            "fail p1 cas nil nil",
            "invoke p1 read nil nil",
            "ok p1 read nil 3",
        ]
    );
    let register = r#"[ {"Input":{"Op":false,"Value":7},"Call":1,"Return":2},
                        {"Input":{"Op":true},"Call":3,"Output":7,"Return":4} ]"#;
    assert_eq!(
        lines(register),
        ["invoke p0 write nil 7", "ok p0 write nil nil", "invoke p0 read nil nil", "ok p0 read nil 7"]
    );
    let table = [
        ("[{\"Input\":{\"op\":7},\"Call\":1}]", "line 1, column 29: `op` is 0, 1 or 2 when it is a number, not 7"),
        (
            "[{\"Input\":{},\"Call\":1}]",
            "line 1, column 23: an `Input` needs an `op` (a name, a truth value, or 0, 1, 2)",
        ),
        ("{\"Input\":{\"op\":1},\"Call\":1}\n\n{\"Input\":3", "line 3, column 10: EOF while parsing an object"),
        (
            "{\"Input\":{\"op\":1},\"Call\":1}\n{\"Input\":{\"op\":1},\"Call\":3,\"Return\":2}",
            "line 2, column 1: the operation returns before it is called",
        ),
    ];
    for (text, expected) in table {
        assert_eq!(lines(text), [expected], "{text}");
    }
}

#[test]
fn object_logs() {
    let text = "# @object atomic-stack\n[1] call add(a)\n   [2] call remove\n[1] return\n   [2] return empty\n[3] call pop()\n";
    assert_eq!(
        lines(text),
        [
            "invoke p1 push nil a",
            "invoke p2 pop nil nil",
            "ok p1 push nil nil",
            "ok p2 pop nil nil",
            "invoke p3 pop nil nil"
        ]
    );
    assert_eq!(lines("[1] call enq(1)\n[2] return"), ["line 2, column 1: process 2 returns without a call"]);
}

#[test]
fn what_is_wrong_is_said_with_its_place() {
    let table = [
        (
            "hello",
            "this is no history in any known format (history file, JSON Lines, EDN, Jepsen log, object log, Porcupine JSON): it starts with \"hello\"",
        ),
        (
            "",
            "this is no history in any known format (history file, JSON Lines, EDN, Jepsen log, object log, Porcupine JSON): it is empty",
        ),
        (
            "{:type :ok :f :a}\n  {:type :okay, :f :a}",
            "line 2, column 3: unknown type `:okay`; types are :invoke, :ok, :fail and :info",
        ),
        ("{:type :ok}", "line 1, column 1: an event needs an `:f`"),
        ("{:f :ok}", "line 1, column 1: an event needs a `:type`"),
        ("{:type :ok :f :a}\n17", "line 2, column 1: an event is a map such as `{:type :invoke, :f :read}`"),
        ("[{:type :ok :f :a}\n", "line 2, column 1: the history ends before its bracket"),
        ("{:type :ok :f :a :time -1}", "line 1, column 1: the time -1 lies before the start of the run"),
        ("{\"type\":\"ok\",\"f\":\"a\"}\n{\"type\":\"ok\"}", "line 2, column 13: field `f` is missing"),
    ];
    for (text, expected) in table {
        assert_eq!(lines(text), [expected], "{text:?}");
    }
}

#[test]
fn a_file_of_nothing_yet_is_an_empty_history() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("a.history");
    for len in 0..4 {
        std::fs::write(&path, &ZSTD_MAGIC[..len]).unwrap();
        let (history, note) = read_any(&path, &ImportOptions::default()).unwrap();
        assert!(history.is_empty());
        assert_eq!(note.is_some(), len > 0);
    }
}

fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Nil),
        any::<bool>().prop_map(Value::Bool),
        any::<i64>().prop_map(Value::Int),
        "[a\"\\\\\n\u{1}é𝄞 :]{0,4}".prop_map(|t| Value::str(&t)),
    ];
    leaf.prop_recursive(3, 12, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::list),
            prop::collection::vec((inner.clone(), inner), 0..4).prop_map(|pairs| Value::Map(pairs.into())),
        ]
    })
}

proptest! {
    #[test]
    fn exports_are_read_back(
        values in prop::collection::vec((value(), value(), any::<u32>(), 0..i64::MAX as u64), 1..8),
    ) {
        let mut history = History::new();
        for (key, value, process, time_ns) in values {
            let kind = crate::event::ALL_KINDS[history.len() % 5];
            let mut event = blank(history.len(), kind, Sym::new("read"));
            (event.key, event.value, event.time_ns) = (key, value, time_ns);
            event.process = if kind == EventKind::Nemesis { 0 } else { process };
            event.node = (process % 2 == 0).then(|| Sym::new("n1"));
            event.error = (process % 3 == 0).then(|| Sym::new("timed out"));
            history.push(event).unwrap();
        }
        let events: Vec<_> = history.iter().collect();
        let (mut jsonl, mut edn) = (Vec::new(), Vec::new());
        export_jsonl(&history, &mut jsonl).unwrap();
        export_edn(&history, &mut edn).unwrap();
        for text in [jsonl, edn] {
            let again = read_text(&text, &ImportOptions::default()).unwrap();
            prop_assert_eq!(again.iter().collect::<Vec<_>>(), events.clone(), "{}", String::from_utf8_lossy(&text));
        }
    }

    #[test]
    fn no_text_makes_a_reader_panic(
        start in prop::sample::select(vec!["", "{\"", "{:", "[{", "INFO x\t:ok\t", "[1] call ", "0\t:invoke\t:f\t"]),
        rest in "[\\[\\](){}:\"a1,\n\t ]{0,40}",
    ) {
        let _ = read_text(format!("{start}{rest}").as_bytes(), &ImportOptions::default());
    }
}

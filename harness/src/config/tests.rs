use super::*;
use std::time::Duration;

fn section(text: &str) -> Section {
    Section::new("", Doc::parse("t.yaml", text).expect("yaml")).expect("map")
}

#[test]
fn values_with_units_are_read() {
    let mut s = section("a: 5s\nb: 200ms\nc: 2000/s\nd: 2n\ne: [x, y]\nf: x\ng: 1_000\n");
    assert_eq!(s.get("a", Duration::ZERO, "").unwrap(), Duration::from_secs(5));
    assert_eq!(s.get("b", Duration::ZERO, "").unwrap(), Duration::from_millis(200));
    assert_eq!(s.get("c", Rate(0.0), "").unwrap(), Rate(2000.0));
    assert_eq!(s.get("d", Count::Absolute(1), "").unwrap().resolve(5), 10);
    assert_eq!(s.get::<Vec<String>>("e", vec![], "").unwrap(), ["x", "y"]);
    assert_eq!(s.get::<Vec<String>>("f", vec![], "").unwrap(), ["x"]);
    assert_eq!(s.get("g", 0u64, "").unwrap(), 1000);
    s.finish().unwrap();
}

#[test]
fn errors_name_place_and_key() {
    let mut s = section("rate: 5\nkeyz: 3\n");
    s.get("rate", Rate(1.0), "").unwrap();
    s.get("keys", 40u64, "").unwrap();
    let error = s.finish().unwrap_err().to_string();
    assert_eq!(error, "t.yaml:2:7: unknown key of `` `keyz`; did you mean `keys`?");
    let mut s = section("a:\n  b: fast\n").section("a").unwrap();
    let error = s.get("b", Duration::ZERO, "").unwrap_err().to_string();
    assert_eq!(error, "t.yaml:2:6: `a.b` must be a duration such as 5s, 200ms or 2m, not `fast`");
}

#[test]
fn broken_yaml_is_an_error_with_a_place() {
    for text in ["a: [1, 2", "a: 1\na: 2\n", "- 1\n", "a: &x 1\n", "a: {b: }}"] {
        let error = Doc::parse("t.yaml", text).unwrap_err();
        assert!(error.origin.starts_with("t.yaml:"), "{text:?}: {error}");
    }
}

#[test]
fn overrides_replace_and_create() {
    let mut doc = Doc::parse("t.yaml", "a: { b: 1 }\nl: [ { x: 1 } ]\n").unwrap();
    doc.set("a.b=2").unwrap();
    doc.set("a.c.d=[1, 2]").unwrap();
    doc.set("l.0.x=7").unwrap();
    assert!(doc.set("l.5.x=7").unwrap_err().to_string().contains("index below 1"));
    assert!(doc.set("a.b.c=7").is_err());
    assert!(doc.set("nonsense").is_err());
    let mut s = Section::new("", doc).unwrap();
    let mut a = s.section("a").unwrap();
    assert_eq!(a.get("b", 0u64, "").unwrap(), 2);
    assert_eq!(a.section("c").unwrap().get::<Vec<u64>>("d", vec![], "").unwrap(), [1, 2]);
}

#[test]
fn a_reader_documents_itself() {
    let docs = describe("workload.x", |s| {
        s.get("keys", 40u64, "how many")?;
        s.required("must", String::new(), "what")
    })
    .unwrap();
    assert_eq!(docs[0].path, "workload.x.keys");
    assert_eq!(docs[0].default.as_deref(), Some("40"));
    assert_eq!(docs[1].default, None);
}

#[test]
fn negative_and_absurd_numbers_are_refused() {
    for bad in ["a: -5s", "a: 1e400s", "a: 5 parsecs", "a: s", "a: NaNs"] {
        assert!(section(bad).get("a", Duration::ZERO, "").is_err(), "{bad}");
    }
    assert!(section("a: -1/s").get("a", Rate(0.0), "").is_err());
    assert!(section("a: 0n").get("a", Count::PerNode(1), "").is_err());
}

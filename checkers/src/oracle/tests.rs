//! The judge judged by histories whose verdict a person can see, and a slice of the self-check.

use super::*;
use crate::ModelKind;
use crate::model::FailMeans;
use crate::testing::history;

#[test]
fn the_definition_is_the_definition() {
    let table = [
        ("p0 w1 0..1; p0 r1 2..3", true),
        ("p0 w1 0..1; p0 r_ 2..3", false),
        ("p0 w1 0..9; p1 r1 1..2; p1 r_ 3..4", false),
        ("p0 w1 0..9; p1 r_ 1..2; p1 r1 3..4", true),
        ("p0 w1 0..; p1 r1 1..2; p1 r_ 3..4", false),
        ("p0 w1 0..; p1 r_ 1..2; p1 r1 3..4", true),
        ("p0 w1! 0..1; p1 r1 2..3", false),
    ];
    for (text, expected) in table {
        assert_eq!(
            is_linearizable(&history(text), ModelKind::Register, FailMeans::NoEffect, &[]).unwrap(),
            expected,
            "{text}"
        );
    }
}

/// `squall self-check` runs as many as one likes.
#[test]
fn every_path_agrees_with_the_definition() {
    let paths: Vec<&Path> = PATHS.iter().collect();
    for model in MODELS {
        let mut tally = Tally::default();
        SelfCheck { model, seed: 1 }.run(&paths, 0..3000, &mut tally);
        println!("{model:?}: {} valid, {} invalid, {} empty", tally.valid, tally.invalid, tally.empty);
        if let Some(mismatch) = tally.mismatches.first() {
            let mut text = Vec::new();
            crate::export_jsonl(&mismatch.case.history, &mut text).unwrap();
            panic!(
                "{model:?}, case {}: {} said {}, expected {}, with {:?}:\n{}",
                mismatch.number,
                mismatch.path,
                mismatch.said,
                mismatch.expected,
                mismatch.case.evidence,
                String::from_utf8_lossy(&text)
            );
        }
        // A generator of histories that are all right, or all wrong, would test nothing.
        let share = tally.valid as f64 / (tally.valid + tally.invalid) as f64;
        assert!((0.25..0.8).contains(&share), "{model:?}: {share:.2} are linearizable");
    }
}

/// The check can fail: a path that always says the same is found out.
#[test]
fn a_wrong_path_is_found_out() {
    let blind = Path::new("blind", |_, _| Ok(crate::Verdict::Valid));
    let mut tally = Tally::default();
    SelfCheck { model: ModelKind::Kv, seed: 1 }.run(&[&PATHS[0], &blind], 0..200, &mut tally);
    assert_eq!((tally.wrong[0], tally.wrong[1]), (0, tally.invalid));
    assert!(tally.invalid > 20 && tally.mismatches.iter().all(|mismatch| mismatch.path == "blind"));
}

//! What is planted is a violation, what is not is none: small ones by brute force, large ones by the engines.

use super::*;
use crate::linear::{CheckOptions, check};
use crate::oracle::{MODELS, is_linearizable};
use crate::{EventKind, Verdict};

/// Loads of all sorts, of one model.
fn loads(model: ModelKind, ops: usize, count: u64) -> impl Iterator<Item = Load> {
    (0..count).map(move |seed| Load {
        ops,
        clients: 2 + seed as usize % 4,
        keys: 1 + seed as usize / 4 % 2,
        values: if seed % 3 == 0 { Values::Distinct(3) } else { Values::Unique },
        unfinished: [0.0, 0.1, 0.25][seed as usize % 3],
        failed: [0.0, 0.1][seed as usize / 2 % 2],
        fail_means: if seed % 2 == 0 { FailMeans::NoEffect } else { FailMeans::AnsweredNo },
        rich: seed / 3 % 2 == 0,
        seed,
        ..Load::new(model)
    })
}

#[test]
fn small_ones_by_brute_force() {
    for model in MODELS {
        for load in loads(model, 9, 400) {
            let judge = |load: &Load| is_linearizable(&load.history(), model, load.fail_means, &[]).unwrap();
            assert!(judge(&load), "{load:?}");
            for at in [0.0, 0.3, 0.6] {
                let bad = Load { violation: Some(Place::At(at)), ..load.clone() };
                assert!(!judge(&bad), "{bad:?}");
            }
        }
    }
}

/// Violations that are not merely absurd need room.
#[test]
fn larger_ones_by_the_engines() {
    for model in MODELS {
        let (mut planted, mut absurd) = (0, 0);
        for load in loads(model, 60, 60) {
            let bad = Load { violation: Some(Place::At(0.3)), ..load.clone() };
            for (load, expected) in [(load, Verdict::Valid), (bad, Verdict::Invalid)] {
                let history = load.history();
                let options =
                    CheckOptions { threads: 1, explain: false, fail_means: load.fail_means, ..CheckOptions::default() };
                let result = check(&history, model, &options);
                assert_eq!(result.verdict, expected, "{load:?}: {}", result.reason);
                planted += usize::from(load.violation.is_some());
                absurd += usize::from(history.iter().any(|event| event.process == u32::MAX));
            }
        }
        println!("{model:?}: {absurd} of {planted} violations are absurd ones");
        assert!(absurd < planted, "{model:?}");
    }
}

#[test]
fn a_load_is_what_it_says() {
    for model in MODELS {
        let load = Load { ops: 4000, keys: 3, unfinished: 0.05, failed: 0.05, ..Load::new(model) };
        let history = load.history();
        assert_eq!(history.iter().collect::<Vec<_>>(), load.simulate().collect::<Vec<_>>());
        let ops = history.ops().unwrap();
        assert_eq!(ops.len(), 4000, "{model:?}");
        let unfinished = ops.iter().filter(|op| op.outcome() == crate::Outcome::Unfinished).count();
        let failed = ops.iter().filter(|op| op.outcome() == crate::Outcome::Fail).count();
        assert!((50..300).contains(&unfinished), "{model:?}: {unfinished} are unfinished");
        assert!(failed >= 100, "{model:?}: {failed} failed");
        let other = Load { seed: 2, ..load.clone() };
        assert_ne!(history.iter().collect::<Vec<_>>(), other.simulate().collect::<Vec<_>>());
    }
}

#[test]
fn the_planted_event_is_named() {
    let load = Load { violation: Some(Place::At(0.5)), ..Load::new(ModelKind::Register) };
    let mut simulation = load.simulate();
    let events: Vec<_> = simulation.by_ref().collect();
    let planted = &events[simulation.planted().unwrap() as usize];
    assert_eq!((planted.kind, planted.f.as_str()), (EventKind::Ok, "read"));
    assert!(events.len() / 2 - 20 < planted.index as usize && planted.index < 1100, "{planted:?}");
}

//! Every path to a verdict against [`is_linearizable`], case after case.

use super::brute::is_linearizable;
use super::random::random_case;
use crate::linear::{CheckOptions, EngineChoice, check};
use crate::model::{FailMeans, ModelKind};
use crate::{Event, History, Outcome, Verdict};
use std::ops::Range;

/// The models, those with a number with a small one.
pub const MODELS: [ModelKind; 16] = [
    ModelKind::Register,
    ModelKind::CasRegister,
    ModelKind::MultiRegister(None),
    ModelKind::MultiRegister(Some(0)),
    ModelKind::Kv,
    ModelKind::Queue(None),
    ModelKind::Queue(Some(2)),
    ModelKind::UnorderedQueue,
    ModelKind::Stack,
    ModelKind::PriorityQueue,
    ModelKind::Set,
    ModelKind::Counter,
    ModelKind::Mutex,
    ModelKind::ReentrantMutex,
    ModelKind::FencingLock,
    ModelKind::Semaphore(2),
];

/// A way from a history to a verdict.
pub struct Path {
    /// As on the command line.
    pub name: &'static str,
    /// What it says; an error says what is wrong with what it says.
    pub judge: fn(&History, ModelKind, FailMeans) -> Result<Verdict, String>,
}

/// All of them.
pub const PATHS: [Path; 4] = [
    Path { name: "auto", judge: |history, kind, fail_means| Ok(by(EngineChoice::Auto, history, kind, fail_means)) },
    Path { name: "search", judge: |history, kind, fail_means| Ok(by(EngineChoice::Search, history, kind, fail_means)) },
    Path { name: "wgl", judge: |history, kind, fail_means| Ok(by(EngineChoice::Wgl, history, kind, fail_means)) },
    Path { name: "explain", judge: explained },
];

fn options(engine: EngineChoice, fail_means: FailMeans, explain: bool) -> CheckOptions {
    CheckOptions { deadline: None, threads: 1, engine, fail_means, explain, ..CheckOptions::default() }
}

fn by(engine: EngineChoice, history: &History, kind: ModelKind, fail_means: FailMeans) -> Verdict {
    check(history, kind, &options(engine, fail_means, false)).verdict
}

/// What is shown as impossible must be so by itself.
fn explained(history: &History, kind: ModelKind, fail_means: FailMeans) -> Result<Verdict, String> {
    let result = check(history, kind, &options(EngineChoice::Auto, fail_means, true));
    if result.verdict != Verdict::Invalid {
        return Ok(result.verdict);
    }
    let explanation = result.keys.first().and_then(|key| key.explanation.as_ref()).ok_or("no explanation")?;
    let shown =
        |index: u64| explanation.ops.iter().any(|op| op.call_index == index || op.completion_index == Some(index));
    let events = history.iter().filter(|event| shown(event.index));
    let events = events.enumerate().map(|(index, event)| Event { index: index as u64, ..event });
    let alone = History::from_events(events).map_err(|error| error.to_string())?;
    match is_linearizable(&alone, kind, fail_means) {
        Ok(false) => Ok(Verdict::Invalid),
        Ok(true) => Err(format!("the operations shown can be ordered:\n{explanation}")),
        Err(error) => Err(format!("the operations shown are no history: {error}")),
    }
}

/// A run over many cases of one model.
#[derive(Clone, Copy, Debug)]
pub struct SelfCheck {
    /// Which model.
    pub model: ModelKind,
    /// Where all cases come from.
    pub seed: u64,
}

/// What came of it.
#[derive(Clone, Debug, Default)]
pub struct Tally {
    /// Histories that can be ordered.
    pub valid: u64,
    /// Histories that cannot.
    pub invalid: u64,
    /// Histories without a successful operation, about which a check says `unknown`.
    pub empty: u64,
    /// How often each path judged, in the order of the paths given.
    pub judged: Vec<u64>,
    /// How often each was wrong.
    pub wrong: Vec<u64>,
    /// The first few cases in which one was.
    pub mismatches: Vec<Mismatch>,
}

/// So many mismatches are kept whole.
const MISMATCHES_MAX: usize = 5;

/// A case in which a path was wrong.
#[derive(Clone, Debug)]
pub struct Mismatch {
    /// Its number.
    pub number: u64,
    /// Name of the path.
    pub path: &'static str,
    /// The right verdict.
    pub expected: Verdict,
    /// What was said instead.
    pub said: String,
    /// The history.
    pub history: History,
    /// What a `fail` says in it.
    pub fail_means: FailMeans,
}

impl Tally {
    /// Both together.
    pub fn add(&mut self, other: Self) {
        let sum = |into: &mut Vec<u64>, from: Vec<u64>| {
            into.resize(into.len().max(from.len()), 0);
            into.iter_mut().zip(from).for_each(|(into, from)| *into += from);
        };
        self.valid += other.valid;
        self.invalid += other.invalid;
        self.empty += other.empty;
        sum(&mut self.judged, other.judged);
        sum(&mut self.wrong, other.wrong);
        self.mismatches.extend(other.mismatches);
        self.mismatches.truncate(MISMATCHES_MAX);
    }
}

impl SelfCheck {
    /// Runs the cases with these numbers, adding to `tally`.
    pub fn run(&self, paths: &[&Path], numbers: Range<u64>, tally: &mut Tally) {
        tally.judged.resize(paths.len(), 0);
        tally.wrong.resize(paths.len(), 0);
        for number in numbers {
            let case = random_case(self.model, self.seed, number);
            let expected = match is_linearizable(&case.history, self.model, case.fail_means) {
                Ok(is_linearizable) => {
                    if is_linearizable {
                        Verdict::Valid
                    } else {
                        Verdict::Invalid
                    }
                }
                Err(error) => panic!("case {number} of {:?} is no history: {error}", self.model),
            };
            let happened = case.history.ops().is_ok_and(|ops| ops.iter().any(|op| op.outcome() == Outcome::Ok));
            if !happened {
                tally.empty += 1;
                continue;
            }
            match expected {
                Verdict::Valid => tally.valid += 1,
                _ => tally.invalid += 1,
            }
            for (at, path) in paths.iter().enumerate() {
                let said = (path.judge)(&case.history, self.model, case.fail_means);
                tally.judged[at] += 1;
                if said == Ok(expected) {
                    continue;
                }
                tally.wrong[at] += 1;
                if tally.mismatches.len() < MISMATCHES_MAX {
                    let said = said.map_or_else(|problem| problem, |verdict| verdict.to_string());
                    let (history, fail_means) = (case.history.clone(), case.fail_means);
                    tally.mismatches.push(Mismatch { number, path: path.name, expected, said, history, fail_means });
                }
            }
        }
    }
}

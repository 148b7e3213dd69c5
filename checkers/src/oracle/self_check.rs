//! Every path to a verdict against [`is_linearizable`], case after case.

use super::brute::is_linearizable;
use super::random::{Case, random_case};
use crate::linear::online::{Finding, Online, OnlineOptions};
use crate::linear::{CheckOptions, EngineChoice, Evidence, check};
use crate::model::ModelKind;
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
    pub judge: fn(&Case, ModelKind) -> Result<Verdict, String>,
    /// Whether it is told the evidence.
    pub knows_evidence: bool,
}

/// All of them.
pub const PATHS: [Path; 7] = [
    Path::new("auto", |case, kind| Ok(by(EngineChoice::Auto, case, kind))),
    Path::new("search", |case, kind| Ok(by(EngineChoice::Search, case, kind))),
    Path::new("wgl", |case, kind| Ok(by(EngineChoice::Wgl, case, kind))),
    Path::new("explain", explained),
    Path::new("online", online),
    Path { knows_evidence: true, ..Path::new("evidence", |case, kind| Ok(given(EngineChoice::Auto, case, kind))) },
    Path { knows_evidence: true, ..Path::new("evidence-wgl", |case, kind| Ok(given(EngineChoice::Wgl, case, kind))) },
];

impl Path {
    /// One that is told the history only.
    pub const fn new(name: &'static str, judge: fn(&Case, ModelKind) -> Result<Verdict, String>) -> Self {
        Self { name, judge, knows_evidence: false }
    }
}

fn options(engine: EngineChoice, case: &Case) -> CheckOptions {
    CheckOptions {
        deadline: None,
        threads: 1,
        engine,
        fail_means: case.fail_means,
        explain: false,
        ..CheckOptions::default()
    }
}

fn by(engine: EngineChoice, case: &Case, kind: ModelKind) -> Verdict {
    check(&case.history, kind, &options(engine, case)).verdict
}

fn given(engine: EngineChoice, case: &Case, kind: ModelKind) -> Verdict {
    let options = CheckOptions { evidence: case.evidence.clone(), ..options(engine, case) };
    check(&case.history, kind, &options).verdict
}

/// What is shown as impossible must be so by itself.
fn explained(case: &Case, kind: ModelKind) -> Result<Verdict, String> {
    let result = check(&case.history, kind, &CheckOptions { explain: true, ..options(EngineChoice::Auto, case) });
    if result.verdict != Verdict::Invalid {
        return Ok(result.verdict);
    }
    let explanation = result.keys.first().and_then(|key| key.explanation.as_ref()).ok_or("no explanation")?;
    let shown =
        |index: u64| explanation.ops.iter().any(|op| op.call_index == index || op.completion_index == Some(index));
    let events = case.history.iter().filter(|event| shown(event.index));
    let events = events.enumerate().map(|(index, event)| Event { index: index as u64, ..event });
    let alone = History::from_events(events).map_err(|error| error.to_string())?;
    match is_linearizable(&alone, kind, case.fail_means, &[]) {
        Ok(false) => Ok(Verdict::Invalid),
        Ok(true) => Err(format!("the operations shown can be ordered:\n{explanation}")),
        Err(error) => Err(format!("the operations shown are no history: {error}")),
    }
}

/// Event by event; the first one that is named must be the first after which no order exists.
fn online(case: &Case, kind: ModelKind) -> Result<Verdict, String> {
    let mut online = Online::new(kind, OnlineOptions { fail_means: case.fail_means, ..OnlineOptions::default() });
    let mut first = None;
    for event in case.history.iter() {
        match online.push(&event).map_err(|error| error.to_string())? {
            Some(Finding::Violation(violation)) => drop(first.get_or_insert(violation.index)),
            Some(other) => return Err(format!("{other:?}")),
            None => {}
        }
    }
    let verdict = online.finish().verdict;
    if (verdict == Verdict::Invalid) != first.is_some() {
        return Err(format!("{verdict} at the end, and a violation at {first:?}"));
    }
    if let Some(index) = first {
        let is_possible = |events: usize| {
            let prefix = History::from_events(case.history.iter().take(events)).map_err(|error| error.to_string())?;
            is_linearizable(&prefix, kind, case.fail_means, &[]).map_err(|error| error.to_string())
        };
        if !is_possible(index as usize)? || is_possible(index as usize + 1)? {
            return Err(format!("event {index} is not the first after which no order exists"));
        }
    }
    Ok(verdict)
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
    /// The history, and what is told of it.
    pub case: Case,
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
    ///
    /// # Panics
    /// When a case is no history: a bug in [`random_case`].
    pub fn run(&self, paths: &[&Path], numbers: Range<u64>, tally: &mut Tally) {
        tally.judged.resize(paths.len(), 0);
        tally.wrong.resize(paths.len(), 0);
        for number in numbers {
            let case = random_case(self.model, self.seed, number);
            let judge =
                |evidence: &[Evidence]| match is_linearizable(&case.history, self.model, case.fail_means, evidence) {
                    Ok(true) => Verdict::Valid,
                    Ok(false) => Verdict::Invalid,
                    Err(error) => panic!("case {number} of {} with seed {}: {error}", self.model, self.seed),
                };
            let expected = judge(&[]);
            let happened = case.history.ops().is_ok_and(|ops| ops.iter().any(|op| op.outcome() == Outcome::Ok));
            if !happened {
                tally.empty += 1;
                continue;
            }
            match expected {
                Verdict::Valid => tally.valid += 1,
                _ => tally.invalid += 1,
            }
            let knowing = if case.evidence.is_empty() { expected } else { judge(&case.evidence) };
            for (at, path) in paths.iter().enumerate() {
                let expected = if path.knows_evidence { knowing } else { expected };
                let said = (path.judge)(&case, self.model);
                tally.judged[at] += 1;
                if said != Ok(expected) {
                    tally.wrong[at] += 1;
                    let said = said.map_or_else(|problem| problem, |verdict| verdict.to_string());
                    let case = case.clone();
                    tally.mismatches.push(Mismatch { number, path: path.name, expected, said, case });
                    tally.mismatches.truncate(MISMATCHES_MAX);
                }
            }
        }
    }
}

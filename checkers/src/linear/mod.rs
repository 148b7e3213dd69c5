//! Linearizability: is there one order of all operations, compatible with real time, that the model allows?
//!
//! Herlihy and Wing, "Linearizability" (TOPLAS 12, 1990). Keys are checked apart and in parallel, which is sound because
//! linearizability is local (theorem 1 there). An unfinished operation may take effect at any time after its invocation,
//! or never. Engines, from the cheapest that applies:
//!
//! | engine | for | cost |
//! |---|---|---|
//! | `zones` | registers, compare-and-set registers, keys without `append`, where no value is produced twice | O(n log n) |
//! | | keys with `append` where texts tell what they were made of (`growth`); what is wrong where one value comes again (`relaxed`) | |
//! | `intervals` | containers without values put in twice, sets, counters of equal steps, locks: see its files | O(n log n) |
//! | `search` | every model; bounded queues with what is known of who takes what (`bounded`) | exponential at worst, in what is open at once |
//! | `wgl` | every model; the plain reference, for comparison | exponential at worst, in everything |
//!
//! Out of time or memory is `unknown`, never a guess.

mod bounded;
mod columns;
mod engines;
mod evidence;
mod explain;
mod growth;
mod intervals;
#[cfg(test)]
mod model_tests;
mod multi;
pub mod online;
mod problem;
mod relaxed;
mod search;
mod seen;
#[cfg(test)]
mod tests;
mod texts;
mod unique;
mod values;
mod wgl;
mod whole;
mod zones;

use crate::history::OpsByKey;
use crate::model::{
    Container, Counter, FailMeans, Kv, Lock, Model, ModelKind, MultiRegister, Order, Powerset, Register, Set,
    UnorderedQueue,
};
use crate::verdict::{CheckResult, CheckStats, KeyResult, Verdict};
use crate::{History, HistoryError, Ops, Outcome, Value};
use columns::Columns;
use engines::Engine;
pub use evidence::Evidence;
use evidence::Timeline;
pub(crate) use explain::text as line_text;
pub(crate) use problem::FastMap;
use problem::{Budget, Decided, Decision, Item, NEVER, OUT_OF_TIME};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::{Duration, Instant};

/// How many violated keys are explained; the rest only named.
const EXPLANATIONS_MAX: u64 = 5;

/// Which engine decides. [`EngineChoice::Auto`] unless engines are to be compared.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum EngineChoice {
    /// `zones` where it applies, else `search`.
    #[default]
    Auto,
    /// Always `search`.
    Search,
    /// Always `wgl`.
    Wgl,
}

/// Limits and readings of a check.
#[derive(Clone, Debug)]
pub struct CheckOptions {
    /// Keys not decided by then are `unknown`.
    pub deadline: Option<Instant>,
    /// What all searches together may hold (bytes).
    pub memory_max: u64,
    /// Keys checked at a time; 0 means one per core.
    pub threads: usize,
    /// What a `fail` completion of a compare-and-set says.
    pub fail_means: FailMeans,
    /// Which engine decides.
    pub engine: EngineChoice,
    /// What is known from elsewhere about operations that were never answered.
    pub evidence: Vec<Evidence>,
    /// Whether to look for a small set of operations that contradict each other in keys that are not linearizable: takes
    /// longer than the decision.
    pub explain: bool,
}

impl Default for CheckOptions {
    /// A minute, 2 GiB, all cores, failed operations had no effect.
    fn default() -> Self {
        Self {
            deadline: Some(Instant::now() + Duration::from_secs(60)),
            memory_max: 2 << 30,
            threads: 0,
            fail_means: FailMeans::NoEffect,
            engine: EngineChoice::Auto,
            evidence: Vec::new(),
            explain: true,
        }
    }
}

/// Evaluates an expression with the model of a kind.
macro_rules! with_model {
    ($kind:expr, |$model:ident| $body:expr) => {{
        macro_rules! with {
            ($value:expr) => {{
                let $model = $value;
                $body
            }};
        }
        let container = |order, capacity| Container { order, capacity };
        match $kind {
            ModelKind::Register => with!(Register { cas: false }),
            ModelKind::CasRegister => with!(Register { cas: true }),
            ModelKind::Kv => with!(Kv),
            ModelKind::MultiRegister(initial) => {
                with!(MultiRegister { initial: initial.map_or(Value::Nil, Value::Int) })
            }
            ModelKind::Queue(capacity) => with!(container(Order::Fifo, capacity)),
            ModelKind::UnorderedQueue => with!(Powerset(UnorderedQueue)),
            ModelKind::Stack => with!(container(Order::Lifo, None)),
            ModelKind::PriorityQueue => with!(container(Order::Smallest, None)),
            ModelKind::Set => with!(Set),
            ModelKind::Counter => with!(Counter),
            ModelKind::Mutex => with!(Lock::MUTEX),
            ModelKind::ReentrantMutex => with!(Lock::REENTRANT),
            ModelKind::FencingLock => with!(Lock::FENCING),
            ModelKind::Semaphore(permits) => with!(Lock::semaphore(permits)),
        }
    }};
}

/// The longest orders of one key's operations, up to an event, that are found in time; their operations are places among
/// `sources`. `None` when they do not fit the model or too much is open at once.
pub(crate) fn longest_orders(
    ops: &Ops<'_>,
    sources: &[u32],
    (kind, fail_means): (ModelKind, FailMeans),
    up_to: Option<u64>,
    deadline: Instant,
) -> Option<explain::Orders> {
    let up_to = up_to.map(|event| event as u32);
    let (mut orders, places) = with_model!(kind, |model| {
        let key = Key::new(ops, sources, &model, fail_means, None).ok()?;
        (explain::longest_orders(&model, &key.items, up_to, deadline)?, key.sources)
    });
    let place_of: FastMap<u32, u32> = sources.iter().enumerate().map(|(at, source)| (*source, at as u32)).collect();
    for op in &mut orders.op {
        *op = place_of[&places[*op as usize]];
    }
    Some(orders)
}

/// Why a key has no order, where nobody asks which operations contradict each other.
const NO_ORDER: &str = "no order of its operations is possible";

/// Checks every key of a history against a model.
///
/// A history that does not pair or does not fit the model, or without any successful operation, is `unknown` and says
/// why.
pub fn check(history: &History, kind: ModelKind, options: &CheckOptions) -> CheckResult {
    let start = Instant::now();
    let checked = with_model!(kind, |model| check_model(history, &model, options));
    finish(checked, kind.as_str(), start)
}

/// Checks every key of a history against a model of one's own.
///
/// ```
/// use squall_checkers::model::{FailMeans, Model};
/// use squall_checkers::{CheckOptions, HistoryError, Op, Outcome, Verdict, linear, read_text};
///
/// /// A switch: `flip`, and `read`, which answers true or false.
/// #[derive(Clone)]
/// struct Switch;
///
/// #[derive(Clone, Debug, PartialEq, Eq, Hash)]
/// enum SwitchOp {
///     Flip,
///     Read(bool),
/// }
///
/// impl Model for Switch {
///     type State = bool;
///     type Op = SwitchOp;
///
///     fn initial(&self) -> bool {
///         false
///     }
///
///     fn step(&self, on: &bool, op: &SwitchOp) -> Option<bool> {
///         match op {
///             SwitchOp::Flip => Some(!on),
///             SwitchOp::Read(answer) => (answer == on).then_some(*on),
///         }
///     }
///
///     fn is_read_only(&self, op: &SwitchOp) -> bool {
///         matches!(op, SwitchOp::Read(_))
///     }
///
///     fn view(&self, op: &Op<'_>, _: FailMeans) -> Result<Option<SwitchOp>, HistoryError> {
///         Ok(match (op.f().as_str(), op.outcome()) {
///             ("flip", Outcome::Fail) => None,
///             ("flip", _) => Some(SwitchOp::Flip),
///             (_, Outcome::Ok) => Some(SwitchOp::Read(op.result() == Some(squall_checkers::Value::Bool(true)))),
///             _ => None,
///         })
///     }
/// }
///
/// let text = r#"{"index":0,"time":0,"type":"invoke","process":0,"f":"flip","value":null}
/// {"index":1,"time":1,"type":"ok","process":0,"f":"flip","value":null}
/// {"index":2,"time":2,"type":"invoke","process":1,"f":"read","value":null}
/// {"index":3,"time":3,"type":"ok","process":1,"f":"read","value":false}"#;
/// let history = read_text(text.as_bytes(), &Default::default()).unwrap();
/// let result = linear::check_with(&history, &Switch, &CheckOptions::default());
/// assert_eq!(result.verdict, Verdict::Invalid);
/// ```
pub fn check_with<M: Model>(history: &History, model: &M, options: &CheckOptions) -> CheckResult {
    let start = Instant::now();
    finish(check_model(history, &engines::Own(model.clone()), options), "the given model", start)
}

fn finish(checked: Result<CheckResult, HistoryError>, model: &str, start: Instant) -> CheckResult {
    let mut result = checked.unwrap_or_else(|error| CheckResult {
        verdict: Verdict::Unknown,
        reason: format!("the history cannot be checked as {model}: {error}"),
        ..CheckResult::default()
    });
    result.checker = "linearizable".into();
    result.stats.duration_s = start.elapsed().as_secs_f64();
    result
}

/// The operations of one key that the model has something to say about. `sources` are the places of `items` among all
/// operations.
struct Key<O> {
    items: Vec<Item<O>>,
    sources: Vec<u32>,
}

impl<O> Key<O> {
    fn new<M: Model<Op = O>>(
        ops: &Ops<'_>,
        sources: &[u32],
        model: &M,
        fail_means: FailMeans,
        timeline: Option<&Timeline>,
    ) -> Result<Self, HistoryError> {
        let mut key = Self { items: Vec::with_capacity(sources.len()), sources: Vec::with_capacity(sources.len()) };
        for &source in sources {
            let Some(op) = ops.get(source as usize) else { continue };
            if let Some(model_op) = model.view(&op, fail_means)? {
                let position = |index: usize| timeline.map_or(index as u32, |timeline| timeline.position(index as u32));
                let ret = match (op.completion_index().filter(|_| op.outcome() != Outcome::Unfinished), timeline) {
                    (Some(index), _) => Some(position(index)),
                    (None, Some(timeline)) => timeline.unfinished(op.call_index() as u32),
                    (None, None) => Some(NEVER),
                };
                // What is known never to have happened is left out.
                let Some(ret) = ret else { continue };
                key.items.push(Item { op: model_op, call: position(op.call_index()), ret });
                key.sources.push(source);
            }
        }
        Ok(key)
    }
}

/// The shortest way, for histories of one key that need no search; `None` where another way decides or explains.
fn check_whole<M: Engine>(history: &History, model: &M, options: &CheckOptions) -> Option<CheckResult> {
    let is_late = options.deadline.is_some_and(|deadline| Instant::now() >= deadline);
    if options.engine != EngineChoice::Auto || !options.evidence.is_empty() || is_late {
        return None;
    }
    let (events, key) = history.event_columns()?;
    // Its panic is a bug in squall, of which the other ways know nothing.
    let whole = catch_unwind(AssertUnwindSafe(|| model.decide_events(&events))).ok()??;
    let (verdict, reason) = match whole.decided.decision {
        Decision::Linearizable => (Verdict::Valid, None),
        Decision::NotLinearizable if !options.explain => (Verdict::Invalid, Some(NO_ORDER.to_owned())),
        _ => return None,
    };
    if whole.ok == 0 {
        return None;
    }
    let (key, engine, ops) = (key.to_string(), whole.decided.engine.to_owned(), whole.entered);
    let result = KeyResult { key, verdict, reason, ops, engine, explanation: None };
    let stats = CheckStats { ops: whole.invoked, ops_ok: whole.ok, keys: 1, ..CheckStats::default() };
    Some(summary(vec![(0, result)], stats))
}

fn check_model<M: Engine>(history: &History, model: &M, options: &CheckOptions) -> Result<CheckResult, HistoryError> {
    if let Some(result) = check_whole(history, model, options) {
        return Ok(result);
    }
    let ops = history.ops()?;
    let mut stats = CheckStats { ops: ops.len() as u64, ..CheckStats::default() };
    stats.ops_ok = ops.ok_count();
    let timeline = match &options.evidence[..] {
        [] => None,
        evidence => Some(Timeline::new(&ops, history, evidence)?),
    };
    let keys = ops.by_key();
    stats.keys = keys.len() as u64;
    let threads = match options.threads {
        0 => std::thread::available_parallelism().map_or(1, usize::from),
        n => n,
    };
    let threads = threads.clamp(1, keys.len().max(1));
    // The largest key first: it must not be what is left over at the end.
    let mut order: Vec<u32> = (0..keys.len() as u32).collect();
    order.sort_by_key(|&key| std::cmp::Reverse(keys.ops(key as usize).len()));
    let job = Job {
        model,
        ops: &ops,
        keys: &keys,
        order,
        options,
        timeline: timeline.as_ref(),
        budget: Budget {
            deadline: options.deadline,
            memory_max: options.memory_max / threads as u64,
            configurations_max: u64::MAX,
        },
        next: AtomicUsize::new(0),
        configurations: AtomicU64::new(0),
        explanations: AtomicU64::new(0),
        error: Mutex::new(None),
        results: Mutex::new(Vec::with_capacity(keys.len())),
    };
    std::thread::scope(|scope| {
        for _ in 1..threads {
            scope.spawn(|| job.work());
        }
        job.work();
    });
    if let Some((_, error)) = job.error.into_inner().unwrap_or_else(|e| e.into_inner()) {
        return Err(error);
    }
    if stats.ops_ok == 0 {
        let reason = format!("none of {} operations succeeded", stats.ops);
        return Ok(CheckResult { verdict: Verdict::Unknown, reason, stats, ..CheckResult::default() });
    }
    stats.configurations = job.configurations.into_inner();
    Ok(summary(job.results.into_inner().unwrap_or_else(|e| e.into_inner()), stats))
}

/// What the threads of a check share.
struct Job<'c, 'h, M: Engine> {
    model: &'c M,
    ops: &'c Ops<'h>,
    keys: &'c OpsByKey,
    /// Which key comes how many-th.
    order: Vec<u32>,
    options: &'c CheckOptions,
    timeline: Option<&'c Timeline>,
    budget: Budget,
    next: AtomicUsize,
    configurations: AtomicU64,
    explanations: AtomicU64,
    /// The first operation that does not fit the model, and why not.
    error: Mutex<Option<(u32, HistoryError)>>,
    /// (place in `order`, result).
    results: Mutex<Vec<(usize, KeyResult)>>,
}

impl<M: Engine> Job<'_, '_, M> {
    fn work(&self) {
        loop {
            let at = self.next.fetch_add(1, Ordering::Relaxed);
            let Some(&number) = self.order.get(at) else { return };
            let sources = self.keys.ops(number as usize);
            let name = self.keys.key(number as usize);
            // A bug in one engine must not take the verdicts of the other keys with it, and is never a pass.
            let result = catch_unwind(AssertUnwindSafe(|| self.check_key(name, sources)));
            let result = result.unwrap_or_else(|_| {
                Ok(KeyResult {
                    key: name.to_string(),
                    verdict: Verdict::Unknown,
                    reason: Some("the checker panicked: this is a bug in squall".into()),
                    ops: sources.len() as u64,
                    engine: String::new(),
                    explanation: None,
                })
            });
            match result {
                Ok(result) => self.results.lock().unwrap_or_else(|e| e.into_inner()).push((at, result)),
                Err(error) => {
                    let mut first = self.error.lock().unwrap_or_else(|e| e.into_inner());
                    if first.as_ref().is_none_or(|(before, _)| *before > sources[0]) {
                        *first = Some((sources[0], error));
                    }
                }
            }
        }
    }

    fn check_key(&self, name: &Value, sources: &[u32]) -> Result<KeyResult, HistoryError> {
        if self.budget.is_late() {
            let (key, verdict, reason) = (name.to_string(), Verdict::Unknown, Some(OUT_OF_TIME.to_owned()));
            return Ok(KeyResult {
                key,
                verdict,
                reason,
                ops: sources.len() as u64,
                engine: String::new(),
                explanation: None,
            });
        }
        let key = || Key::new(self.ops, sources, self.model, self.options.fail_means, self.timeline);
        let (decided, ops, known) = match self.decide_columns(sources) {
            Some((decided, ops)) => (decided, ops, None),
            None => {
                let key = key()?;
                (self.model.decide(&key.items, &self.budget, self.options.engine), key.items.len(), Some(key))
            }
        };
        self.configurations.fetch_add(decided.configurations, Ordering::Relaxed);
        let mut result = KeyResult {
            key: name.to_string(),
            verdict: Verdict::Valid,
            reason: None,
            ops: ops as u64,
            engine: decided.engine.into(),
            explanation: None,
        };
        match decided.decision {
            Decision::Linearizable => {}
            Decision::GaveUp(why) => {
                result.verdict = Verdict::Unknown;
                result.reason = Some(format!("{why} after {} configurations", decided.configurations));
            }
            Decision::NotLinearizable => {
                result.verdict = Verdict::Invalid;
                result.reason = Some(NO_ORDER.to_owned());
                if self.options.explain && self.explanations.fetch_add(1, Ordering::Relaxed) < EXPLANATIONS_MAX {
                    let key = known.map_or_else(key, Ok)?;
                    let all: Vec<_> = sources.iter().filter_map(|&source| self.ops.get(source as usize)).collect();
                    let source = |at: usize| self.ops.get(key.sources[at] as usize);
                    result.explanation =
                        explain::explain(self.model, &result.key, &key.items, &decided, source, &all, &self.budget);
                }
                if let (Some(explanation), Some(timeline)) = (&mut result.explanation, self.timeline) {
                    explanation.prefix_index = u64::from(timeline.index(explanation.prefix_index as u32));
                }
                if let Some(explanation) = &result.explanation {
                    result.reason = Some(explanation.why.clone());
                }
            }
        }
        Ok(result)
    }

    fn decide_columns(&self, sources: &[u32]) -> Option<(Decided, usize)> {
        // Columns know nothing of evidence.
        if self.options.engine != EngineChoice::Auto || self.timeline.is_some() {
            return None;
        }
        let columns = Columns { ops: self.ops, sources, fail_means: self.options.fail_means };
        self.model.decide_columns(&columns, &self.budget)
    }
}

fn summary(mut results: Vec<(usize, KeyResult)>, stats: CheckStats) -> CheckResult {
    results.sort_by_key(|(at, result)| (std::cmp::Reverse(result.verdict), result.explanation.is_none(), *at));
    let keys: Vec<KeyResult> = results.into_iter().map(|(_, result)| result).collect();
    let verdict = keys.iter().fold(Verdict::Valid, |verdict, key| verdict.merge(key.verdict));
    let hit = keys.iter().filter(|key| key.verdict == verdict).count();
    let first = keys.first();
    let name = match first {
        Some(key) if keys.len() > 1 || key.key != "nil" => format!("key {}", key.key),
        _ => "the history".to_owned(),
    };
    let share = if keys.len() > 1 { format!(" ({hit} of {} keys)", keys.len()) } else { String::new() };
    let reason = match verdict {
        Verdict::Valid => "linearizable".to_owned(),
        Verdict::Invalid => format!("{name} is not linearizable{share}"),
        Verdict::Unknown => {
            let why = first.and_then(|key| key.reason.as_deref()).unwrap_or("not decided");
            format!("{name} could not be decided{share}: {why}")
        }
    };
    CheckResult { checker: String::new(), verdict, reason, keys, stats }
}

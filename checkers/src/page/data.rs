//! What a page holds, as its script wants it: columns, so that it stays small.

use super::PageOptions;
use super::faults::{self, Fault};
use crate::linear::{line_text, longest_orders};
use crate::{CheckResult, Explanation, History, HistoryError, KeyResult, Op, Ops, Outcome, Verdict};
use serde::Serialize;
use std::collections::HashMap;
use std::time::Instant;

/// Longer texts are cut (characters).
const TEXT_LEN_MAX: usize = 1000;

/// Keys in a page, at most.
const KEYS_MAX: usize = 200;

/// Keys whose orders are looked for, at most.
const TRACED_MAX: usize = 20;

/// Everything.
#[derive(Debug, Serialize)]
pub(super) struct Data {
    title: String,
    verdict: Word,
    reason: String,
    nodes: Vec<String>,
    faults: Vec<Fault>,
    end_ns: u64,
    events: usize,
    keys: Vec<Key>,
    left_out: usize,
}

/// In capitals, as in reports.
type Word = &'static str;

#[derive(Debug, Serialize)]
struct Key {
    key: String,
    verdict: Word,
    reason: Option<String>,
    ops: Columns,
    explanation: Option<Told>,
    tree: Option<Tree>,
    tree_note: Option<String>,
}

/// A column for each property of operations, in the order of their invocations. What is not there is -1.
#[derive(Debug, Default, Serialize)]
struct Columns {
    process: Vec<u32>,
    node: Vec<i32>,
    call: Vec<u64>,
    ret: Vec<i64>,
    call_ns: Vec<u64>,
    ret_ns: Vec<i64>,
    /// A letter each: ok, failed, unknown.
    outcome: String,
    /// A digit each: whether it only observes.
    reads: String,
    text: Vec<String>,
}

/// An explanation; its operations are places in [`Columns`].
#[derive(Debug, Serialize)]
struct Told {
    ops: Vec<usize>,
    /// What an operation is called here, when not by its own text.
    texts: Vec<Option<String>>,
    optional: Vec<bool>,
    culprit: usize,
    why: String,
    start: Option<String>,
    others: u64,
    states: Vec<String>,
    states_more: u64,
    blocked: Vec<(usize, String)>,
}

/// Orders that begin alike.
#[derive(Debug, Serialize)]
struct Tree {
    /// -1 at the beginning.
    parent: Vec<i64>,
    op: Vec<u32>,
    state: Vec<u32>,
    texts: Vec<String>,
    leaves: Vec<u32>,
    complete: bool,
}

pub(super) fn of(history: &History, result: &CheckResult, options: &PageOptions) -> Result<Data, HistoryError> {
    let ops = history.ops()?;
    let by_key = ops.by_key();
    let mut numbers: HashMap<String, usize> = (0..by_key.len()).map(|n| (by_key.key(n).to_string(), n)).collect();
    let mut wanted: Vec<(usize, Option<&KeyResult>)> = Vec::new();
    // Results have the worst first.
    for key in &result.keys {
        wanted.extend(numbers.remove(&key.key).map(|number| (number, Some(key))));
    }
    let mut rest: Vec<usize> = numbers.into_values().collect();
    rest.sort_unstable();
    wanted.extend(rest.into_iter().map(|number| (number, None)));
    if let Some(name) = &options.key {
        wanted.retain(|(number, _)| by_key.key(*number).to_string() == *name);
        if wanted.is_empty() {
            return Err(HistoryError::NoSuchKey { key: name.clone() });
        }
    }
    let (mut keys, mut nodes) = (Vec::new(), Nodes::default());
    let (mut left_out, mut count) = (0, 0);
    for (number, judged) in wanted {
        let sources = by_key.ops(number);
        if !keys.is_empty() && (count + sources.len() > options.ops_max || keys.len() >= KEYS_MAX) {
            left_out += 1;
            continue;
        }
        count += sources.len();
        let is_traced = keys.len() < TRACED_MAX;
        keys.push(key(&ops, sources, by_key.key(number).to_string(), judged, options, is_traced, &mut nodes));
    }
    Ok(Data {
        title: options.title.clone(),
        verdict: result.verdict.as_str(),
        reason: result.reason.clone(),
        nodes: nodes.names,
        faults: faults::of(history),
        end_ns: history.len().checked_sub(1).and_then(|last| history.get(last)).map_or(0, |event| event.time_ns),
        events: history.len(),
        keys,
        left_out,
    })
}

#[derive(Default)]
struct Nodes {
    names: Vec<String>,
}

impl Nodes {
    fn number(&mut self, op: &Op<'_>) -> i32 {
        let Some(node) = op.node() else { return -1 };
        let known = self.names.iter().position(|name| *name == node.as_str());
        known.unwrap_or_else(|| {
            self.names.push(node.to_string());
            self.names.len() - 1
        }) as i32
    }
}

fn key(
    ops: &Ops<'_>,
    sources: &[u32],
    name: String,
    judged: Option<&KeyResult>,
    options: &PageOptions,
    is_traced: bool,
    nodes: &mut Nodes,
) -> Key {
    let mut columns = Columns::default();
    let mut places: HashMap<u64, usize> = HashMap::new();
    for op in sources.iter().filter_map(|&source| ops.get(source as usize)) {
        places.insert(op.call_index() as u64, columns.call.len());
        let completion = op.completion_index().map_or(-1, |index| index as i64);
        columns.process.push(op.process());
        columns.node.push(nodes.number(&op));
        columns.call.push(op.call_index() as u64);
        columns.ret.push(completion);
        columns.call_ns.push(op.call_ns());
        columns.ret_ns.push(op.completion_ns().map_or(-1, |ns| ns as i64));
        columns.outcome.push(match op.outcome() {
            Outcome::Ok => 'o',
            Outcome::Fail => 'f',
            Outcome::Unfinished => 'u',
        });
        let observes = ["read", "get", "contains"].contains(&op.f().as_str());
        columns.reads.push(if observes { '1' } else { '0' });
        columns.text.push(cut(line_text(&op)));
    }
    let explanation = judged.and_then(|judged| judged.explanation.as_ref());
    let told = explanation.map(|explanation| told(explanation, &places, &columns));
    let up_to = explanation.map(|explanation| explanation.prefix_index);
    let is_unexplained = judged.is_some_and(|judged| judged.verdict != Verdict::Valid) && up_to.is_none();
    let mut tree_note = None;
    let mut tree = None;
    if let Some(model) = options.model.filter(|_| is_traced && !is_unexplained) {
        let deadline = Instant::now() + options.time_max;
        match longest_orders(ops, sources, (model, options.fail_means), up_to, deadline) {
            Some(orders) => {
                if orders.left_out > 0 {
                    tree_note = Some(format!("{} operations of unknown outcome were not tried.", orders.left_out));
                }
                tree = Some(Tree {
                    parent: orders.parent.iter().map(|parent| parent.map_or(-1, i64::from)).collect(),
                    op: orders.op,
                    state: orders.state,
                    texts: orders.states.into_iter().map(cut).collect(),
                    leaves: orders.leaves,
                    complete: orders.is_complete,
                });
            }
            None => tree_note = Some("Too much is open at once to follow orders.".to_owned()),
        }
    }
    Key {
        key: name,
        verdict: judged.map_or("", |judged| judged.verdict.as_str()),
        reason: judged.and_then(|judged| judged.reason.clone()),
        ops: columns,
        explanation: told,
        tree,
        tree_note,
    }
}

fn told(explanation: &Explanation, places: &HashMap<u64, usize>, columns: &Columns) -> Told {
    let shown = |line: &&crate::OpLine| places.contains_key(&line.call_index);
    let lines: Vec<&crate::OpLine> = explanation.ops.iter().filter(shown).collect();
    let ops: Vec<usize> = lines.iter().map(|line| places[&line.call_index]).collect();
    let texts = lines.iter().zip(&ops).map(|(line, op)| {
        let text = cut(line.text.clone());
        (text != columns.text[*op]).then_some(text)
    });
    Told {
        texts: texts.collect(),
        optional: lines.iter().map(|line| line.optional || line.outcome == "unknown").collect(),
        ops,
        culprit: explanation.culprit,
        why: explanation.why.clone(),
        start: explanation.start.clone(),
        others: explanation.others,
        states: explanation.states.iter().cloned().map(cut).collect(),
        states_more: explanation.states_more,
        blocked: explanation.blocked.iter().map(|blocked| (blocked.op, blocked.why.clone())).collect(),
    }
}

fn cut(text: String) -> String {
    match text.char_indices().nth(TEXT_LEN_MAX) {
        None => text,
        Some((at, _)) => format!("{} … ({} characters)", &text[..at], text.chars().count()),
    }
}

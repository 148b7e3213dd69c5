//! From "no order exists" to a handful of operations that a person can follow.
//!
//! 1. The shortest prefix of the history without an order, by bisection: a prefix of a linearizable history is
//!    linearizable, so there is one event from which on no order exists. Operations that end later count as unfinished.
//! 2. Operations are left out while no order exists still. Left out are reads, one by one, and values, each with all
//!    operations that write or observe it (and what compare-and-set ties to it); then writes that nobody can have
//!    observed, because whoever could came before them or after another write. Either way, had the history had an
//!    order, so would what is left: what is left is therefore wrong by itself. Leaving out any other write would not do:
//!    its readers would be wrong for another reason.
//! 3. The culprit is the operation whose return ends the prefix of what is left; why it cannot be placed is worked out
//!    for the common cases and said in general for the rest.
//!
//! All of this runs under the check's budget and a limit of its own; when time is short the set is only larger.

use super::engines::{Engine, is_impossible};
use super::problem::{Budget, Item, NEVER};
use crate::verdict::{Explanation, OpLine, seconds};
use crate::{Op, Outcome, Value};
use std::collections::HashMap;
use std::time::{Duration, Instant};

/// Time to look for a smaller set, at most.
const TIME_MAX: Duration = Duration::from_secs(5);

/// Configurations of one decision: those of small sets take few.
const CONFIGURATIONS_MAX: u64 = 200_000;

/// Explains why no order of `items` exists. `source` gives the operation of an item, `all` are those of this key,
/// failed ones included. `None` when the budget ran out before even a prefix was found.
pub(crate) fn explain<'h, M: Engine>(
    model: &M,
    key: &str,
    items: &[Item<M::Op>],
    source: impl Fn(usize) -> Option<Op<'h>>,
    all: &[Op<'h>],
    budget: &Budget,
) -> Option<Explanation> {
    let own = Instant::now() + TIME_MAX;
    let budget = Budget {
        deadline: Some(budget.deadline.map_or(own, |deadline| deadline.min(own))),
        configurations_max: CONFIGURATIONS_MAX,
        ..*budget
    };
    let numbered: Vec<(usize, Item<M::Op>)> = items.iter().cloned().enumerate().collect();
    let (prefix, prefix_index) = shortest_prefix(model, numbered, &budget);
    let small = shrink(model, prefix, &budget);
    // What is left may be impossible even earlier.
    let (small, end) = shortest_prefix(model, small, &budget);
    let culprit_item = items.iter().position(|item| item.ret == end)?;
    let mut kept: Vec<(usize, Op<'h>)> = Vec::new();
    for (at, _) in &small {
        kept.push((*at, source(*at)?));
    }
    kept.sort_by_key(|(_, op)| op.call_index());
    let culprit = kept.iter().position(|(at, _)| *at == culprit_item)?;
    let ops: Vec<Op<'h>> = kept.into_iter().map(|(_, op)| op).collect();
    Some(Explanation {
        key: key.to_owned(),
        why: why(&ops, culprit, all),
        culprit,
        ops: ops.iter().map(line).collect(),
        prefix_index: u64::from(prefix_index),
    })
}

/// Sets larger than this are not thinned out write by write.
const SINGLES_MAX: usize = 400;

type Numbered<O> = Vec<(usize, Item<O>)>;

/// The operations called up to `end`, those that end later unfinished; unfinished reads are gone.
fn cut<M: Engine>(model: &M, items: &Numbered<M::Op>, end: u32) -> Numbered<M::Op> {
    let mut prefix = Vec::new();
    for (at, item) in items.iter().filter(|(_, item)| item.call < end) {
        let mut item = item.clone();
        if item.ret > end {
            item.ret = NEVER;
        }
        if item.is_finished() || !model.is_read_only(&item.op) {
            prefix.push((*at, item));
        }
    }
    prefix
}

fn plain<O: Clone>(items: &Numbered<O>) -> Vec<Item<O>> {
    items.iter().map(|(_, item)| item.clone()).collect()
}

/// The shortest prefix that is impossible for certain, and the event that ends it.
fn shortest_prefix<M: Engine>(model: &M, items: Numbered<M::Op>, budget: &Budget) -> (Numbered<M::Op>, u32) {
    let mut ends: Vec<u32> = items.iter().map(|(_, item)| item.ret).filter(|&ret| ret != NEVER).collect();
    ends.sort_unstable();
    let at = ends.partition_point(|&end| !is_impossible(model, &plain(&cut(model, &items, end)), budget));
    // The whole is impossible; where the budget says otherwise, the last return is the end.
    let Some(&end) = ends.get(at).or(ends.last()) else { return (items, 0) };
    (cut(model, &items, end), end)
}

/// Leaves out what can be left out: ever smaller groups of units, until no single one can.
fn shrink<M: Engine>(model: &M, mut items: Numbered<M::Op>, budget: &Budget) -> Numbered<M::Op> {
    for units_of in [values_units::<M> as fn(&M, &Numbered<M::Op>) -> Vec<Vec<usize>>, read_units::<M>] {
        let mut size = units_of(model, &items).len().div_ceil(2);
        while size > 0 {
            let mut removed = false;
            // Units are worked out afresh for each size: what is gone ties nothing any more.
            for group in units_of(model, &items).chunks(size) {
                let mut gone: Vec<usize> = group.iter().flatten().copied().collect();
                gone.sort_unstable();
                let rest: Numbered<M::Op> =
                    items.iter().filter(|(at, _)| gone.binary_search(at).is_err()).cloned().collect();
                if rest.len() < items.len() && is_impossible(model, &plain(&rest), budget) {
                    items = rest;
                    removed = true;
                }
                if budget.deadline.is_some_and(|deadline| Instant::now() >= deadline) {
                    return items;
                }
            }
            size = if size > 1 { size.div_ceil(2) } else { usize::from(removed) };
        }
    }
    drop_unobserved_writes(model, &mut items, budget);
    items
}

/// Leaves out, one at a time, writes whose value nobody can have found.
fn drop_unobserved_writes<M: Engine>(model: &M, items: &mut Numbered<M::Op>, budget: &Budget) {
    if items.len() > SINGLES_MAX {
        return;
    }
    let Some(mut effects) = items.iter().map(|(_, item)| Effect::of(model, item)).collect::<Option<Vec<_>>>() else {
        return;
    };
    let mut at = 0;
    while at < items.len() {
        let is_over = budget.deadline.is_some_and(|deadline| Instant::now() >= deadline);
        if is_over {
            return;
        }
        if effects[at].is_unobserved_among(&effects) {
            let (item, effect) = (items.remove(at), effects.remove(at));
            if is_impossible(model, &plain(items), budget) {
                // What it stood between may now be free to go, too.
                at = 0;
                continue;
            }
            items.insert(at, item);
            effects.insert(at, effect);
        }
        at += 1;
    }
}

/// An operation of a register: what it found, what it left behind, when.
struct Effect {
    found: Option<Value>,
    left: Option<Value>,
    call: u32,
    ret: u32,
}

impl Effect {
    fn of<M: Engine>(model: &M, item: &Item<M::Op>) -> Option<Self> {
        let mut values = model.tied_values(&item.op)?;
        let last = values.pop()?;
        let (found, left) = match values.pop() {
            Some(first) => (Some(first), Some(last)),
            None if model.is_read_only(&item.op) => (Some(last), None),
            None => (None, Some(last)),
        };
        Some(Self { found, left, call: item.call, ret: item.ret })
    }

    /// Whether no operation can have found what this one left behind: each that found such a value was over before, or
    /// began after another value had certainly taken its place. In the second case the same value must have been left
    /// later once more, or the story would lose the write that the reader came too late for.
    fn is_unobserved_among(&self, all: &[Effect]) -> bool {
        let Some(left) = &self.left else { return false };
        all.iter().filter(|reader| reader.found.as_ref() == Some(left)).all(|reader| {
            let is_before = reader.ret < self.call;
            let again = |other: &Effect| other.left.as_ref() == Some(left) && other.call > self.ret;
            is_before
                || all.iter().any(|other| again(other) && other.call < reader.ret)
                    && all.iter().any(|other| {
                        other.left.as_ref().is_some_and(|new| new != left)
                            && self.ret < other.call
                            && other.ret < reader.call
                    })
        })
    }
}

/// Read-only operations, each alone.
fn read_units<M: Engine>(model: &M, items: &Numbered<M::Op>) -> Vec<Vec<usize>> {
    items.iter().filter(|(_, item)| model.is_read_only(&item.op)).map(|(at, _)| vec![*at]).collect()
}

/// Values, each with everything tied to it. None when some operation forbids it.
fn values_units<M: Engine>(model: &M, items: &Numbered<M::Op>) -> Vec<Vec<usize>> {
    let mut ids: HashMap<Value, usize> = HashMap::new();
    let mut parent: Vec<usize> = Vec::new();
    let mut first: Vec<(usize, usize)> = Vec::new();
    for (at, item) in items {
        let Some(values) = model.tied_values(&item.op) else { return Vec::new() };
        let mut tied = values.into_iter().map(|value| {
            *ids.entry(value).or_insert_with(|| {
                parent.push(parent.len());
                parent.len() - 1
            })
        });
        let Some(one) = tied.next() else { continue };
        let others: Vec<usize> = tied.collect();
        for other in others {
            let (a, b) = (root(&parent, one), root(&parent, other));
            parent[a] = b;
        }
        first.push((*at, one));
    }
    let mut units: HashMap<usize, Vec<usize>> = HashMap::new();
    let mut order = Vec::new();
    for (at, value) in first {
        let root = root(&parent, value);
        let unit = units.entry(root).or_insert_with(|| {
            order.push(root);
            Vec::new()
        });
        unit.push(at);
    }
    order.into_iter().filter_map(|root| units.remove(&root)).collect()
}

fn root(parent: &[usize], mut value: usize) -> usize {
    while parent[value] != value {
        value = parent[value];
    }
    value
}

pub(super) fn line(op: &Op<'_>) -> OpLine {
    OpLine {
        call_index: op.call_index() as u64,
        completion_index: op.completion_index().map(|index| index as u64),
        call_ns: op.call_ns(),
        completion_ns: op.completion_ns(),
        process: op.process(),
        node: op.node().map(|node| node.to_string()),
        text: text(op),
        outcome: match op.outcome() {
            Outcome::Ok => "ok",
            Outcome::Fail => "fail",
            Outcome::Unfinished => "unknown",
        }
        .into(),
    }
}

/// `read -> 640`, `cas 1 -> 2`, `write 881`.
fn text(op: &Op<'_>) -> String {
    let f = op.f();
    match (f.as_str(), op.argument()) {
        ("read" | "get", _) => match op.result() {
            Some(value) if op.outcome() == Outcome::Ok => format!("{f} -> {value}"),
            _ => f.to_string(),
        },
        ("cas", Value::List(pair)) if pair.len() == 2 => format!("{f} {} -> {}", pair[0], pair[1]),
        (_, Value::Nil) => f.to_string(),
        (_, value) => format!("{f} {value}"),
    }
}

/// The value that an operation found, if it says so.
fn observed(op: &Op<'_>) -> Option<Value> {
    match (op.f().as_str(), op.outcome(), op.argument()) {
        ("read" | "get", Outcome::Ok, _) => op.result(),
        ("cas", Outcome::Ok, Value::List(pair)) => pair.first().cloned(),
        _ => None,
    }
}

/// The value that an operation leaves behind, if it depends on its argument alone.
fn produced(op: &Op<'_>) -> Option<Value> {
    match (op.f().as_str(), op.outcome(), op.argument()) {
        (_, Outcome::Fail, _) => None,
        ("write" | "put", _, value) => Some(value),
        ("delete", _, _) => Some(Value::Nil),
        ("cas", _, Value::List(pair)) => pair.get(1).cloned(),
        _ => None,
    }
}

/// Whether `a` ended before `b` began.
fn precedes(a: &Op<'_>, b: &Op<'_>) -> bool {
    a.outcome() != Outcome::Unfinished && a.completion_index().is_some_and(|end| end < b.call_index())
}

fn why(ops: &[Op<'_>], culprit: usize, all: &[Op<'_>]) -> String {
    let op = &ops[culprit];
    let appends = ops.iter().any(|op| op.f() == "append");
    let general = || format!("no order of these operations lets it be `{}`", text(op));
    let Some(value) = observed(op).filter(|_| !appends) else {
        return match ops.iter().enumerate().rfind(|(at, other)| *at != culprit && observed(other).is_some()) {
            Some((_, other)) if !appends => format!("it leaves no place for `{}`", text(other)),
            _ => general(),
        };
    };
    let writers: Vec<&Op<'_>> = ops
        .iter()
        .filter(|other| produced(other).as_ref() == Some(&value) && other.call_index() != op.call_index())
        .collect();
    if writers.is_empty() && !value.is_nil() {
        return never_written(op, &value, all);
    }
    // Some other value was there after every write of this one and before the culprit.
    let follows_all = |other: &&Op<'_>| writers.iter().all(|writer| precedes(writer, other));
    let overwritten = ops
        .iter()
        .filter(|other| precedes(other, op) && produced(other).is_some_and(|new| new != value))
        // A compare-and-set that found the only write of this value follows it, too.
        .filter(|other| follows_all(other) || writers.len() == 1 && observed(other).as_ref() == Some(&value))
        .max_by_key(|other| other.completion_index());
    let seen = ops
        .iter()
        .filter(|other| precedes(other, op) && observed(other).is_some_and(|other| other != value))
        .max_by_key(|other| other.completion_index());
    match (overwritten, seen) {
        (Some(write), Some(read)) if observed(read) == produced(write) => format!(
            "cannot come after the {} of {}: {value} was overwritten at {} s",
            read.f(),
            produced(write).unwrap_or_default(),
            seconds(write.call_ns())
        ),
        (Some(write), _) => format!("{value} was overwritten by `{}` at {} s", text(write), seconds(write.call_ns())),
        (None, Some(read)) => {
            let new = observed(read);
            let mut writers_of_new = ops.iter().filter(|other| produced(other) == new).peekable();
            if writers_of_new.peek().is_some() && writers_of_new.all(|other| follows_all(&other)) {
                format!("cannot come after `{}`: {value} was overwritten by then", text(read))
            } else {
                format!("cannot come after `{}`: nothing brings {value} back", text(read))
            }
        }
        (None, None) => general(),
    }
}

/// What is wrong with reading a value that nobody had begun to write.
fn never_written(op: &Op<'_>, value: &Value, all: &[Op<'_>]) -> String {
    let writes = |other: &&Op<'_>| {
        let argument = match (other.f().as_str(), other.argument()) {
            ("write" | "put", value) => Some(value),
            ("cas", Value::List(pair)) => pair.get(1).cloned(),
            _ => None,
        };
        argument.as_ref() == Some(value)
    };
    let failed = all.iter().filter(writes).find(|other| other.outcome() == Outcome::Fail);
    let later = all.iter().filter(writes).find(|other| precedes(op, other));
    match (failed, later) {
        (Some(write), _) => {
            let at = seconds(write.call_ns());
            format!("{value} was never written: `{}` at {at} s failed", text(write))
        }
        (None, Some(write)) => format!("{value} was written only later, at {} s", seconds(write.call_ns())),
        (None, None) => format!("nobody ever wrote {value}"),
    }
}

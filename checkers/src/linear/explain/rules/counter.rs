//! Counters.

use super::Rules;
use crate::linear::explain::few::FewOp;
use crate::model::{Counter, CounterOp};
use std::collections::BTreeSet;

/// Most states that stand for all.
const STATES_MAX: usize = 512;

impl Rules for Counter {
    /// The first answer to come back says what the counter was at the beginning, up to the additions that may have come
    /// before it. Without any answer, one beginning is as good as another.
    fn any_state(&self, ops: &[FewOp<CounterOp>]) -> Option<Vec<i64>> {
        let answer = |op: &CounterOp| match *op {
            CounterOp::FetchAdd(_, answer) | CounterOp::Read(answer) => Some(answer),
            CounterOp::Add(_) => None,
        };
        let certain = ops.iter().enumerate().filter(|(_, op)| !op.is_optional);
        let first = certain.filter_map(|(at, op)| Some((op.ret, at, answer(&op.op)?))).min();
        let Some((ret, first, answer)) = first else { return Some(vec![0]) };
        let mut starts = BTreeSet::from([answer]);
        for (at, op) in ops.iter().enumerate() {
            let (CounterOp::Add(n) | CounterOp::FetchAdd(n, _)) = op.op else { continue };
            if op.call < ret && at != first {
                let earlier: Vec<i64> = starts.iter().filter_map(|start| start.checked_sub(n)).collect();
                starts.extend(earlier);
            }
            if starts.len() > STATES_MAX {
                return None;
            }
        }
        Some(starts.into_iter().collect())
    }

    fn unanswered(&self, op: &CounterOp) -> CounterOp {
        if let CounterOp::FetchAdd(n, _) = *op { CounterOp::Add(n) } else { op.clone() }
    }

    fn bound(&self, ops: &[&CounterOp]) -> Option<String> {
        let steps = ops.iter().filter_map(|op| match op {
            CounterOp::Add(n) | CounterOp::FetchAdd(n, _) => Some(i128::from(*n)),
            CounterOp::Read(_) => None,
        });
        let (up, down) = steps.fold((0, 0), |(up, down), n| (up + n.max(0), down + n.min(0)));
        Some(format!("all that was added by then comes to {down} at least and {up} at most"))
    }

    fn subject(&self) -> &'static str {
        "the counter stands at"
    }

    fn state_text(&self, state: &i64) -> String {
        state.to_string()
    }

    fn needs(&self, op: &CounterOp) -> Option<String> {
        match op {
            CounterOp::FetchAdd(_, answer) | CounterOp::Read(answer) => Some(answer.to_string()),
            CounterOp::Add(_) => None,
        }
    }
}

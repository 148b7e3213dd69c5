//! Counters.

use super::Rules;
use crate::Value;
use crate::linear::explain::few::FewOp;
use crate::model::{Counter, CounterOp};

impl Rules for Counter {
    /// The first answer to come back says what the counter was just before it. What was called by then may have happened
    /// earlier. Without any answer, one beginning is as good as another.
    fn any_state(&self, ops: &mut [FewOp<CounterOp>]) -> Option<Vec<i64>> {
        let answer = |op: &FewOp<CounterOp>| match op.op {
            CounterOp::FetchAdd(_, answer) | CounterOp::Read(answer) if !op.is_optional => Some(answer),
            _ => None,
        };
        let first = ops.iter().enumerate().filter_map(|(at, op)| Some((op.ret, at, answer(op)?))).min();
        let Some((ret, first, answer)) = first else { return Some(vec![0]) };
        for (at, op) in ops.iter_mut().enumerate() {
            op.is_optional |= op.call < ret && at != first;
        }
        Some(vec![answer])
    }

    fn unanswered(&self, op: &CounterOp) -> CounterOp {
        if let CounterOp::FetchAdd(n, _) = *op { CounterOp::Add(n) } else { op.clone() }
    }

    fn restricted_text(&self, _: &str, op: &CounterOp, _: &[Value]) -> String {
        if let CounterOp::Add(n) = op { format!("fetch-add {n}, answered later") } else { format!("{op:?}") }
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

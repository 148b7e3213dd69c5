//! Nothing at all, as fast as possible: measures the harness itself.

use squall_checkers::{CheckResult, EventKind, History, Sym, Value, Verdict};
use squall_harness::config::{ConfigError, Count, Rate, Section};
use squall_harness::generator::{self, Context, Generator, Next, OpSpec};
use squall_harness::{CheckBudget, Checker, Kind, Shape, Workload};

/// How this workload is named and read.
pub fn kind() -> Kind<dyn Workload> {
    Kind { name: "noop", doc: "operations that do nothing: how fast is the harness?", read }
}

struct Noop {
    rate: f64,
    concurrency: Count,
}

fn read(section: &mut Section) -> Result<Box<dyn Workload>, ConfigError> {
    let rate = section.get("rate", Rate(0.0), "operations per second over all workers; 0 for as fast as they can")?;
    let concurrency = crate::concurrency(section)?;
    Ok(Box::new(Noop { rate: rate.0, concurrency }))
}

impl Workload for Noop {
    fn name(&self) -> &'static str {
        "noop"
    }

    fn concurrency(&self, nodes: usize) -> usize {
        self.concurrency.resolve(nodes)
    }

    fn generator(&self, _: &Shape) -> Box<dyn Generator> {
        Box::new(generator::Rate::new(self.rate, Endless { word: Sym::new("noop"), next: 0 }))
    }

    fn final_generator(&self, _: &Shape) -> Option<Box<dyn Generator>> {
        None
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(AllOk)]
    }
}

struct Endless {
    word: Sym,
    next: i64,
}

impl Generator for Endless {
    fn next(&mut self, _: &Context) -> Next {
        self.next += 1;
        Next::Op(OpSpec::new(self.word, Value::Int(self.next % 64), Value::Int(self.next)))
    }
}

/// Every operation is there and ended ok.
struct AllOk;

impl Checker for AllOk {
    fn name(&self) -> &'static str {
        "all-ok"
    }

    fn check(&self, history: &History, _: &CheckBudget) -> CheckResult {
        let count = |kind| history.iter().filter(|event| event.kind == kind).count();
        let (invoked, ok) = (count(EventKind::Invoke), count(EventKind::Ok));
        let (verdict, reason) = match (invoked, ok) {
            (0, _) => (Verdict::Unknown, "there was no operation".to_owned()),
            _ if invoked == ok => (Verdict::Valid, format!("all {ok} operations are there")),
            _ => (Verdict::Invalid, format!("{} of {invoked} operations did not end ok", invoked - ok)),
        };
        CheckResult { checker: "all-ok".to_owned(), verdict, reason, ..CheckResult::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_checkers::Event;
    use std::time::Duration;

    fn history(kinds: &[EventKind]) -> History {
        let event = |(index, kind): (usize, &EventKind)| Event {
            index: index as u64,
            time_ns: index as u64,
            kind: *kind,
            process: index as u32 / 2,
            f: Sym::new("noop"),
            key: Value::Int(1),
            value: Value::Int(1),
            node: None,
            intended_ns: None,
            error: None,
        };
        History::from_events(kinds.iter().enumerate().map(event)).unwrap()
    }

    #[test]
    fn operations_that_went_missing_are_noticed() {
        use EventKind::{Fail, Info, Invoke, Ok};
        let table: [(&[EventKind], Verdict); 5] = [
            (&[], Verdict::Unknown),
            (&[Invoke, Ok, Invoke, Ok], Verdict::Valid),
            (&[Invoke, Ok, Invoke], Verdict::Invalid),
            (&[Invoke, Fail], Verdict::Invalid),
            (&[Invoke, Info], Verdict::Invalid),
        ];
        let budget = CheckBudget { time_max: Duration::from_secs(1), memory_max: 1 << 20 };
        for (kinds, verdict) in table {
            assert_eq!(AllOk.check(&history(kinds), &budget).verdict, verdict, "{kinds:?}");
        }
    }
}

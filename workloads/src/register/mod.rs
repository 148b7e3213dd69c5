//! Registers: read, write and compare-and-set over many keys.
//!
//! Every write and every compare-and-set writes a value that nobody wrote before, so that each read tells which operation
//! it saw. A compare-and-set expects a value that was recently seen for its key, so that it often succeeds. At the end
//! every key is read on every node. Vocabulary: `read` (result: the value or nil), `write` (argument: the value),
//! `cas` (argument: `[expected, new]`).

mod final_reads;
mod operations;

use final_reads::{FinalReads, FinalReadsDone};
use operations::{Mix, Operations};
use squall_checkers::linear::online::{Online, OnlineOptions};
use squall_checkers::linear::{self, CheckOptions};
use squall_checkers::{CheckResult, FailMeans, History, ModelKind};
use squall_harness::config::{ConfigError, Count, Rate, Section};
use squall_harness::generator::{self, Generator};
use squall_harness::{CheckBudget, Checker, Kind, Shape, Workload};
use std::time::Instant;

/// How this workload is named and read.
pub fn kind() -> Kind<dyn Workload> {
    Kind { name: "register", doc: "read, write and compare-and-set over many keys: linearizable?", read }
}

struct Register {
    keys: i64,
    rate: f64,
    concurrency: Count,
    mix: Mix,
    final_reads: usize,
}

fn read(section: &mut Section) -> Result<Box<dyn Workload>, ConfigError> {
    let keys = section.get("keys", 40u64, "how many registers")?;
    let rate =
        section.get("rate", Rate(2000.0), "operations per second over all workers; 0 for as fast as they can")?;
    let concurrency = crate::concurrency(section)?;
    let mut mix = section.section("mix")?;
    let weights = Mix {
        read: mix.get("read", 2u32, "weight of reads")?,
        write: mix.get("write", 1u32, "weight of writes")?,
        cas: mix.get("cas", 1u32, "weight of compare-and-sets")?,
    };
    mix.finish()?;
    let final_reads = section.get("final_reads", 1u64, "how often each key is read back on each node after healing")?;
    if !(1..=1_000_000).contains(&keys) {
        return Err(section.error(format!("`keys` must be between 1 and a million, not {keys}")));
    }
    let total = [weights.read, weights.write, weights.cas].iter().try_fold(0u32, |sum, w| sum.checked_add(*w));
    if total.is_none_or(|total| total == 0) {
        return Err(section.error("`mix` needs weights that add up to something between 1 and 4 billion"));
    }
    if !(1..=100).contains(&final_reads) {
        return Err(section.error(format!("`final_reads` must be between 1 and 100, not {final_reads}")));
    }
    Ok(Box::new(Register {
        keys: keys as i64,
        rate: rate.0,
        concurrency,
        mix: weights,
        final_reads: final_reads as usize,
    }))
}

impl Workload for Register {
    fn name(&self) -> &'static str {
        "register"
    }

    fn concurrency(&self, nodes: usize) -> usize {
        self.concurrency.resolve(nodes)
    }

    fn generator(&self, shape: &Shape) -> Box<dyn Generator> {
        let rng = shape.seed.stream("generator/register");
        Box::new(generator::Rate::new(self.rate, Operations::new(rng, self.mix, self.keys as usize)))
    }

    fn final_generator(&self, shape: &Shape) -> Option<Box<dyn Generator>> {
        Some(Box::new(FinalReads::new(self.keys, shape.nodes, self.final_reads)))
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(Linearizable), Box::new(FinalReadsDone { keys: self.keys })]
    }

    fn online(&self) -> Option<Online> {
        // Failures as in `Linearizable`.
        Some(Online::new(ModelKind::CasRegister, OnlineOptions::default()))
    }
}

/// Every key is a linearizable compare-and-set register.
struct Linearizable;

impl Checker for Linearizable {
    fn name(&self) -> &'static str {
        "linearizable"
    }

    fn check(&self, history: &History, budget: &CheckBudget) -> CheckResult {
        let options = CheckOptions {
            deadline: Some(Instant::now() + budget.time_max),
            memory_max: budget.memory_max,
            // A compare-and-set may also fail because it was refused unseen, which says nothing about the value.
            fail_means: FailMeans::NoEffect,
            ..CheckOptions::default()
        };
        linear::check(history, ModelKind::CasRegister, &options)
    }

    fn judged_as(&self) -> Option<(ModelKind, FailMeans)> {
        Some((ModelKind::CasRegister, FailMeans::NoEffect))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_checkers::{Event, EventKind, Sym, Value, Verdict};
    use squall_harness::Seed;
    use squall_harness::config::Doc;
    use squall_harness::generator::{Context, Next};
    use std::time::Duration;

    fn workload(yaml: &str) -> Result<Box<dyn Workload>, String> {
        let mut section = Section::new("workload.register", Doc::parse("a.yaml", yaml).unwrap()).unwrap();
        let workload = read(&mut section).map_err(|error| error.to_string())?;
        section.finish().map_err(|error| error.to_string())?;
        Ok(workload)
    }

    #[test]
    fn settings_are_read_and_bad_ones_said() {
        assert_eq!(workload("{}").unwrap().concurrency(5), 10);
        assert_eq!(workload("{ concurrency: 3 }").unwrap().concurrency(5), 3);
        let table = [
            ("{ keys: 0 }", "`keys` must be between"),
            ("{ keys: 9999999999 }", "`keys` must be between"),
            ("{ mix: { read: 0, write: 0, cas: 0 } }", "`mix` needs weights"),
            ("{ mix: { read: 4294967295, write: 1 } }", "`mix` needs weights"),
            ("{ mix: { append: 1 } }", "append"),
            ("{ final_reads: 0 }", "`final_reads` must be between"),
            ("{ concurrency: 18446744073709551615n }", "`concurrency` must be at most"),
            ("{ concurrency: 10001 }", "`concurrency` must be at most"),
            ("{ kees: 4 }", "did you mean `keys`"),
        ];
        for (yaml, what) in table {
            let error = workload(yaml).err().unwrap_or_else(|| panic!("{yaml} was accepted"));
            assert!(error.contains(what), "{yaml}: {error}");
        }
    }

    #[test]
    fn slots_come_in_order_at_the_rate_and_not_at_all_without_one() {
        let shape = Shape { threads: 4, nodes: 2, seed: Seed(1) };
        let slots = |yaml| -> Vec<Option<u64>> {
            let mut generator = workload(yaml).unwrap().generator(&shape);
            let slot = |thread| match generator.next(&Context { now_ns: 0, thread, process: 0, threads: 4 }) {
                Next::Op(op) => op.at_ns,
                other => panic!("{other:?}"),
            };
            (0..4).map(slot).collect()
        };
        assert_eq!(slots("{ rate: 1000/s }"), [0, 1_000_000, 2_000_000, 3_000_000].map(Some));
        assert_eq!(slots("{ rate: 0 }"), [None; 4]);
    }

    /// Operations of one process, one after the other: `write 1`, `read 1`, `cas 1 2`.
    fn history(lines: &[&str]) -> History {
        let mut events = Vec::new();
        for line in lines {
            let (f, rest) = line.split_once(' ').unwrap();
            let numbers: Vec<Value> = rest.split(' ').map(|n| Value::Int(n.parse().unwrap())).collect();
            let value = if f == "cas" { Value::List(numbers.into()) } else { numbers[0].clone() };
            let argument = if f == "read" { Value::Nil } else { value.clone() };
            for (kind, value) in [(EventKind::Invoke, argument), (EventKind::Ok, value)] {
                let index = events.len() as u64;
                events.push(Event {
                    index,
                    time_ns: index * 10,
                    kind,
                    process: 0,
                    f: Sym::new(f),
                    key: Value::Int(0),
                    value,
                    node: None,
                    intended_ns: None,
                    error: None,
                });
            }
        }
        History::from_events(events).unwrap()
    }

    #[test]
    fn a_lost_write_is_detected_and_a_clean_history_is_valid() {
        let table: [(&[&str], Verdict); 5] = [
            (&["write 1", "read 1", "cas 1 2", "read 2"], Verdict::Valid),
            (&["write 1", "write 2", "read 1"], Verdict::Invalid),
            (&["write 1", "cas 1 2", "read 1"], Verdict::Invalid),
            (&["write 1", "cas 3 2"], Verdict::Invalid),
            (&[], Verdict::Unknown),
        ];
        let budget = CheckBudget { time_max: Duration::from_secs(60), memory_max: 1 << 28 };
        for (lines, verdict) in table {
            assert_eq!(Linearizable.check(&history(lines), &budget).verdict, verdict, "{lines:?}");
        }
    }
}

//! Registers: read, write and compare-and-set over many keys.
//!
//! Every write and every compare-and-set writes a value that nobody wrote before, so that each read tells which operation
//! it saw. A compare-and-set expects a value that was recently seen for its key, so that it often succeeds. At the end
//! every key is read several times. Vocabulary: `read` (result: the value or nil), `write` (argument: the value),
//! `cas` (argument: `[expected, new]`).

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use squall_checkers::linear::{self, CheckOptions};
use squall_checkers::{CheckResult, Event, EventKind, FailMeans, History, ModelKind, Sym, Value, Verdict};
use squall_harness::config::{ConfigError, Count, Rate, Section};
use squall_harness::generator::{self, Context, Generator, Next, OpSpec, UntilOk};
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

/// Relative frequencies.
#[derive(Clone, Copy)]
struct Mix {
    read: u32,
    write: u32,
    cas: u32,
}

fn read(section: &mut Section) -> Result<Box<dyn Workload>, ConfigError> {
    let keys = section.get("keys", 40u64, "how many registers")?;
    let rate =
        section.get("rate", Rate(2000.0), "operations per second over all workers; 0 for as fast as they can")?;
    let concurrency = section.get("concurrency", Count::PerNode(2), "workers; worker i talks to node i mod nodes")?;
    let mut mix = section.section("mix")?;
    let weights = Mix {
        read: mix.get("read", 2u32, "weight of reads")?,
        write: mix.get("write", 1u32, "weight of writes")?,
        cas: mix.get("cas", 1u32, "weight of compare-and-sets")?,
    };
    mix.finish()?;
    let final_reads = section.get("final_reads", 3u64, "how often each key is read back after healing")?;
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
        let operations = Operations {
            rng: shape.seed.stream("generator/register"),
            mix: self.mix,
            seen: vec![Value::Nil; self.keys as usize],
            next_value: 1,
            words: Words::new(),
        };
        Box::new(generator::Rate::new(self.rate, operations))
    }

    fn final_generator(&self, _: &Shape) -> Option<Box<dyn Generator>> {
        let read = Sym::new("read");
        let reads =
            (0..self.final_reads).flat_map(|_| 0..self.keys).map(|key| OpSpec::new(read, Value::Int(key), Value::Nil));
        Some(Box::new(UntilOk::new(reads.collect::<Vec<_>>())))
    }

    fn checkers(&self) -> Vec<Box<dyn Checker>> {
        vec![Box::new(Linearizable), Box::new(FinalReads { keys: self.keys })]
    }
}

struct Words {
    read: Sym,
    write: Sym,
    cas: Sym,
}

impl Words {
    fn new() -> Self {
        Self { read: Sym::new("read"), write: Sym::new("write"), cas: Sym::new("cas") }
    }
}

/// The endless stream of operations.
struct Operations {
    rng: ChaCha8Rng,
    mix: Mix,
    /// The value last seen for each key.
    seen: Vec<Value>,
    next_value: i64,
    words: Words,
}

impl Operations {
    fn fresh(&mut self) -> Value {
        self.next_value += 1;
        Value::Int(self.next_value - 1)
    }
}

impl Generator for Operations {
    fn next(&mut self, _: &Context) -> Next {
        let Mix { read, write, cas } = self.mix;
        let key = self.rng.random_range(0..self.seen.len());
        let draw = self.rng.random_range(0..read + write + cas);
        let (f, value) = if draw < read {
            (self.words.read, Value::Nil)
        } else if draw < read + write {
            (self.words.write, self.fresh())
        } else {
            let expected = self.seen[key].clone();
            (self.words.cas, Value::list([expected, self.fresh()]))
        };
        Next::Op(OpSpec::new(f, Value::Int(key as i64), value))
    }

    fn update(&mut self, _: &Context, event: &Event) {
        if event.kind != EventKind::Ok {
            return;
        }
        let Some(slot) = event.key.as_int().and_then(|key| self.seen.get_mut(key as usize)) else { return };
        match &event.value {
            Value::List(pair) => *slot = pair.last().cloned().unwrap_or_default(),
            value => *slot = value.clone(),
        }
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
}

/// Every key was read after healing: without that, nobody looked whether anything was lost.
struct FinalReads {
    keys: i64,
}

impl Checker for FinalReads {
    fn name(&self) -> &'static str {
        "final-reads"
    }

    fn check(&self, history: &History, _: &CheckBudget) -> CheckResult {
        let mut read = vec![false; self.keys as usize];
        let (phase, word) = (Sym::new("final"), Sym::new("read"));
        let mut reached = false;
        for event in history.iter().rev() {
            if event.kind == EventKind::Phase && event.f == phase {
                reached = true;
                break;
            }
            if event.kind == EventKind::Ok
                && event.f == word
                && let Some(slot) = event.key.as_int().and_then(|key| read.get_mut(key as usize))
            {
                *slot = true;
            }
        }
        let missing = read.iter().filter(|done| !**done).count();
        let (verdict, reason) = if !reached {
            (Verdict::Unknown, "the run ended before the final reads".to_owned())
        } else if missing > 0 {
            (Verdict::Unknown, format!("{missing} of {} keys could not be read back after healing", self.keys))
        } else {
            (Verdict::Valid, format!("all {} keys were read back after healing", self.keys))
        };
        CheckResult { checker: "final-reads".to_owned(), verdict, reason, ..CheckResult::default() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_harness::Seed;
    use std::collections::HashSet;

    fn workload() -> Register {
        let mix = Mix { read: 2, write: 1, cas: 1 };
        Register { keys: 3, rate: 0.0, concurrency: Count::Absolute(4), mix, final_reads: 2 }
    }

    fn ops(seed: u64, count: usize) -> Vec<OpSpec> {
        let mut generator = workload().generator(&Shape { threads: 4, nodes: 2, seed: Seed(seed) });
        let context = Context { now_ns: 0, thread: 0, process: 0, threads: 4 };
        (0..count)
            .map(|_| match generator.next(&context) {
                Next::Op(op) => op,
                other => panic!("{other:?}"),
            })
            .collect()
    }

    #[test]
    fn no_value_is_written_twice() {
        let mut written = HashSet::new();
        for op in ops(1, 5000) {
            let value = match &op.value {
                Value::Nil => continue,
                Value::List(pair) => pair[1].clone(),
                value => value.clone(),
            };
            assert!(written.insert(value), "{op:?}");
        }
        assert!(written.len() > 2000);
    }

    #[test]
    fn a_seed_gives_the_same_operations() {
        assert_eq!(ops(7, 500), ops(7, 500));
        assert_ne!(ops(7, 500), ops(8, 500));
    }

    #[test]
    fn unread_keys_are_unknown() {
        let event = |index, kind, f: &str, key| Event {
            index,
            time_ns: index * 10,
            kind,
            process: 0,
            f: Sym::new(f),
            key: Value::Int(key),
            value: Value::Nil,
            node: None,
            intended_ns: None,
            error: None,
        };
        let check = |events: Vec<Event>| {
            let budget = CheckBudget { time_max: std::time::Duration::from_secs(1), memory_max: 1 << 20 };
            FinalReads { keys: 1 }.check(&History::from_events(events).unwrap(), &budget).verdict
        };
        let read = |at| [event(at, EventKind::Invoke, "read", 0), event(at + 1, EventKind::Ok, "read", 0)];
        let phase = |at| event(at, EventKind::Phase, "final", 0);
        assert_eq!(check(read(0).to_vec()), Verdict::Unknown);
        assert_eq!(check([read(0).to_vec(), vec![phase(2)]].concat()), Verdict::Unknown);
        assert_eq!(check([vec![phase(0)], read(1).to_vec()].concat()), Verdict::Valid);
    }
}

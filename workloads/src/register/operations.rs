//! The operations of the main phase.
//!
//! Pure: its only randomness is a seeded stream, and what it knows of the system it learns from completions.

use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use squall_checkers::{Event, EventKind, Sym, Value};
use squall_harness::generator::{Context, Generator, Next, OpSpec};

/// Relative frequencies; not all of them 0, and their sum fits.
#[derive(Clone, Copy)]
pub(super) struct Mix {
    pub(super) read: u32,
    pub(super) write: u32,
    pub(super) cas: u32,
}

/// The endless stream of operations. Laws: no value is written twice, whatever the key; the same seed and the same
/// completions give the same operations.
pub(super) struct Operations {
    rng: ChaCha8Rng,
    mix: Mix,
    /// The value last seen for each key: what a compare-and-set expects, so that it often succeeds.
    seen: Vec<Value>,
    next_value: i64,
    read: Sym,
    write: Sym,
    cas: Sym,
}

impl Operations {
    /// Operations on the keys below `keys`.
    pub(super) fn new(rng: ChaCha8Rng, mix: Mix, keys: usize) -> Self {
        let (read, write, cas) = (Sym::new("read"), Sym::new("write"), Sym::new("cas"));
        Self { rng, mix, seen: vec![Value::Nil; keys], next_value: 1, read, write, cas }
    }

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
            (self.read, Value::Nil)
        } else if draw < read + write {
            (self.write, self.fresh())
        } else {
            let expected = self.seen[key].clone();
            (self.cas, Value::list([expected, self.fresh()]))
        };
        Next::Op(OpSpec::new(f, Value::Int(key as i64), value))
    }

    fn update(&mut self, _: &Context, event: &Event) {
        if event.kind != EventKind::Ok {
            return;
        }
        let Some(slot) = event.key.as_int().and_then(|key| self.seen.get_mut(usize::try_from(key).ok()?)) else {
            return;
        };
        match &event.value {
            Value::List(pair) => *slot = pair.last().cloned().unwrap_or_default(),
            value => *slot = value.clone(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use squall_harness::Seed;
    use std::collections::{HashMap, HashSet};

    const CONTEXT: Context = Context { now_ns: 0, thread: 0, process: 0, threads: 4 };
    const MIX: Mix = Mix { read: 2, write: 1, cas: 1 };

    fn generator(seed: u64, mix: Mix) -> Operations {
        Operations::new(Seed(seed).stream("generator/register"), mix, 3)
    }

    fn next(generator: &mut Operations) -> OpSpec {
        match generator.next(&CONTEXT) {
            Next::Op(op) => op,
            other => panic!("{other:?}"),
        }
    }

    fn ops(seed: u64, mix: Mix, count: usize) -> Vec<OpSpec> {
        let mut generator = generator(seed, mix);
        (0..count).map(|_| next(&mut generator)).collect()
    }

    fn completion(kind: EventKind, op: &OpSpec, value: Value) -> Event {
        Event {
            index: 1,
            time_ns: 1,
            kind,
            process: 0,
            f: op.f,
            key: op.key.clone(),
            value,
            node: None,
            intended_ns: None,
            error: None,
        }
    }

    #[test]
    fn no_value_is_written_twice() {
        let mut written = HashSet::new();
        for op in ops(1, MIX, 5000) {
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
        assert_eq!(ops(7, MIX, 500), ops(7, MIX, 500));
        assert_ne!(ops(7, MIX, 500), ops(8, MIX, 500));
    }

    #[test]
    fn the_mix_is_kept() {
        // Weights, and for each word the range its count of 10,000 must fall into: more than ten standard deviations.
        let table = [
            (MIX, [("read", 4400..5600), ("write", 1900..3100), ("cas", 1900..3100)]),
            (Mix { read: 0, write: 1, cas: 9 }, [("read", 0..1), ("write", 600..1400), ("cas", 8600..9400)]),
            (Mix { read: 1, write: 0, cas: 0 }, [("read", 10_000..10_001), ("write", 0..1), ("cas", 0..1)]),
        ];
        for (mix, expected) in table {
            let mut counts: HashMap<Sym, i32> = HashMap::new();
            ops(3, mix, 10_000).iter().for_each(|op| *counts.entry(op.f).or_default() += 1);
            for (word, range) in expected {
                let count = counts.get(&Sym::new(word)).copied().unwrap_or(0);
                assert!(range.contains(&count), "{word}: {count}, not in {range:?}");
            }
        }
    }

    #[test]
    fn keys_are_all_used_and_no_others() {
        let keys: HashSet<Value> = ops(5, MIX, 200).into_iter().map(|op| op.key).collect();
        assert_eq!(keys, HashSet::from([Value::Int(0), Value::Int(1), Value::Int(2)]));
    }

    #[test]
    fn cas_expects_what_was_seen_last() {
        let mut generator = generator(11, MIX);
        let mut seen: HashMap<Value, Value> = HashMap::new();
        let mut expected = 0;
        for at in 0..400 {
            let op = next(&mut generator);
            if op.f == Sym::new("cas") {
                let Value::List(pair) = &op.value else { panic!("{op:?}") };
                assert_eq!(pair[0], seen.get(&op.key).cloned().unwrap_or_default());
                expected += 1;
            }
            // Half of them fail or stay unknown: neither says anything about the value.
            let kind = match at % 4 {
                1 => EventKind::Fail,
                3 => EventKind::Info,
                _ => EventKind::Ok,
            };
            let (result, now) = match &op.value {
                Value::Nil => (Value::Int(1000 + at), Value::Int(1000 + at)),
                Value::List(pair) => (op.value.clone(), pair[1].clone()),
                value => (value.clone(), value.clone()),
            };
            generator.update(&CONTEXT, &completion(kind, &op, result));
            if kind == EventKind::Ok {
                seen.insert(op.key, now);
            }
        }
        assert!(expected > 50);
    }

    #[test]
    fn completions_of_unknown_keys_are_ignored() {
        let mut generator = generator(1, MIX);
        for key in [Value::Int(-1), Value::Int(3), Value::Int(i64::MAX), Value::str("x"), Value::Nil] {
            let op = OpSpec::new(Sym::new("read"), key, Value::Nil);
            generator.update(&CONTEXT, &completion(EventKind::Ok, &op, Value::Int(9)));
        }
        assert_eq!(generator.seen, vec![Value::Nil; 3]);
    }
}

use super::*;
use crate::seed::Seed;
use squall_checkers::EventKind;

fn context(now_ns: u64, thread: usize, threads: usize) -> Context {
    Context { now_ns, thread, process: thread as u32, threads }
}

fn op(f: &str) -> OpSpec {
    OpSpec::new(f.into(), Value::Nil, Value::Nil)
}

fn endless(f: &'static str) -> Box<dyn Generator> {
    Box::new(from_fn(move |_| Some(op(f))))
}

fn completion(kind: EventKind, f: &str, key: Value) -> Event {
    Event {
        index: 0,
        time_ns: 0,
        kind,
        process: 0,
        f: f.into(),
        key,
        value: Value::Nil,
        node: None,
        intended_ns: None,
        error: None,
    }
}

#[test]
fn rate_gives_slots_and_keeps_intended_times_through_a_stall() {
    let mut rate = Rate::new(1000.0, endless("w"));
    let at = |next: Next| match next {
        Next::Op(op) => op.at_ns.unwrap(),
        other => panic!("{other:?}"),
    };
    assert_eq!(at(rate.next(&context(0, 0, 1))), 0);
    assert_eq!(at(rate.next(&context(0, 0, 1))), 1_000_000);
    // The workers were busy for 50 ms: the next slot is still the one that was due.
    assert_eq!(at(rate.next(&context(50_000_000, 0, 1))), 2_000_000);
}

#[test]
fn stagger_has_the_mean_it_promises() {
    let mut stagger = Stagger::new(1000.0, Seed(1).stream("x"), endless("w"));
    let mut last = 0;
    for _ in 0..10_000 {
        if let Next::Op(op) = stagger.next(&context(last, 0, 1)) {
            last = op.at_ns.unwrap();
        }
    }
    assert!((9_000_000_000..11_000_000_000).contains(&last), "{last}");
}

#[test]
fn mix_follows_its_weights_and_drops_what_is_done() {
    let parts = vec![(3, endless("a")), (1, endless("b")), (0, endless("never"))];
    let mut mix = Mix::new(Seed(1).stream("mix"), parts);
    let mut a = 0;
    for _ in 0..4000 {
        match mix.next(&context(0, 0, 1)) {
            Next::Op(op) if op.f == "a" => a += 1,
            Next::Op(op) => assert_eq!(op.f, "b"),
            other => panic!("{other:?}"),
        }
    }
    assert!((2800..3200).contains(&a), "{a}");
    let once: Box<dyn Generator> = Box::new(Once::new(op("a")));
    let mut mix = Mix::new(Seed(1).stream("mix"), vec![(1, once)]);
    assert!(matches!(mix.next(&context(0, 0, 1)), Next::Op(_)));
    assert_eq!(mix.next(&context(0, 0, 1)), Next::Done);
}

#[test]
fn time_limit_refuses_operations_after_its_end() {
    let mut limited = TimeLimit::new(10_000_000, Rate::new(1000.0, endless("w")));
    let count = (0..100).filter(|_| matches!(limited.next(&context(5, 0, 1)), Next::Op(_))).count();
    assert_eq!(count, 10);
    assert_eq!(limited.next(&context(10_000_005, 0, 1)), Next::Done);
}

#[test]
fn phases_wait_for_the_last_operation_of_all_workers() {
    let first: Box<dyn Generator> = Box::new(Limit::new(2, endless("a")));
    let second: Box<dyn Generator> = Box::new(Once::new(op("b")));
    let mut phases = Phases::new([first, second]);
    let (c0, c1) = (context(0, 0, 2), context(0, 1, 2));
    assert!(matches!(phases.next(&c0), Next::Op(o) if o.f == "a"));
    assert!(matches!(phases.next(&c1), Next::Op(o) if o.f == "a"));
    phases.update(&c0, &completion(EventKind::Ok, "a", Value::Nil));
    assert_eq!(phases.next(&c0), Next::Pending, "worker 1 is still busy");
    phases.update(&c1, &completion(EventKind::Info, "a", Value::Nil));
    assert_eq!(phases.next(&c0), Next::Pending, "worker 1 does not know yet that the phase is done");
    assert!(matches!(phases.next(&c1), Next::Op(o) if o.f == "b"));
    phases.update(&c1, &completion(EventKind::Ok, "b", Value::Nil));
    assert_eq!(phases.next(&c1), Next::Pending);
    assert_eq!(phases.next(&c0), Next::Done);
    assert_eq!(phases.next(&c1), Next::Done);
}

#[test]
fn until_ok_retries_what_failed_and_ends() {
    let read = |k: i64| OpSpec::new("read".into(), Value::Int(k), Value::Nil);
    let mut reads = UntilOk::new([read(1), read(2)]);
    let (c0, c1) = (context(0, 0, 2), context(0, 1, 2));
    assert_eq!(reads.next(&c0), Next::Op(read(1)));
    assert_eq!(reads.next(&c1), Next::Op(read(2)));
    assert_eq!(reads.next(&c0), Next::Pending);
    reads.update(&c0, &completion(EventKind::Fail, "read", Value::Int(1)));
    reads.update(&c1, &completion(EventKind::Ok, "read", Value::Int(2)));
    assert!(matches!(reads.next(&c1), Next::Wait(_)));
    let later = context(1_000_000_000, 1, 2);
    assert_eq!(reads.next(&later), Next::Op(read(1)));
    reads.update(&later, &completion(EventKind::Ok, "read", Value::Int(1)));
    assert_eq!(reads.next(&later), Next::Done);
}

#[test]
fn per_key_gives_every_group_its_own_keys_in_turn() {
    let make = |_| -> Box<dyn Generator> { Box::new(Limit::new(2, endless("w"))) };
    let mut per_key = PerKey::new(3, 2, make);
    let mut seen = Vec::new();
    let mut rounds = 0;
    let mut done = [false; 4];
    while done != [true; 4] {
        for (thread, done) in done.iter_mut().enumerate() {
            match per_key.next(&context(0, thread, 4)) {
                Next::Op(op) => seen.push((thread / 2, op.key.as_int().unwrap())),
                Next::Done => *done = true,
                _ => {}
            }
        }
        rounds += 1;
        assert!(rounds < 100, "never ends");
    }
    seen.sort_unstable();
    let keys: Vec<i64> = seen.iter().map(|&(_, key)| key).collect();
    assert_eq!(seen.len(), 6);
    assert!((0..3).all(|key| keys.iter().filter(|&&k| k == key).count() == 2), "{seen:?}");
}

#[test]
fn per_thread_and_on_threads_keep_workers_apart() {
    let make = |_| -> Box<dyn Generator> { Box::new(Once::new(op("w"))) };
    let mut each = PerThread::new(make);
    assert!(matches!(each.next(&context(0, 0, 2)), Next::Op(_)));
    assert_eq!(each.next(&context(0, 0, 2)), Next::Done);
    assert!(matches!(each.next(&context(0, 1, 2)), Next::Op(_)));
    let mut some = OnThreads::new(|thread| thread == 1, endless("w"));
    assert_eq!(some.next(&context(0, 0, 2)), Next::Done);
    assert!(matches!(some.next(&context(0, 1, 2)), Next::Op(_)));
}

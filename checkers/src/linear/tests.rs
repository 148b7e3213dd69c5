//! Engines against each other, against brute force, and against histories whose verdict a person can see.

use super::engines::Engine;
use super::problem::{Budget, Decision, Item, NEVER};
use super::*;
use crate::model::{KvOp, KvState, RegisterOp};
use crate::oracle::{Certain, Window, order_exists};
use crate::testing::history;
use proptest::prelude::*;

const BUDGET: Budget = Budget { deadline: None, memory_max: u64::MAX, configurations_max: u64::MAX };

const ENGINES: [EngineChoice; 3] = [EngineChoice::Auto, EngineChoice::Search, EngineChoice::Wgl];

fn options(engine: EngineChoice, fail_means: FailMeans) -> CheckOptions {
    CheckOptions { deadline: None, threads: 1, engine, fail_means, ..CheckOptions::default() }
}

/// Histories in the mini-language, with the answers of every engine.
fn assert_table(kind: ModelKind, fail_means: FailMeans, table: &[(&str, Verdict)]) {
    for (text, verdict) in table {
        for engine in ENGINES {
            let result = check(&history(text), kind, &options(engine, fail_means));
            assert_eq!(result.verdict, *verdict, "{text} by {engine:?}: {}", result.reason);
        }
    }
}

use Verdict::{Invalid, Unknown, Valid};

#[test]
fn registers() {
    assert_table(
        ModelKind::Register,
        FailMeans::NoEffect,
        &[
            ("p0 r_ 0..1", Valid),
            ("p0 r1 0..1", Invalid),
            ("p0 w1 0..1; p0 r1 2..3", Valid),
            ("p0 w1 0..1; p0 r_ 2..3", Invalid),
            ("p0 w1 0..3; p1 r_ 1..2", Valid),
            ("p0 w1 0..3; p1 r1 1..2", Valid),
            // A read may not go back behind another one.
            ("p0 w1 0..9; p1 r1 1..2; p1 r_ 3..4", Invalid),
            ("p0 w1 0..9; p1 r_ 1..2; p1 r1 3..4", Valid),
            // Unfinished writes happen at any time or never.
            ("p0 w1 0..; p1 r_ 1..2; p1 r1 3..4", Valid),
            ("p0 w1 0..; p1 r1 1..2; p1 r_ 3..4", Invalid),
            ("p0 w1 5..; p1 r1 1..2", Invalid),
            ("p0 w1 0..; p1 w2 1..2; p1 r2 3..4; p1 r1 5..6", Valid),
            ("p0 w1 0..; p1 w2 1..2; p1 r1 3..4; p1 r2 5..6", Invalid),
            // Failed writes never happen.
            ("p0 w1! 0..1; p1 r_ 2..3", Valid),
            ("p0 w1! 0..1; p1 r1 2..3", Invalid),
            // Two writes, two readers that saw them in different orders.
            ("p0 w1 0..9; p1 w2 0..9; p2 r1 1..2; p2 r2 3..4; p3 r2 1..2; p3 r1 3..4", Invalid),
            ("p0 w1 0..1; p1 w1 2..3; p2 w2 4..5; p0 r1 6..7", Invalid),
            ("p0 w1 0..1; p1 w1 2..; p2 w2 4..5; p0 r1 6..7", Valid),
        ],
    );
}

#[test]
fn compare_and_set() {
    assert_table(
        ModelKind::CasRegister,
        FailMeans::NoEffect,
        &[
            ("p0 w1 0..1; p0 c1>2 2..3; p0 r2 4..5", Valid),
            ("p0 w1 0..1; p0 c3>2 2..3", Invalid),
            ("p0 w1 0..1; p0 c1>2 2..3; p1 c1>3 2..3", Invalid),
            ("p0 w1 0..1; p0 c1>2 2..3; p1 c1>3 2..", Valid),
            ("p0 w1 0..1; p0 c1>2 2..; p1 c2>3 3..4; p1 r3 5..6", Valid),
            ("p0 w1 0..1; p0 c1>2! 2..3; p1 r2 3..4", Invalid),
            // Failing although the value was right: allowed when a failure says nothing.
            ("p0 w1 0..1; p0 c1>2! 2..3", Valid),
            // A circle of unfinished operations that found each other's value never got started.
            ("p0 c1>2 0..; p1 c2>1 0..; p2 r_ 1..2", Valid),
            ("p0 c1>2 0..; p1 c2>1 0..; p2 r1 1..2", Invalid),
        ],
    );
    assert_table(
        ModelKind::CasRegister,
        FailMeans::AnsweredNo,
        &[
            ("p0 w1 0..1; p0 c1>2! 2..3", Invalid),
            ("p0 w1 0..1; p0 c3>2! 2..3", Valid),
            // Somebody must have changed the value, though nobody read the new one.
            ("p0 w1 0..1; p1 w2 1..; p0 c1>2! 2..3; p0 r1 4..5", Invalid),
            ("p0 w1 0..1; p1 w2 1..; p0 c1>2! 2..3", Valid),
        ],
    );
}

#[test]
fn key_value() {
    assert_table(
        ModelKind::Kv,
        FailMeans::NoEffect,
        &[
            ("p0 g_ 0..1; p0 pa 2..3; p0 ga 4..5; p0 d 6..7; p0 g_ 8..9", Valid),
            ("p0 pa 2..3; p0 d 6..7; p0 ga 8..9", Invalid),
            ("p0 aa 0..1; p0 ab 2..3; p0 gab 4..5", Valid),
            ("p0 aa 0..1; p0 ab 2..3; p0 gba 4..5", Invalid),
            ("p0 aa 0..3; p1 ab 0..3; p0 gba 4..5", Valid),
            ("p0 aa 0..; p1 ab 0..3; p2 gba 4..5", Valid),
            ("p0 aa 0..1; p1 ab 2..3; p0 gb 4..5", Invalid),
        ],
    );
}

#[test]
fn what_does_not_fit_is_unknown_and_says_why() {
    let result = check(&history("p0 c1>2 0..1"), ModelKind::Register, &CheckOptions::default());
    assert_eq!(result.verdict, Unknown);
    assert_eq!(
        result.reason,
        "the history cannot be checked as register: index 0: the register model has no operation `cas`; \
         it knows read, write"
    );
    let result = check(&history("p0 w1 0..; p1 r1! 1..2"), ModelKind::Register, &CheckOptions::default());
    assert_eq!((result.verdict, &*result.reason), (Unknown, "none of 2 operations succeeded"));
    assert_eq!(check(&History::new(), ModelKind::Kv, &CheckOptions::default()).verdict, Unknown);
}

#[test]
fn limits_give_unknown() {
    // Many concurrent writes of few values, and a read that is wrong: everything has to be tried.
    let mut text = String::new();
    for process in 0..24 {
        text += &format!("p{process} c{}>{} 0..100;", process % 5, (process * 3 + 1) % 5);
    }
    let wrong = text + "p30 w0 0..100; p31 r7 0..100; p32 w7 0..100; p33 c7>7 0..99; p34 r9 101..102; p35 w9 103..104";
    for engine in [EngineChoice::Search, EngineChoice::Wgl] {
        let now = CheckOptions { deadline: Some(Instant::now()), ..options(engine, FailMeans::NoEffect) };
        let result = check(&history(&wrong), ModelKind::CasRegister, &now);
        assert!(result.verdict != Valid, "{engine:?}");
        let small = CheckOptions { memory_max: 1 << 10, ..options(engine, FailMeans::NoEffect) };
        let result = check(&history(&wrong), ModelKind::CasRegister, &small);
        assert_eq!(result.verdict, Unknown, "{engine:?}");
        assert!(result.reason.contains("out of memory"), "{}", result.reason);
    }
}

#[test]
fn keys_are_apart() {
    let mut events: Vec<crate::Event> = Vec::new();
    for (key, text) in [(1, "p0 w1 0..1; p0 r1 2..3"), (2, "p1 r1 0..1"), (3, "p2 w1 0..1")] {
        for mut event in history(text).iter() {
            event.key = Value::Int(key);
            event.index = events.len() as u64;
            events.push(event);
        }
    }
    let result = check(&History::from_events(events).unwrap(), ModelKind::Register, &CheckOptions::default());
    assert_eq!(result.verdict, Invalid);
    assert_eq!(result.reason, "key 2 is not linearizable (1 of 3 keys)");
    assert_eq!(result.keys[0].key, "2");
    assert_eq!(result.keys[0].explanation.as_ref().map(|e| e.why.as_str()), Some("nobody ever wrote 1"));
}

#[test]
fn explanations_are_small_and_name_the_culprit() {
    let noise: String =
        (10..60).map(|i| format!("p9 w{i} {}..{}; p9 r{i} {}..{};", 4 * i, 4 * i + 1, 4 * i + 2, 4 * i + 3)).collect();
    let table = [
        (
            "p0 w1 300..301; p1 w2 302..303; p2 r2 304..305; p3 r1 306..307",
            "read -> 1",
            "1 was overwritten by `write 2` at 0.000 s",
            4,
        ),
        ("p0 w1 300..301; p1 r2 302..303; p2 w2 304..305", "read -> 2", "2 was written only later, at 0.000 s", 2),
        ("p0 w1 300..301; p1 w2 302..303; p3 r1 306..307", "read -> 1", "1 was overwritten by `write 2` at 0.000 s", 3),
        ("p0 w7! 300..301; p0 r7 302..303", "read -> 7", "7 was never written: `write 7` at 0.000 s failed", 1),
        ("p0 r7 302..303", "read -> 7", "nobody ever wrote 7", 1),
        (
            "p0 w1 300..301; p1 w2 300..; p2 r2 302..303; p2 r1 304..305; p2 r2 306..307",
            "read -> 1",
            "cannot come after `read -> 2`: nothing brings 1 back",
            5,
        ),
    ];
    for (text, culprit, why, len) in table {
        let history = history(&format!("{noise}{text}"));
        for engine in [EngineChoice::Auto, EngineChoice::Search] {
            let result = check(&history, ModelKind::Register, &options(engine, FailMeans::NoEffect));
            assert_eq!(result.verdict, Invalid, "{text}");
            let explanation = result.keys[0].explanation.as_ref().unwrap();
            assert!(explanation.ops.len() <= len, "{text}:\n{explanation}");
            assert_eq!(
                (&*explanation.ops[explanation.culprit].text, &*explanation.why),
                (culprit, why),
                "{explanation}"
            );
        }
    }
}

/// By the definition.
fn brute<M: Model>(model: &M, items: &[Item<M::Op>]) -> bool {
    let window = |item: &Item<M::Op>| Window {
        op: item.op.clone(),
        call: u64::from(item.call),
        ret: item.is_finished().then_some(u64::from(item.ret)),
    };
    order_exists(&Certain(model), &items.iter().map(window).collect::<Vec<_>>())
}

/// Turns a script of small numbers into a history of `len` operations: who acts next, what it does, how it ends, when
/// it takes effect. Answers are mostly right, so that both verdicts come up often.
pub(super) fn play<M: Model>(
    model: &M,
    script: &[(u8, u8, u8, u8)],
    processes: usize,
    mut make: impl FnMut(u8, u8, &M::State) -> M::Op,
) -> Vec<Item<M::Op>> {
    let mut items: Vec<Item<M::Op>> = Vec::new();
    let mut open: Vec<Option<usize>> = vec![None; processes];
    let mut state = model.initial();
    let mut time = 0;
    for &(who, what, how, skew) in script {
        let process = usize::from(who) % processes;
        time += 1;
        match open[process].take() {
            Some(i) => {
                if how % 6 != 0 {
                    items[i].ret = time;
                }
            }
            None => {
                let op = make(what, skew, &state);
                if let Some(next) = model.step(&state, &op).filter(|_| how % 5 != 0) {
                    state = next;
                }
                open[process] = Some(items.len());
                items.push(Item { op, call: time, ret: NEVER });
            }
        }
    }
    // Unfinished read-only operations never get here from a history.
    items.retain(|item| item.is_finished() || !model.is_read_only(&item.op));
    items
}

/// Operations of a key with pieces of which hardly any comes twice; what is read is there, or was, or is a piece too long.
pub(super) fn pieces() -> impl FnMut(u8, u8, &KvState) -> KvOp {
    let (mut made, mut read) = (0, vec![Value::Nil, Value::str("")]);
    move |what, skew, state| {
        let seen = match state {
            KvState::Text(text) if skew.is_multiple_of(32) => Value::str(&format!("{text}z")),
            _ if skew.is_multiple_of(4) => read[usize::from(skew / 4) % read.len()].clone(),
            KvState::Text(text) => Value::str(text),
            _ => Value::Nil,
        };
        read.push(seen.clone());
        made += u8::from(!skew.is_multiple_of(13));
        let piece = Value::str(&format!("{}{}", ["x", "y", "xy"][usize::from(skew / 8) % 3], made));
        match (what % 16, piece) {
            (0..5, _) => KvOp::Get(seen),
            (5, _) => KvOp::Delete,
            (6, piece) => KvOp::Cas(seen, piece),
            (7, _) => KvOp::Put(Value::Nil),
            (8..10, piece) => KvOp::Put(piece),
            (_, Value::Str(piece)) => KvOp::Append(piece),
            (_, piece) => KvOp::Put(piece),
        }
    }
}

pub(super) fn assert_engines_agree<M: Engine>(model: &M, items: &[Item<M::Op>]) -> Result<(), TestCaseError> {
    let expected = brute(model, items);
    for choice in ENGINES {
        let decided = model.decide(items, &BUDGET, choice);
        let expected = if expected { Decision::Linearizable } else { Decision::NotLinearizable };
        prop_assert_eq!(decided.decision, expected, "{:?} by {}", choice, decided.engine);
    }
    Ok(())
}

pub(super) fn script(len: usize) -> impl Strategy<Value = Vec<(u8, u8, u8, u8)>> {
    prop::collection::vec(any::<(u8, u8, u8, u8)>(), 2..len)
}

fn register_op(values: u8, cas: bool, refused: bool) -> impl FnMut(u8, u8, &Value) -> RegisterOp {
    move |what, skew, state| {
        let some =
            |n: u8| if n.is_multiple_of(values + 1) { Value::Nil } else { Value::Int(i64::from(n % (values + 1))) };
        // Three in four observations are right at the time of the call.
        let seen = if skew % 4 == 0 { some(skew / 4) } else { state.clone() };
        match what % 8 {
            0..3 => RegisterOp::Read(seen),
            3 | 4 if cas => RegisterOp::Cas(seen, some(what / 8)),
            5 if refused => RegisterOp::CasRefused(some(skew)),
            _ => RegisterOp::Write(some(what / 8)),
        }
    }
}

/// Every value is written once.
fn unique_op(cas: bool) -> impl FnMut(u8, u8, &Value) -> RegisterOp {
    let mut next = 0;
    move |what, skew, state| {
        let seen = match skew % 4 {
            0 if next == 0 || skew % 16 == 0 => Value::Nil,
            0 => Value::Int(i64::from(skew) % next + 1),
            _ => state.clone(),
        };
        let mut fresh = || {
            next += 1;
            Value::Int(next)
        };
        match what % 8 {
            0..4 => RegisterOp::Read(seen),
            4 | 5 if cas => RegisterOp::Cas(seen, fresh()),
            _ => RegisterOp::Write(fresh()),
        }
    }
}

proptest! {
    #![proptest_config(super::model_tests::cases())]

    #[test]
    fn engines_agree_on_registers(script in script(16), processes in 2usize..6, values in 1u8..4) {
        let model = Register { cas: false };
        assert_engines_agree(&model, &play(&model, &script, processes, register_op(values, false, false)))?;
    }

    #[test]
    fn engines_agree_on_compare_and_set(script in script(16), processes in 2usize..6, values in 1u8..4, refused: bool) {
        let model = Register { cas: true };
        assert_engines_agree(&model, &play(&model, &script, processes, register_op(values, true, refused)))?;
    }

    #[test]
    fn engines_agree_on_unique_values(script in script(18), processes in 2usize..6, cas: bool) {
        let model = Register { cas: true };
        let items = play(&model, &script, processes, unique_op(cas));
        prop_assert!(super::zones::decide(&super::values::RegisterHistory::of_items(&items)).is_some());
        assert_engines_agree(&model, &items)?;
    }

    #[test]
    fn engines_agree_on_keys(script in script(14), processes in 2usize..6, appends: bool) {
        let items = play(&Kv, &script, processes, |what, skew, state| {
            let texts = ["", "a", "b", "ab", "ba"];
            let text = |n: u8| Value::str(texts[usize::from(n) % texts.len()]);
            let stored = match state {
                crate::model::KvState::Text(text) => Value::str(text),
                _ => if skew % 2 == 0 { Value::Nil } else { Value::str("") },
            };
            let seen = if skew % 4 == 0 { text(skew / 4) } else { stored };
            match what % 8 {
                0..3 => KvOp::Get(seen),
                3 => KvOp::Delete,
                4 => KvOp::Cas(seen, text(what / 8)),
                5 if appends => KvOp::Append(crate::Sym::new(["a", "b"][usize::from(what / 8) % 2])),
                6 => KvOp::CasRefused(text(skew)),
                _ => KvOp::Put(if what & 64 == 0 { Value::Nil } else { text(what / 8) }),
            }
        });
        assert_engines_agree(&Kv, &items)?;
    }

    #[test]
    fn engines_agree_on_keys_of_pieces(script in script(16), processes in 2usize..6) {
        assert_engines_agree(&Kv, &play(&Kv, &script, processes, pieces()))?;
    }

    /// One value comes again and again, all others once: what values tell is asked by `Auto` only.
    #[test]
    fn engines_agree_on_one_value_that_comes_again(script in script(18), processes in 2usize..6, cas: bool) {
        let model = Register { cas: true };
        let mut unique = unique_op(cas);
        let items = play(&model, &script, processes, |what, skew, state| match unique(what, skew, state) {
            RegisterOp::Write(_) if what.is_multiple_of(3) => RegisterOp::Write(Value::Nil),
            RegisterOp::Cas(found, _) if what.is_multiple_of(3) => RegisterOp::Cas(found, Value::Nil),
            other => other,
        });
        assert_engines_agree(&model, &items)?;
    }

    /// Longer than brute force can go.
    #[test]
    fn fast_engines_agree_with_the_reference(script in script(60), processes in 2usize..8, values in 1u8..5, kind in 0u8..4) {
        let model = Register { cas: true };
        let items = match kind {
            0 => play(&model, &script, processes, unique_op(false)),
            1 => play(&model, &script, processes, unique_op(true)),
            2 => play(&model, &script, processes, register_op(values, true, false)),
            _ => play(&model, &script, processes, register_op(values, true, true)),
        };
        let expected = model.decide(&items, &BUDGET, EngineChoice::Wgl).decision;
        for choice in [EngineChoice::Auto, EngineChoice::Search] {
            prop_assert_eq!(model.decide(&items, &BUDGET, choice).decision, expected, "{:?}", choice);
        }
    }
}

/// The same operations as a history, each by a process of its own.
fn to_history(items: &[Item<RegisterOp>]) -> History {
    let mut events = Vec::new();
    for (process, item) in items.iter().enumerate() {
        let pair = |a: &Value, b: &Value| Value::list([a.clone(), b.clone()]);
        let (f, argument, kind) = match &item.op {
            RegisterOp::Read(value) => ("read", value.clone(), crate::EventKind::Ok),
            RegisterOp::Write(value) => ("write", value.clone(), crate::EventKind::Ok),
            RegisterOp::Cas(expected, new) => ("cas", pair(expected, new), crate::EventKind::Ok),
            RegisterOp::CasRefused(expected) => ("cas", pair(expected, &Value::Int(99)), crate::EventKind::Fail),
        };
        let event = |kind, position: u32| crate::Event {
            index: 0,
            time_ns: u64::from(position),
            kind,
            process: process as u32,
            f: f.into(),
            key: Value::Nil,
            value: argument.clone(),
            node: None,
            intended_ns: None,
            error: None,
        };
        events.push(event(crate::EventKind::Invoke, item.call));
        if item.is_finished() {
            events.push(event(kind, item.ret));
        }
    }
    events.sort_by_key(|event| event.time_ns);
    let events = events.into_iter().enumerate();
    History::from_events(events.map(|(index, event)| crate::Event { index: index as u64, ..event })).unwrap()
}

/// The operations called before `end`, those that return after it unfinished.
fn prefix(items: &[Item<RegisterOp>], end: u32) -> Vec<Item<RegisterOp>> {
    let model = Register { cas: true };
    let cut = items.iter().filter(|item| item.call < end).cloned();
    let cut = cut.map(|item| Item { ret: if item.ret > end { NEVER } else { item.ret }, ..item });
    cut.filter(|item| item.is_finished() || !model.is_read_only(&item.op)).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 3000, ..ProptestConfig::default() })]

    /// What an explanation shows is wrong by itself, and the prefix it names is the shortest.
    #[test]
    fn explanations_hold(script in script(20), processes in 2usize..6, unique: bool, refused: bool) {
        let model = Register { cas: true };
        let items = match unique {
            true => play(&model, &script, processes, unique_op(true)),
            false => play(&model, &script, processes, register_op(3, true, refused)),
        };
        let history = to_history(&items);
        let result = check(&history, ModelKind::CasRegister, &options(EngineChoice::Auto, FailMeans::AnsweredNo));
        if let Some(explanation) = result.keys.first().and_then(|key| key.explanation.as_ref()) {
            let ops = history.ops().unwrap();
            let sources: Vec<u32> = (0..ops.len() as u32).collect();
            let items = Key::new(&ops, &sources, &model, FailMeans::AnsweredNo, None).unwrap().items;
            let end = explanation.prefix_index as u32;
            prop_assert!(!brute(&model, &prefix(&items, end)));
            let before = items.iter().map(|item| item.ret).filter(|&ret| ret < end).max().unwrap_or(0);
            prop_assert!(brute(&model, &prefix(&items, before)));
            let shown = |item: &Item<RegisterOp>| explanation.ops.iter().any(|op| op.call_index == u64::from(item.call));
            let shown: Vec<_> = items.into_iter().filter(shown).collect();
            prop_assert!(!brute(&model, &shown), "{}", explanation);
            prop_assert_eq!(shown.len(), explanation.ops.len());
        } else {
            prop_assert!(result.verdict != Invalid, "an invalid history is explained");
        }
    }
}

/// A generator of histories that are all right, or all wrong, would test nothing.
#[test]
fn random_histories_have_both_verdicts() {
    use rand::{RngExt, SeedableRng};
    let mut rng = rand_chacha::ChaCha8Rng::seed_from_u64(1);
    let model = Register { cas: true };
    let mut valid = [0; 3];
    for _ in 0..1000 {
        let len = rng.random_range(4..16);
        let script: Vec<(u8, u8, u8, u8)> = (0..len).map(|_| rng.random()).collect();
        let plays = [
            play(&model, &script, 4, unique_op(true)),
            play(&model, &script, 4, register_op(3, true, false)),
            play(&model, &script, 4, register_op(3, true, true)),
        ];
        for (count, items) in valid.iter_mut().zip(plays) {
            *count += usize::from(brute(&model, &items));
        }
    }
    assert!(valid.iter().all(|count| (150..850).contains(count)), "{valid:?} of 1000 are linearizable");
    println!("{valid:?} of 1000 are linearizable");
}

//! The clients: who acts when, what becomes of their operations, what is written down.

use super::container::Contents;
use super::counter::CounterObject;
use super::kv::KvObject;
use super::lock::LockObject;
use super::multi_register::MultiRegisterObject;
use super::register::RegisterObject;
use super::set::SetObject;
use super::{Call, Effect, End, Load, Object, Place, Unanswered};
use crate::model::{FailMeans, Lock, ModelKind};
use crate::{Event, EventKind, Sym, Value};
use rand::{RngExt, SeedableRng};
use rand_chacha::ChaCha8Rng;
use std::collections::VecDeque;

/// Between two events (nanoseconds).
const STEP_NS: u64 = 25_017;

/// So many answers may pass without an opportunity for a wrong one; then an absurd one is given.
const PATIENCE: u32 = 400;

/// What chance has decided about an operation when it is invoked.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Fate {
    Answered,
    Fails,
    /// Unanswered, without effect.
    Lost,
    /// Unanswered, takes effect.
    Silent,
    /// Unanswered, takes effect after its client has gone on.
    Late,
}

struct Open {
    call: Call,
    key: usize,
    fate: Fate,
    /// What it came to, once it took effect.
    ended: Option<(EventKind, Value)>,
}

/// The events of a [`Load`], one by one.
pub struct Simulation {
    load: Load,
    rng: ChaCha8Rng,
    objects: Vec<Box<dyn Object>>,
    open: Vec<Option<Open>>,
    /// Each client's process and the object it used last.
    process: Vec<u32>,
    last_key: Vec<usize>,
    /// Invoked, given up by their clients, and yet to take effect.
    late: Vec<Open>,
    started: usize,
    index: u64,
    /// Number of operations from which on a wrong answer is due; `None`: never, or given.
    due: Option<usize>,
    patience: u32,
    /// The object that gave a wrong answer, and the event.
    planted: Option<(usize, u64)>,
    ready: VecDeque<Event>,
    nodes: [Sym; 5],
}

fn object(load: &Load, rng: &mut ChaCha8Rng) -> Box<dyn Object> {
    let books = load.violation.is_some();
    let (values, rich) = (load.values, load.rich);
    let lock = |lock| -> Box<dyn Object> { Box::new(LockObject::new(lock, rich)) };
    let container = |contents, names, capacity| -> Box<dyn Object> {
        Box::new(super::container::ContainerObject::new(contents, names, capacity, values, rich, books))
    };
    match load.model {
        ModelKind::Register => Box::new(RegisterObject::new(false, values, books)),
        ModelKind::CasRegister => Box::new(RegisterObject::new(true, values, books)),
        ModelKind::MultiRegister(initial) => Box::new(MultiRegisterObject::new(initial, values, rich, books)),
        ModelKind::Kv => Box::new(KvObject::new(values, rich, books)),
        ModelKind::Queue(capacity) => container(Contents::Fifo(VecDeque::new()), ["enqueue", "dequeue"], capacity),
        ModelKind::UnorderedQueue => container(Contents::Any(Vec::new()), ["enqueue", "dequeue"], None),
        ModelKind::Stack => container(Contents::Lifo(Vec::new()), ["push", "pop"], None),
        ModelKind::PriorityQueue => container(Contents::Smallest(Default::default()), ["insert", "delete-min"], None),
        ModelKind::Set => Box::new(SetObject::new(values, rich, books)),
        ModelKind::Counter => Box::new(CounterObject::new(values, rich)),
        ModelKind::Mutex => lock(Lock::MUTEX),
        ModelKind::ReentrantMutex => lock(Lock::REENTRANT),
        ModelKind::FencingLock => Box::new(LockObject::with_tokens(rng.random_range(0..3))),
        ModelKind::Semaphore(permits) => lock(Lock::semaphore(permits)),
    }
}

impl Simulation {
    pub(super) fn new(load: &Load) -> Self {
        let mut rng = ChaCha8Rng::seed_from_u64(load.seed);
        let (clients, keys) = (load.clients.max(1), load.keys.max(1));
        let due = load.violation.map(|place| match place {
            Place::At(fraction) => (fraction.clamp(0.0, 1.0) * load.ops as f64) as usize,
            Place::Random => rng.random_range(0..=load.ops),
        });
        Self {
            objects: (0..keys).map(|_| object(load, &mut rng)).collect(),
            open: (0..clients).map(|_| None).collect(),
            process: (0..clients as u32).collect(),
            last_key: vec![0; clients],
            late: Vec::new(),
            started: 0,
            index: 0,
            due,
            patience: PATIENCE,
            planted: None,
            ready: VecDeque::new(),
            nodes: ["n1", "n2", "n3", "n4", "n5"].map(Sym::new),
            load: load.clone(),
            rng,
        }
    }

    /// Index of the event that is certainly wrong, once it has come.
    pub fn planted(&self) -> Option<u64> {
        self.planted.map(|(_, index)| index)
    }

    fn record(&mut self, kind: EventKind, process: u32, f: &str, key: usize, value: Value) {
        let key = if self.objects.len() > 1 { Value::Int(key as i64) } else { Value::Nil };
        let (index, node) = (self.index, Some(self.nodes[process as usize % self.load.clients.max(1) % 5]));
        let (f, time_ns) = (f.into(), index * STEP_NS);
        self.index += 1;
        self.ready.push_back(Event {
            index,
            time_ns,
            kind,
            process,
            f,
            key,
            value,
            node,
            intended_ns: None,
            error: None,
        });
    }

    /// Somebody does something; `false` when everything is over.
    fn act(&mut self) -> bool {
        let is_over = self.started >= self.load.ops;
        if is_over && self.open.iter().all(Option::is_none) {
            return self.finish();
        }
        let who = self.rng.random_range(0..self.open.len() + self.late.len());
        if let Some(late) = who.checked_sub(self.open.len()) {
            let open = self.late.swap_remove(late);
            let _ = self.objects[open.key].apply(&open.call, &mut self.rng);
            return true;
        }
        match self.open[who].take() {
            None if is_over => {}
            None => self.invoke(who),
            Some(open) => self.go_on(who, open, is_over),
        }
        true
    }

    fn invoke(&mut self, client: usize) {
        self.started += 1;
        let last = self.last_key[client];
        let key = if self.objects[last].holds(client) { last } else { self.rng.random_range(0..self.objects.len()) };
        self.last_key[client] = key;
        let (f, argument) = self.objects[key].propose(client, &mut self.rng);
        let fate = self.fate(client, key, f);
        let process = self.process[client];
        self.record(EventKind::Invoke, process, f, key, argument.clone());
        let call = Call { client, process, f, argument, at: self.index, finishes: fate == Fate::Answered };
        self.objects[key].called(&call);
        self.open[client] = Some(Open { call, key, fate, ended: None });
    }

    fn fate(&mut self, client: usize, key: usize, f: &str) -> Fate {
        let chance: f64 = self.rng.random();
        let unanswered = self.objects[key].unanswered(client, f);
        if chance < self.load.unfinished && unanswered != Unanswered::Never {
            let takes_effect = match unanswered {
                Unanswered::Either => self.rng.random(),
                other => other == Unanswered::Done,
            };
            return match takes_effect {
                false => Fate::Lost,
                true if self.rng.random() => Fate::Silent,
                true => Fate::Late,
            };
        }
        let fails = chance < self.load.unfinished + self.load.failed;
        if fails && self.objects[key].may_fail(f, self.load.fail_means) { Fate::Fails } else { Fate::Answered }
    }

    /// The next step of an open operation: it takes effect, or it ends.
    fn go_on(&mut self, client: usize, mut open: Open, is_over: bool) {
        match (open.fate, open.ended.take()) {
            (Fate::Fails, _) => self.end(open, EventKind::Fail, None),
            (Fate::Lost, _) => self.give_up(client, open),
            (Fate::Late, _) => {
                let Open { call, key, fate, .. } = &open;
                self.late.push(Open { call: call.clone(), key: *key, fate: *fate, ended: None });
                self.give_up(client, open);
            }
            (Fate::Silent, Some(_)) => self.give_up(client, open),
            (Fate::Answered, Some((kind, answer))) => {
                let lie = if kind == EventKind::Ok { self.lie(&open, Some(&answer)) } else { None };
                self.end(open, kind, Some(lie.unwrap_or(answer)));
            }
            (_, None) => match self.objects[open.key].apply(&open.call, &mut self.rng) {
                Effect::Done(answer) => self.open[client] = Some(Open { ended: Some((EventKind::Ok, answer)), ..open }),
                Effect::Refused => {
                    let ended = Some((EventKind::Fail, open.call.argument.clone()));
                    self.open[client] = Some(Open { ended, ..open });
                }
                Effect::Wait => match self.lie(&open, None) {
                    Some(answer) => self.end(open, EventKind::Ok, Some(answer)),
                    // Whoever it waits for may never act again.
                    None if is_over => self.end(open, EventKind::Fail, None),
                    None => self.open[client] = Some(open),
                },
            },
        }
    }

    fn end(&mut self, open: Open, kind: EventKind, value: Option<Value>) {
        let Open { call, key, .. } = open;
        let value = value.unwrap_or_else(|| call.argument.clone());
        self.record(kind, call.process, call.f, key, value.clone());
        let end = if kind == EventKind::Ok { End::Ok(&value) } else { End::Fail };
        self.objects[key].ended(&call, self.index, end);
    }

    /// The client goes on as another process, and mostly says so.
    fn give_up(&mut self, client: usize, open: Open) {
        if self.rng.random_range(0..4) > 0 {
            self.record(EventKind::Info, open.call.process, open.call.f, open.key, Value::Nil);
        }
        self.process[client] += self.open.len() as u32;
        self.objects[open.key].ended(&open.call, self.index, End::Unfinished);
    }

    /// A wrong answer, when it is time for one and one is certain.
    fn lie(&mut self, open: &Open, right: Option<&Value>) -> Option<Value> {
        if self.planted.is_some() || self.due.is_none_or(|due| self.started < due) || !open.call.finishes {
            return None;
        }
        let lie = self.objects[open.key].lie(&open.call, self.index + 1, right, &mut self.rng);
        match lie {
            Some(_) => self.planted = Some((open.key, self.index)),
            None => self.patience = self.patience.saturating_sub(1),
        }
        if self.patience == 0 && self.planted.is_none() {
            self.be_absurd(open.key);
        }
        lie
    }

    fn be_absurd(&mut self, key: usize) {
        let (f, argument, answer) = self.objects[key].absurd();
        // One that no client will ever be.
        let process = u32::MAX;
        self.record(EventKind::Invoke, process, f, key, argument);
        self.planted = Some((key, self.index));
        self.record(EventKind::Ok, process, f, key, answer);
    }

    /// What is still owed at the end. `false` when that was all.
    fn finish(&mut self) -> bool {
        match self.planted {
            Some((key, _)) if !self.objects[key].is_certain() => self.be_absurd(key),
            None if self.due.is_some() => {
                let key = self.rng.random_range(0..self.objects.len());
                self.be_absurd(key);
            }
            _ => return false,
        }
        self.due = None;
        true
    }
}

impl Iterator for Simulation {
    type Item = Event;

    fn next(&mut self) -> Option<Event> {
        loop {
            if let Some(event) = self.ready.pop_front() {
                return Some(event);
            }
            if !self.act() {
                return None;
            }
        }
    }
}

/// Whether only the object itself may refuse an operation that observes when it fails.
pub(super) fn says_nothing(fail_means: FailMeans) -> bool {
    fail_means == FailMeans::NoEffect
}

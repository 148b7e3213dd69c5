//! Workers: ask the generator, invoke, record.
//!
//! Worker i talks to node i mod n as process i. After an operation of unknown outcome that process never invokes again:
//! the worker goes on as process + (number of workers) with a fresh client. Every operation has a deadline, so a hung one
//! stalls nothing.

use crate::client::{Client, ClientFactory, Outcome};
use crate::cluster::Node;
use crate::generator::{Context, Generator, Next, OpSpec};
use crate::journal::Journal;
use squall_checkers::{Event, EventKind, Sym};
use std::sync::{Arc, Mutex};
use std::time::Duration;
use tokio::sync::{Notify, watch};

/// A worker that cannot open a client waits this long before its next operation: a dead node is not worth a busy loop.
const OPEN_RETRY: Duration = Duration::from_millis(50);

/// Workers with nothing to do ask again at least this often.
const PENDING_POLL: Duration = Duration::from_millis(10);

/// One worker; it lives through all phases, so that process numbers are never used twice.
pub struct Worker {
    thread: usize,
    process: u32,
    node: Arc<Node>,
    client: Option<Box<dyn Client>>,
}

impl Worker {
    /// Worker `thread` of a cluster with these nodes.
    pub fn new(thread: usize, nodes: &[Arc<Node>]) -> Self {
        let process = u32::try_from(thread).expect("fewer than four billion workers");
        Self { thread, process, node: nodes[thread % nodes.len()].clone(), client: None }
    }

    /// Forgets its connection: the next operation opens a fresh one.
    pub fn disconnect(&mut self) {
        self.client = None;
    }
}

/// What all workers of a phase share.
#[derive(Clone)]
pub struct PhaseContext {
    /// Where events go.
    pub journal: Journal,
    /// How clients are opened.
    pub clients: Arc<dyn ClientFactory>,
    /// Becomes true when nothing new may be invoked.
    pub stop: watch::Receiver<bool>,
    /// After this an operation is `info`.
    pub op_timeout: Duration,
}

struct Shared {
    generator: Mutex<Box<dyn Generator>>,
    /// Rung at every completion, for workers that were told to wait for one.
    completed: Notify,
    threads: usize,
    phase: PhaseContext,
    /// Whether anybody ever had to wait for a completion: otherwise nobody needs to ring.
    pending_seen: std::sync::atomic::AtomicBool,
}

/// How a phase ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PhaseEnd {
    /// The generator was done.
    Finished,
    /// It was stopped before.
    Stopped,
}

/// Runs `generator` on `workers` until it is done or the phase is stopped, and gives the workers back.
///
/// # Errors
/// When a client panicked: a bug in the client, not a verdict about the system.
pub async fn run_phase(
    workers: Vec<Worker>,
    generator: Box<dyn Generator>,
    phase: PhaseContext,
) -> anyhow::Result<(Vec<Worker>, PhaseEnd)> {
    let shared = Arc::new(Shared {
        generator: Mutex::new(generator),
        completed: Notify::new(),
        threads: workers.len(),
        phase,
        pending_seen: false.into(),
    });
    let tasks: Vec<_> = workers.into_iter().map(|worker| tokio::spawn(work(worker, shared.clone()))).collect();
    let mut back = Vec::with_capacity(tasks.len());
    let mut end = PhaseEnd::Finished;
    for task in tasks {
        let (worker, worker_end) = task.await.map_err(|error| anyhow::anyhow!("a client panicked: {error}"))?;
        if worker_end == PhaseEnd::Stopped {
            end = PhaseEnd::Stopped;
        }
        back.push(worker);
    }
    Ok((back, end))
}

async fn work(mut worker: Worker, shared: Arc<Shared>) -> (Worker, PhaseEnd) {
    let mut stop = shared.phase.stop.clone();
    let mut completion: Option<Event> = None;
    loop {
        let stopped = *stop.borrow();
        let next = ask(&shared, &worker, completion.take(), stopped);
        match next {
            _ if stopped => return (worker, PhaseEnd::Stopped),
            Next::Done => {
                shared.completed.notify_waiters();
                return (worker, PhaseEnd::Finished);
            }
            Next::Op(spec) => {
                if let Some(at_ns) = spec.at_ns
                    && !sleep_until(&shared.phase.journal, at_ns, &mut stop).await
                {
                    return (worker, PhaseEnd::Stopped);
                }
                completion = Some(invoke(&mut worker, &shared, &spec).await);
                // Clients that never wait (or fail at once) must not starve the other workers.
                tokio::task::consume_budget().await;
            }
            Next::Wait(until_ns) => {
                sleep_until(&shared.phase.journal, until_ns, &mut stop).await;
            }
            Next::Pending => {
                shared.pending_seen.store(true, std::sync::atomic::Ordering::Relaxed);
                let _ = tokio::time::timeout(PENDING_POLL, shared.completed.notified()).await;
            }
        }
    }
}

/// Tells the generator what came of the last operation and asks for the next one, under one lock.
fn ask(shared: &Shared, worker: &Worker, completion: Option<Event>, stopped: bool) -> Next {
    let mut context = Context {
        now_ns: shared.phase.journal.now_ns(),
        thread: worker.thread,
        process: worker.process,
        threads: shared.threads,
    };
    let mut generator = shared.generator.lock().unwrap_or_else(|e| e.into_inner());
    if let Some(event) = completion {
        context.process = event.process;
        generator.update(&context, &event);
        context.process = worker.process;
        if shared.pending_seen.load(std::sync::atomic::Ordering::Relaxed) {
            shared.completed.notify_waiters();
        }
    }
    if stopped { Next::Done } else { generator.next(&context) }
}

/// Sleeps until `at_ns` of the run; false when the phase was stopped before.
async fn sleep_until(journal: &Journal, at_ns: u64, stop: &mut watch::Receiver<bool>) -> bool {
    if at_ns <= journal.now_ns() {
        return true;
    }
    let due = tokio::time::Instant::from_std(journal.instant(at_ns));
    tokio::select! {
        () = tokio::time::sleep_until(due) => true,
        _ = stop.wait_for(|stopped| *stopped) => false,
    }
}

/// One operation from invocation to completion, both recorded. Returns the completion.
async fn invoke(worker: &mut Worker, shared: &Shared, spec: &OpSpec) -> Event {
    let phase = &shared.phase;
    let op = spec.to_op(worker.process);
    let node = Some(worker.node.name);
    let mut client = worker.client.take();
    let mut open_error = None;
    if client.is_none() {
        match tokio::time::timeout(phase.op_timeout, phase.clients.open(&worker.node, worker.process)).await {
            Ok(Ok(fresh)) => client = Some(fresh),
            Ok(Err(error)) => open_error = Some(Sym::new(&format!("cannot connect: {error}"))),
            Err(_) => open_error = Some(Sym::new("cannot connect: timeout")),
        }
    }
    let invoked = phase.journal.invoke(&op, node, spec.at_ns);
    shared.generator_update(worker, &invoked);
    let Some(mut client) = client else {
        // Nothing was sent, so this is a definite failure and the process may go on.
        let event = phase.journal.complete(&op, node, EventKind::Fail, op.value.clone(), open_error);
        tokio::time::sleep(OPEN_RETRY).await;
        return event;
    };
    let outcome = tokio::time::timeout(phase.op_timeout, client.invoke(&op))
        .await
        .unwrap_or_else(|_| Outcome::Info(Sym::new("timeout")));
    let (kind, value, error) = match outcome {
        Outcome::Ok(value) => (EventKind::Ok, value, None),
        Outcome::Fail(why) => (EventKind::Fail, op.value.clone(), Some(why)),
        Outcome::Info(why) => (EventKind::Info, op.value.clone(), Some(why)),
    };
    let event = phase.journal.complete(&op, node, kind, value, error);
    if kind == EventKind::Info {
        worker.process += u32::try_from(shared.threads).expect("fewer than four billion workers");
        // The connection may still carry the unknown operation's answer.
        drop(client);
    } else {
        worker.client = Some(client);
    }
    event
}

impl Shared {
    fn generator_update(&self, worker: &Worker, event: &Event) {
        let context =
            Context { now_ns: event.time_ns, thread: worker.thread, process: event.process, threads: self.threads };
        self.generator.lock().unwrap_or_else(|e| e.into_inner()).update(&context, event);
    }
}

//! The run's clock and its history, shared by workers and nemesis.
//!
//! Workers stamp and queue events under one short lock; a thread of its own encodes, compresses and syncs them, so that
//! no worker ever waits for the disk, unless the disk falls so far behind that the queue is full. Neither the queue nor
//! the statistics grow with the history.

use crate::client::Op;
use crate::stats::Stats;
use squall_checkers::{Event, EventKind, HistoryWriter, Sym, Value};
use std::path::Path;
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};

/// Events that may wait for the disk; past this, workers wait.
const QUEUE_LEN_MAX: usize = 1 << 17;

/// The history on disk is never older than this.
const SYNC_INTERVAL: Duration = Duration::from_millis(500);

/// How long the writer sleeps when there is little to do.
const DRAIN_INTERVAL: Duration = Duration::from_millis(20);

/// A queue this long is worth waking the writer for.
const DRAIN_LEN: usize = 1 << 13;

/// A handle to the history being written; clones share it.
#[derive(Clone)]
pub struct Journal {
    inner: Arc<Inner>,
}

struct Inner {
    start: Instant,
    queue: Mutex<Queue>,
    /// Wakes the writer.
    filled: Condvar,
    /// Wakes workers that wait for room.
    drained: Condvar,
    stats: Mutex<Stats>,
    /// Who else wants to know what was recorded.
    tap: Mutex<Option<Tap>>,
}

type Tap = Box<dyn FnMut(&[Event]) + Send>;

#[derive(Default)]
struct Queue {
    events: Vec<Event>,
    next_index: u64,
    closed: bool,
    /// Set once by the writer: nothing more can be recorded.
    failure: Option<String>,
}

/// The writing end; [`JournalWriter::close`] it to be sure that everything is on disk.
pub struct JournalWriter {
    journal: Journal,
    thread: std::thread::JoinHandle<()>,
}

/// Nothing more can be recorded: the disk is full, or gone.
#[derive(Clone, Debug, thiserror::Error)]
#[error("the history could not be written: {0}")]
pub struct JournalFailed(pub String);

impl Journal {
    /// Starts the run's clock and the history at `path`.
    ///
    /// # Errors
    /// When the file cannot be created.
    pub fn create(path: &Path) -> anyhow::Result<(Self, JournalWriter)> {
        let writer = HistoryWriter::create(path)?;
        let inner = Inner {
            start: Instant::now(),
            queue: Mutex::default(),
            filled: Condvar::new(),
            drained: Condvar::new(),
            stats: Mutex::default(),
            tap: Mutex::default(),
        };
        let journal = Self { inner: Arc::new(inner) };
        let for_thread = journal.clone();
        let thread =
            std::thread::Builder::new().name("journal".to_owned()).spawn(move || drain(&for_thread, writer))?;
        Ok((journal.clone(), JournalWriter { journal, thread }))
    }

    /// From now on `tap` gets everything that is recorded, in order, some milliseconds later. It must not wait: the disk
    /// would wait for it.
    pub fn tap(&self, tap: impl FnMut(&[Event]) + Send + 'static) {
        *self.inner.tap.lock().unwrap_or_else(|e| e.into_inner()) = Some(Box::new(tap));
    }

    /// Nanoseconds since the start of the run.
    pub fn now_ns(&self) -> u64 {
        u64::try_from(self.inner.start.elapsed().as_nanos()).unwrap_or(u64::MAX)
    }

    /// The moment `at_ns` as an instant, for sleeping until then.
    pub fn instant(&self, at_ns: u64) -> Instant {
        self.inner.start + Duration::from_nanos(at_ns)
    }

    /// Records an invocation, before it is sent. Returns the event as recorded.
    pub fn invoke(&self, op: &Op, node: Option<Sym>, intended_ns: Option<u64>) -> Event {
        self.record(Event {
            index: 0,
            time_ns: 0,
            kind: EventKind::Invoke,
            process: op.process,
            f: op.f,
            key: op.key.clone(),
            value: op.value.clone(),
            node,
            intended_ns,
            error: None,
        })
    }

    /// Records a completion, after its last byte arrived. Returns the event as recorded.
    pub fn complete(&self, op: &Op, node: Option<Sym>, kind: EventKind, value: Value, error: Option<Sym>) -> Event {
        self.record(Event {
            index: 0,
            time_ns: 0,
            kind,
            process: op.process,
            f: op.f,
            key: op.key.clone(),
            value,
            node,
            intended_ns: None,
            error,
        })
    }

    /// Records what the nemesis did: `fault` (`partition`), and `value`: a map with at least `id`, `action` (`inject`, `heal`),
    /// `targets`, `outcome` (`installed`, `healed`, `skipped`, `indeterminate`) and `seen`.
    pub fn nemesis(&self, fault: Sym, value: Value) {
        self.record(bare(EventKind::Nemesis, fault, value));
    }

    /// Records the start of a phase.
    pub fn phase(&self, name: Sym) {
        self.record(bare(EventKind::Phase, name, Value::Nil));
    }

    /// Numbers so far; may lag the queue by some milliseconds.
    pub fn stats(&self) -> Stats {
        self.inner.stats.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// How many operations were invoked so far; may lag the queue by some milliseconds.
    pub fn invoked(&self) -> u64 {
        self.inner.stats.lock().unwrap_or_else(|e| e.into_inner()).invoked
    }

    /// Why nothing more can be recorded, if so.
    pub fn failure(&self) -> Option<JournalFailed> {
        self.lock().failure.clone().map(JournalFailed)
    }

    /// Time and index are given under the lock, so that both grow together.
    fn record(&self, mut event: Event) -> Event {
        let mut queue = self.lock();
        while queue.events.len() >= QUEUE_LEN_MAX && queue.failure.is_none() {
            queue = self.inner.drained.wait(queue).unwrap_or_else(|e| e.into_inner());
        }
        event.time_ns = self.now_ns();
        event.index = queue.next_index;
        queue.next_index += 1;
        if queue.failure.is_none() {
            queue.events.push(event.clone());
            if queue.events.len() == DRAIN_LEN {
                self.inner.filled.notify_one();
            }
        }
        event
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.inner.queue.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl JournalWriter {
    /// Writes what is queued, syncs, and ends the writer.
    ///
    /// # Errors
    /// When anything that was recorded is not on disk.
    pub fn close(self) -> Result<Stats, JournalFailed> {
        self.journal.lock().closed = true;
        self.journal.inner.filled.notify_one();
        if self.thread.join().is_err() {
            return Err(JournalFailed("its writer panicked".to_owned()));
        }
        self.journal.failure().map_or_else(|| Ok(self.journal.stats()), Err)
    }
}

fn bare(kind: EventKind, f: Sym, value: Value) -> Event {
    Event {
        index: 0,
        time_ns: 0,
        kind,
        process: 0,
        f,
        key: Value::Nil,
        value,
        node: None,
        intended_ns: None,
        error: None,
    }
}

fn drain(journal: &Journal, mut writer: HistoryWriter) {
    let mut batch = Vec::new();
    let mut synced = Instant::now();
    loop {
        let closed = wait_for_events(journal, &mut batch);
        let result = append(journal, &mut writer, &batch).and_then(|()| {
            if closed || synced.elapsed() >= SYNC_INTERVAL {
                synced = Instant::now();
                writer.sync()?;
            }
            Ok(())
        });
        batch.clear();
        if let Err(error) = result {
            journal.lock().failure = Some(error.to_string());
            journal.inner.drained.notify_all();
            return;
        }
        if closed && journal.lock().events.is_empty() {
            return;
        }
    }
}

/// Swaps the queue into `batch`; says whether the journal is closed.
fn wait_for_events(journal: &Journal, batch: &mut Vec<Event>) -> bool {
    let mut queue = journal.lock();
    if queue.events.len() < DRAIN_LEN && !queue.closed {
        queue = journal.inner.filled.wait_timeout(queue, DRAIN_INTERVAL).unwrap_or_else(|e| e.into_inner()).0;
    }
    std::mem::swap(&mut queue.events, batch);
    let closed = queue.closed;
    drop(queue);
    journal.inner.drained.notify_all();
    closed
}

fn append(journal: &Journal, writer: &mut HistoryWriter, batch: &[Event]) -> Result<(), squall_checkers::HistoryError> {
    for event in batch {
        writer.append(event)?;
    }
    if let Some(tap) = &mut *journal.inner.tap.lock().unwrap_or_else(|e| e.into_inner()) {
        tap(batch);
    }
    // After the disk, so that nobody who asks for numbers waits for it.
    let mut stats = journal.inner.stats.lock().unwrap_or_else(|e| e.into_inner());
    batch.iter().for_each(|event| stats.feed(event));
    Ok(())
}

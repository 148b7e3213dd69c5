//! Checks the history while it is being recorded, on a thread of its own.
//!
//! The journal hands over what it wrote; nobody waits for the check. When it falls too far behind it ends and says so:
//! the check after the run looks at everything anyway, and only that gives the verdict.

use crate::journal::Journal;
use crate::progress::Progress;
use squall_checkers::Event;
use squall_checkers::linear::online::{Finding, Online, Violation};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::{Arc, Condvar, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::sync::watch;

/// Events that may wait to be checked.
const QUEUE_LEN_MAX: usize = 1 << 18;

/// At the end of the run the check may take this long for what still waits.
const END_TIME_MAX: Duration = Duration::from_secs(2);

/// After so many events it looks whether it has to end.
const LOOK_EVERY: usize = 256;

/// Findings that are shown; the rest is in the results.
const SHOWN_MAX: usize = 5;

/// A check that runs beside a run.
pub struct Watch {
    shared: Arc<Shared>,
    violation: watch::Receiver<Option<Violation>>,
    thread: std::thread::JoinHandle<()>,
}

struct Shared {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    events: Vec<Event>,
    /// Since then nothing more comes.
    closed: Option<Instant>,
    /// Nothing more is checked.
    ended: bool,
}

impl Shared {
    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(|e| e.into_inner())
    }
}

impl Watch {
    /// Starts the thread, which gets what `journal` records from now on. Findings are shown as they come.
    ///
    /// # Errors
    /// When there is no thread to be had.
    pub fn start(online: Online, journal: &Journal, progress: &Progress) -> std::io::Result<Self> {
        let shared = Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new() });
        let (found, violation) = watch::channel(None);
        journal.tap(tap(shared.clone(), progress.clone()));
        let (for_thread, journal, progress) = (shared.clone(), journal.clone(), progress.clone());
        let thread = std::thread::Builder::new().name("online check".to_owned()).spawn(move || {
            let check = AssertUnwindSafe(|| follow(online, &for_thread, &journal, &progress, &found));
            if catch_unwind(check).is_err() {
                progress
                    .done("warning", "the online check panicked, which is a bug in squall; the final check decides");
            }
            end(&for_thread);
        })?;
        Ok(Self { shared, violation, thread })
    }

    /// The first violation, once there is one.
    pub fn violation(&self) -> watch::Receiver<Option<Violation>> {
        self.violation.clone()
    }

    /// Ends the check: what still waits is looked at for a moment. The first violation, if there was one.
    pub fn end(self) -> Option<Violation> {
        self.shared.lock().closed = Some(Instant::now());
        self.shared.filled.notify_one();
        // It catches its own panics.
        let _ = self.thread.join();
        self.violation.borrow().clone()
    }
}

/// Takes events as they are recorded; never waits for the check.
fn tap(shared: Arc<Shared>, progress: Progress) -> impl FnMut(&[Event]) + Send {
    move |events| {
        let mut queue = shared.lock();
        if queue.ended {
            return;
        }
        let behind = queue.events.len();
        if behind + events.len() > QUEUE_LEN_MAX {
            queue.events = Vec::new();
            queue.ended = true;
            let what = format!("the online check is {behind} events behind and ends; the final check decides");
            progress.done("warning", &what);
        } else {
            queue.events.extend_from_slice(events);
        }
        drop(queue);
        shared.filled.notify_one();
    }
}

fn end(shared: &Shared) {
    let mut queue = shared.lock();
    queue.ended = true;
    queue.events = Vec::new();
}

/// The life of the thread.
fn follow(
    mut online: Online,
    shared: &Shared,
    journal: &Journal,
    progress: &Progress,
    found: &watch::Sender<Option<Violation>>,
) {
    let mut batch = Vec::new();
    let mut shown = 0;
    loop {
        let closed = {
            let mut queue = shared.lock();
            while queue.events.is_empty() && queue.closed.is_none() && !queue.ended {
                queue = shared.filled.wait(queue).unwrap_or_else(|e| e.into_inner());
            }
            if queue.ended || queue.events.is_empty() {
                return;
            }
            std::mem::swap(&mut queue.events, &mut batch);
            queue.closed
        };
        for (at, event) in batch.drain(..).enumerate() {
            let is_late = || closed.is_some_and(|closed| closed.elapsed() > END_TIME_MAX);
            if at.is_multiple_of(LOOK_EVERY) && (is_late() || shared.lock().ended) {
                return;
            }
            let finding = match online.push(&event) {
                Ok(finding) => finding,
                Err(error) => {
                    progress.done("warning", &format!("the online check ends: {error}"));
                    return;
                }
            };
            if let Some(finding) = finding {
                shown += 1;
                if shown <= SHOWN_MAX {
                    show(&finding, journal, progress);
                }
                if let Finding::Violation(violation) = finding {
                    found.send_if_modified(|first| {
                        let is_first = first.is_none();
                        first.get_or_insert(violation);
                        is_first
                    });
                }
            }
        }
    }
}

fn show(finding: &Finding, journal: &Journal, progress: &Progress) {
    match finding {
        Finding::Violation(violation) => {
            let late_ms = journal.now_ns().saturating_sub(violation.time_ns) / 1_000_000;
            progress.done("violated", &format!("{violation}; found {late_ms} ms later"));
        }
        Finding::GaveUp { key, reason, .. } => {
            let what = format!("key {key} is not followed online any more ({reason}); the final check decides");
            progress.done("note", &what);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::client::Op;
    use squall_checkers::linear::online::OnlineOptions;
    use squall_checkers::{EventKind, ModelKind, Sym, Value};

    fn op(process: u32, f: &str, value: i64) -> Op {
        Op { process, f: Sym::new(f), key: Value::Int(7), value: Value::Int(value) }
    }

    #[test]
    fn a_violation_is_known_while_the_run_goes() {
        let dir = tempfile::tempdir().unwrap();
        let (journal, writer) = Journal::create(&dir.path().join("a.history")).unwrap();
        let online = Online::new(ModelKind::Register, OnlineOptions::default());
        let watch = Watch::start(online, &journal, &Progress::new(true)).unwrap();
        let mut violation = watch.violation();
        journal.invoke(&op(0, "write", 1), None, None);
        journal.complete(&op(0, "write", 1), None, EventKind::Ok, Value::Int(1), None);
        assert!(violation.borrow().is_none());
        journal.invoke(&op(1, "read", 0), None, None);
        journal.complete(&op(1, "read", 0), None, EventKind::Ok, Value::Int(2), None);
        let runtime = tokio::runtime::Builder::new_current_thread().build().unwrap();
        let found = runtime.block_on(async { violation.wait_for(Option::is_some).await.unwrap().clone() }).unwrap();
        assert_eq!((found.key.as_str(), found.index), ("7", 3));
        writer.close().unwrap();
        assert_eq!(watch.end().map(|violation| violation.index), Some(3));
    }

    #[test]
    fn who_falls_behind_is_left_alone() {
        let shared = Arc::new(Shared { queue: Mutex::default(), filled: Condvar::new() });
        let mut tap = tap(shared.clone(), Progress::new(true));
        let event = Event {
            index: 0,
            time_ns: 0,
            kind: EventKind::Phase,
            process: 0,
            f: Sym::new("main"),
            key: Value::Nil,
            value: Value::Nil,
            node: None,
            intended_ns: None,
            error: None,
        };
        let batch = vec![event; QUEUE_LEN_MAX];
        tap(&batch);
        assert!(!shared.lock().ended);
        tap(&batch[..1]);
        assert!(shared.lock().ended && shared.lock().events.is_empty());
        tap(&batch);
        assert!(shared.lock().events.is_empty());
    }
}

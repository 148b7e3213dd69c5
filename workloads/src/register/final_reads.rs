//! Final reads: after healing, every key is read on every node.
//!
//! On every node, so that a replica that lost or never got what the others have is seen, whichever node that is. Each
//! read is tried until it succeeds or the phase's deadline is over; the checker says `unknown` for what is missing then.

use squall_checkers::{CheckResult, Event, EventKind, History, Sym, Value, Verdict};
use squall_harness::generator::{Context, Generator, Next, OpSpec, UntilOk};
use squall_harness::{CheckBudget, Checker};
use std::collections::HashMap;

/// Reads keys on all nodes that some worker talks to.
pub(super) struct FinalReads {
    /// One for each node: worker i talks to node i mod nodes.
    by_node: Vec<UntilOk>,
}

impl FinalReads {
    /// Reads the keys below `keys` on each of `nodes`, each `times`.
    pub(super) fn new(keys: i64, nodes: usize, times: usize) -> Self {
        let read = Sym::new("read");
        let reads = || {
            let keys = (0..times).flat_map(|_| 0..keys);
            UntilOk::new(keys.map(|key| OpSpec::new(read, Value::Int(key), Value::Nil)))
        };
        Self { by_node: (0..nodes.max(1)).map(|_| reads()).collect() }
    }
}

impl Generator for FinalReads {
    fn next(&mut self, context: &Context) -> Next {
        let node = context.thread % self.by_node.len();
        self.by_node[node].next(context)
    }

    fn update(&mut self, context: &Context, event: &Event) {
        let node = context.thread % self.by_node.len();
        self.by_node[node].update(context, event);
    }
}

/// Every key was read after healing, on every node that was asked: without that, nobody looked whether anything was lost.
pub(super) struct FinalReadsDone {
    /// How many keys there are.
    pub(super) keys: i64,
}

impl Checker for FinalReadsDone {
    fn name(&self) -> &'static str {
        "final-reads"
    }

    fn check(&self, history: &History, _: &CheckBudget) -> CheckResult {
        let (verdict, reason) = match self.missing_by_node(history) {
            None => (Verdict::Unknown, "the run ended before the final reads".to_owned()),
            Some(missing) if missing.is_empty() => (Verdict::Unknown, "there were no final reads".to_owned()),
            Some(missing) => self.judge(&missing),
        };
        CheckResult { checker: self.name().to_owned(), verdict, reason, ..CheckResult::default() }
    }
}

impl FinalReadsDone {
    /// How many keys were not read on each node that was asked; `None` when there was no final phase.
    fn missing_by_node(&self, history: &History) -> Option<Vec<(Option<Sym>, usize)>> {
        let (phase, word) = (Sym::new("final"), Sym::new("read"));
        let keys = usize::try_from(self.keys).unwrap_or(0);
        let mut read: HashMap<Option<Sym>, Vec<bool>> = HashMap::new();
        // From the end, since the last phase is a small part of a long history.
        for event in history.iter().rev() {
            if event.kind == EventKind::Phase && event.f == phase {
                let missing = |(node, done): (_, Vec<bool>)| (node, done.into_iter().filter(|done| !done).count());
                let mut missing: Vec<_> = read.into_iter().map(missing).collect();
                missing.sort_by_key(|(node, _)| node.map(Sym::as_str));
                return Some(missing);
            }
            if event.f != word || !matches!(event.kind, EventKind::Invoke | EventKind::Ok) {
                continue;
            }
            let done = read.entry(event.node).or_insert_with(|| vec![false; keys]);
            let key = event.key.as_int().and_then(|key| usize::try_from(key).ok());
            if event.kind == EventKind::Ok
                && let Some(slot) = key.and_then(|key| done.get_mut(key))
            {
                *slot = true;
            }
        }
        None
    }

    fn judge(&self, missing: &[(Option<Sym>, usize)]) -> (Verdict, String) {
        let worst = missing.iter().max_by_key(|(_, missing)| *missing);
        match worst {
            Some((node, count)) if *count > 0 => {
                let node = node.map_or(String::new(), |node| format!(" on {node}"));
                let reason = format!("{count} of {} keys could not be read back{node} after healing", self.keys);
                (Verdict::Unknown, reason)
            }
            _ => {
                let nodes = if missing.len() == 1 { "one node".to_owned() } else { format!("{} nodes", missing.len()) };
                (Verdict::Valid, format!("all {} keys were read back on {nodes} after healing", self.keys))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;
    use std::time::Duration;

    fn event(kind: EventKind, f: &str, key: i64, node: &str) -> Event {
        Event {
            index: 0,
            time_ns: 0,
            kind,
            process: 0,
            f: Sym::new(f),
            key: Value::Int(key),
            value: Value::Nil,
            node: Some(Sym::new(node)),
            intended_ns: None,
            error: None,
        }
    }

    /// `final`, `n1 read 0`, `n1 fail 1`, …
    fn history(lines: &[&str]) -> History {
        let mut events = Vec::new();
        for line in lines {
            match line.split_whitespace().collect::<Vec<_>>()[..] {
                [phase] => events.push(event(EventKind::Phase, phase, 0, "n1")),
                [node, end, key] => {
                    let kind = if end == "read" { EventKind::Ok } else { EventKind::Fail };
                    let key = key.parse().unwrap();
                    events.extend([EventKind::Invoke, kind].map(|kind| event(kind, "read", key, node)));
                }
                _ => panic!("{line}"),
            }
        }
        for (at, event) in events.iter_mut().enumerate() {
            (event.index, event.time_ns) = (at as u64, at as u64 * 10);
        }
        History::from_events(events).unwrap()
    }

    #[test]
    fn what_was_not_read_back_is_unknown() {
        let table: [(&[&str], Verdict, &str); 7] = [
            (&["n1 read 0", "n1 read 1"], Verdict::Unknown, "the run ended before the final reads"),
            (&["n1 read 0", "n1 read 1", "final"], Verdict::Unknown, "there were no final reads"),
            (&["n1 read 1", "final", "n1 read 0"], Verdict::Unknown, "1 of 2 keys could not be read back on n1"),
            (&["final", "n1 read 1", "n1 fail 0"], Verdict::Unknown, "1 of 2 keys could not be read back on n1"),
            (
                &["final", "n1 fail 0", "n1 read 1", "n1 read 0"],
                Verdict::Valid,
                "all 2 keys were read back on one node",
            ),
            (
                &["final", "n1 read 0", "n1 read 1", "n2 fail 1"],
                Verdict::Unknown,
                "2 of 2 keys could not be read back on n2",
            ),
            (
                &["final", "n1 read 0", "n2 read 1", "n1 read 1", "n2 read 0"],
                Verdict::Valid,
                "all 2 keys were read back on 2 nodes",
            ),
        ];
        let budget = CheckBudget { time_max: Duration::from_secs(1), memory_max: 1 << 20 };
        for (lines, verdict, reason) in table {
            let result = FinalReadsDone { keys: 2 }.check(&history(lines), &budget);
            assert_eq!(result.verdict, verdict, "{lines:?}");
            assert!(result.reason.starts_with(reason), "{lines:?}: {}", result.reason);
        }
    }

    #[test]
    fn every_key_is_read_on_every_node_until_it_succeeds() {
        let (keys, nodes, threads) = (4, 3, 5);
        let mut generator = FinalReads::new(keys, nodes, 1);
        let mut read: HashSet<(usize, i64)> = HashSet::new();
        let mut open: HashSet<usize> = (0..threads).collect();
        // Every other try fails; time goes on, so that what failed is tried again.
        for round in 0..1000_u64 {
            for thread in 0..threads {
                let context = Context { now_ns: round * 1_000_000_000, thread, process: thread as u32, threads };
                match generator.next(&context) {
                    Next::Op(op) => {
                        let key = op.key.as_int().unwrap();
                        let kind = if round % 2 == 0 { EventKind::Fail } else { EventKind::Ok };
                        if kind == EventKind::Ok {
                            assert!(
                                read.insert((thread % nodes, key)),
                                "{key} was read twice by the node of worker {thread}"
                            );
                        }
                        let mut event = event(kind, "read", key, "n1");
                        event.time_ns = context.now_ns;
                        generator.update(&context, &event);
                    }
                    Next::Done => {
                        open.remove(&thread);
                    }
                    Next::Wait(_) | Next::Pending => assert!(open.contains(&thread)),
                }
            }
        }
        assert!(open.is_empty());
        assert_eq!(read.len(), nodes * keys as usize);
    }
}

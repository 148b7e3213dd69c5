//! Events that steps wait for: a line in a log, the nth operation, a change of leader.

use crate::select::number_of;
use anyhow::bail;
use regex::Regex;
use serde::{Deserialize, Serialize};
use squall_agent::protocol::{Reply, Request};
use squall_harness::config::{ConfigError, Doc, DocNode, Section, unknown};
use squall_harness::nemesis::{NemesisContext, PlanContext};
use squall_harness::{Node, Target};
use std::time::Duration;

/// How often logs, operations and leaders are looked at.
const LOOK_AGAIN: Duration = Duration::from_millis(50);

/// How much of a log is read at a time (bytes).
const LOG_LEN_MAX: u64 = 1 << 20;

/// Something that happens while the run goes.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Event {
    /// A line of the target's log on one of these nodes matches this regular expression.
    Log {
        /// As the `regex` crate reads it.
        pattern: String,
        /// Whose logs.
        nodes: Vec<usize>,
    },
    /// So many operations were invoked since the event was waited for.
    Op(u64),
    /// Another node leads than before.
    LeaderChange,
}

/// What a step waits for.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Trigger {
    /// What.
    pub event: Event,
    /// Number of the entry in the test file's list: all its steps wait in one queue.
    pub entry: usize,
    /// Which occurrence, from 0.
    pub turn: usize,
    /// Occurrences before this do not count (milliseconds since the start of the main phase).
    pub armed_ms: u64,
    /// Nor do those that come sooner than this after the one before (milliseconds).
    pub every_ms: u64,
}

impl Event {
    /// Reads the key `on`.
    pub(crate) fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Option<Self>, ConfigError> {
        let doc = "instead of a schedule: begin when this happens: `{ log: REGEX }` (and `nodes: [n1]`), `{ op: 1000 }` \
                   for every 1000th operation, or `leader-change`";
        let Some(on) = section.raw("on", "event", doc)? else { return Ok(None) };
        let origin = on.origin.clone();
        if matches!(&on.node, DocNode::Scalar(word) if word == "leader-change") {
            return Ok(Some(Self::LeaderChange));
        }
        if let DocNode::Scalar(word) = &on.node {
            return Err(ConfigError::at(
                &origin,
                unknown("event", word, ["leader-change", "{ log: REGEX }", "{ op: N }"]),
            ));
        }
        Self::read_map(on, &format!("{}.on", section.path()), context).map(Some)
    }

    fn read_map(on: Doc, path: &str, context: &PlanContext<'_>) -> Result<Self, ConfigError> {
        let mut on = Section::new(path, on)?;
        let pattern = on.optional::<String>("log", "a regular expression for a line of the target's log")?;
        let op = on.optional::<u64>("op", "every so many operations")?;
        let nodes = on.get("nodes", context.nodes.to_vec(), "whose logs")?;
        let event = match (pattern, op) {
            (Some(pattern), None) => {
                let nodes = nodes.iter().map(|name| number_of(&on, name, context.nodes)).collect::<Result<_, _>>()?;
                Self::Log { pattern, nodes }
            }
            (None, Some(0)) => return Err(on.error("`op` must be at least 1")),
            (None, Some(op)) => Self::Op(op),
            _ => return Err(on.error("`on` needs one of `log` and `op`, or the word `leader-change`")),
        };
        event.validate().map_err(|why| on.error(why))?;
        on.finish()?;
        Ok(event)
    }

    /// Whether it can be waited for.
    ///
    /// # Errors
    /// Why not.
    pub(crate) fn validate(&self) -> Result<(), String> {
        match self {
            Self::Log { nodes, .. } if nodes.is_empty() => {
                Err("`nodes` of a log is empty: name at least one".to_owned())
            }
            Self::Log { pattern, .. } => Regex::new(pattern).map(|_| ()).map_err(|error| {
                let why = error.to_string().lines().last().unwrap_or_default().trim().to_owned();
                format!("`{pattern}` is no regular expression: {why}")
            }),
            Self::Op(_) | Self::LeaderChange => Ok(()),
        }
    }

    /// Every node that it names.
    pub(crate) fn nodes(&self) -> Vec<usize> {
        match self {
            Self::Log { nodes, .. } => nodes.clone(),
            Self::Op(_) | Self::LeaderChange => Vec::new(),
        }
    }

    /// In a few words.
    pub(crate) fn words(&self) -> String {
        match self {
            Self::Log { pattern, .. } => format!("a log line that matches `{pattern}`"),
            Self::Op(nth) => format!("the next {nth} operations"),
            Self::LeaderChange => "a change of leader".to_owned(),
        }
    }

    /// Returns when it has happened, from now on.
    ///
    /// # Errors
    /// When it cannot be watched.
    pub(crate) async fn wait(&self, context: &NemesisContext) -> anyhow::Result<()> {
        match self {
            Self::Log { pattern, nodes } => {
                let pattern = Regex::new(pattern)?;
                let watch = nodes
                    .iter()
                    .map(|&node| Box::pin(log_line(&*context.target, &context.cluster.nodes[node], &pattern)));
                futures::future::select_all(watch).await.0
            }
            Self::Op(nth) => {
                let goal = context.journal.invoked() + nth;
                while context.journal.invoked() < goal {
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
                Ok(())
            }
            Self::LeaderChange => {
                let mut known = Vec::new();
                loop {
                    let now = context.target.primaries(&context.cluster).await;
                    if !now.is_empty() {
                        if !known.is_empty() && now != known {
                            return Ok(());
                        }
                        known = now;
                    }
                    tokio::time::sleep(LOOK_AGAIN).await;
                }
            }
        }
    }
}

/// Returns when a line that matches was added to one of the target's logs on `node`.
async fn log_line(target: &dyn Target, node: &Node, pattern: &Regex) -> anyhow::Result<()> {
    let mut logs = Vec::new();
    for path in target.logs() {
        // What was there before does not count.
        let len = read(node, &path, 0, 0).await?.0;
        logs.push((path, len, Vec::new()));
    }
    loop {
        for (path, offset, rest) in &mut logs {
            let (len, bytes) = read(node, path, *offset, LOG_LEN_MAX).await?;
            // A shorter file is a new one.
            *offset = if len < *offset { 0 } else { *offset + bytes.len() as u64 };
            rest.extend_from_slice(&bytes);
            let end = rest.iter().rposition(|byte| *byte == b'\n').map_or(0, |at| at + 1);
            let lines: Vec<u8> = rest.drain(..end).collect();
            if String::from_utf8_lossy(&lines).lines().any(|line| pattern.is_match(line)) {
                return Ok(());
            }
        }
        tokio::time::sleep(LOOK_AGAIN).await;
    }
}

/// Length of a file and bytes of it; a file that is not there is empty.
async fn read(node: &Node, path: &str, offset: u64, len_max: u64) -> anyhow::Result<(u64, Vec<u8>)> {
    let request = Request::ReadFile { path: path.to_owned(), offset, len_max };
    match node.control.call_with(request, Vec::new(), Duration::from_secs(10)).await {
        Ok((Reply::File { len }, bytes)) => Ok((len, bytes)),
        Ok((other, _)) => bail!("{}: the agent answered {other:?} to a read", node.name),
        Err(squall_harness::cluster::ControlError::Agent { .. }) => Ok((0, Vec::new())),
        Err(error) => Err(error.into()),
    }
}

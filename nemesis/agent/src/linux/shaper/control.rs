//! What agent and watchdog say to the shaper: one line of JSON each way over a socket beside the ledger.

use super::stage::Counters;
use crate::faults::link::Link;
use crate::linux::state::State;
use crate::protocol::AgentError;
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{BufRead, BufReader, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::PathBuf;
use std::time::Duration;

/// How long the shaper waits for a question; meanwhile no packet moves.
const QUESTION_TIME_MAX: Duration = Duration::from_millis(100);

/// How long an answer may take.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(5);

/// A question to the shaper.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub(crate) enum Ask {
    /// Put this in force, unless it is.
    Add {
        /// The fault's.
        id: String,
        /// What to do.
        link: Link,
    },
    /// End it; what it held goes on. The answer has its last counters.
    Remove {
        /// The fault's.
        id: String,
    },
    /// How far is it?
    Measure {
        /// The fault's.
        id: String,
    },
    /// Take in whatever waits and hand it on.
    Drain,
}

/// An answer of the shaper.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Answer {
    /// Of the fault that was asked about; `None` when it is not in force.
    pub(crate) counters: Option<Counters>,
    /// Packets of all pairs that the kernel dropped because the shaper was too slow.
    pub(crate) unread: u64,
}

/// The socket's folder, open, and its path by way of that: the path of a Unix socket may have 107 bytes, a store's more.
fn socket(state: &State) -> std::io::Result<(File, PathBuf)> {
    let folder = File::open(state.path(""))?;
    let path = format!("/proc/self/fd/{}/shaper.sock", folder.as_raw_fd());
    Ok((folder, path.into()))
}

/// The shaper's end.
pub(super) fn listen(state: &State) -> std::io::Result<UnixListener> {
    let (_folder, path) = socket(state)?;
    // A predecessor's; there is only one shaper at a time.
    let _ = std::fs::remove_file(&path);
    UnixListener::bind(path)
}

/// Answers the next question. Whoever asks nothing in time is left alone.
pub(super) fn serve(listener: &UnixListener, answer: impl FnOnce(Ask) -> Answer) {
    let serve = || -> std::io::Result<()> {
        let (mut stream, _) = listener.accept()?;
        stream.set_read_timeout(Some(QUESTION_TIME_MAX))?;
        stream.set_write_timeout(Some(QUESTION_TIME_MAX))?;
        let mut line = String::new();
        BufReader::new(&stream).read_line(&mut line)?;
        let mut reply = serde_json::to_vec(&answer(serde_json::from_str(&line)?))?;
        reply.push(b'\n');
        stream.write_all(&reply)
    };
    if let Err(error) = serve() {
        eprintln!("a question to the shaper was not answered: {error}");
    }
}

/// Asks the shaper of this agent.
///
/// # Errors
/// When it does not run, or does not answer.
pub(crate) fn ask(state: &State, question: &Ask) -> Result<Answer, AgentError> {
    let ask = || -> std::io::Result<Answer> {
        let (_folder, path) = socket(state)?;
        let mut stream = UnixStream::connect(path)?;
        stream.set_read_timeout(Some(ANSWER_TIME_MAX))?;
        let mut line = serde_json::to_vec(question)?;
        line.push(b'\n');
        stream.write_all(&line)?;
        let mut reply = String::new();
        BufReader::new(&stream).read_line(&mut reply)?;
        Ok(serde_json::from_str(&reply)?)
    };
    ask().map_err(|error| AgentError::new(format!("the shaper does not answer: {error}")))
}

//! Everything that can be wrong with a history, each with where it is.

use crate::EventKind;
use std::path::PathBuf;

/// Why a history could not be written, read, paired or checked.
#[derive(Debug, thiserror::Error)]
pub enum HistoryError {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was tried: `create`, `read`, `append to`, `sync`.
        action: &'static str,
        /// The file.
        path: PathBuf,
        /// Why not.
        source: std::io::Error,
    },
    /// An exported history could not be written.
    #[error("cannot write the exported history: {0}")]
    Export(#[source] std::io::Error),
    /// A text does not follow its format.
    #[error("line {line}, column {column}: {message}")]
    Syntax {
        /// From 1.
        line: u64,
        /// From 1.
        column: u64,
        /// What was expected, what was found.
        message: String,
    },
    /// Damage in the middle of a history file.
    #[error("frame {frame} at byte {offset} is damaged ({message}); the {events_intact} events before it are intact")]
    CorruptFrame {
        /// From 0.
        frame: u64,
        /// Where the frame starts in the file (bytes).
        offset: u64,
        /// How many events precede it.
        events_intact: u64,
        /// What is wrong with it.
        message: String,
    },
    /// Nothing in the content says which format this is.
    #[error(
        "this is no history in any known format (history file, JSON Lines, EDN, Jepsen log, object log, Porcupine JSON): {0}"
    )]
    UnknownFormat(String),
    /// Indexes must be dense from 0.
    #[error("event with index {found} where index {expected} was expected: the history has a gap or is out of order")]
    IndexGap {
        /// The index that comes next.
        expected: u64,
        /// The one that came.
        found: u64,
    },
    /// More events than a history can hold.
    #[error("a history holds at most {max} events")]
    TooLong {
        /// The limit.
        max: u64,
    },
    /// A key was asked for that no operation acted on.
    #[error("no operation of the history acts on key {key}")]
    NoSuchKey {
        /// The key as it was asked for.
        key: String,
    },
    /// A process invoked while an operation of it was still open.
    #[error(
        "index {index}: process {process} invokes {f} while its operation of index {open_index} is {state}; \
         a process has one operation at a time and never invokes again after info"
    )]
    DoubleInvoke {
        /// The second invocation.
        index: u64,
        /// Who.
        process: u32,
        /// Operation of the second invocation.
        f: String,
        /// The first invocation.
        open_index: u64,
        /// `still open` or `of unknown outcome`.
        state: &'static str,
    },
    /// A completion without an open operation.
    #[error("index {index}: process {process} completes {f} ({}) but has no open operation", kind.as_str())]
    CompletionWithoutInvocation {
        /// The completion.
        index: u64,
        /// Who.
        process: u32,
        /// Operation of the completion.
        f: String,
        /// Type of the completion.
        kind: EventKind,
    },
    /// A completion that names another operation or key than its invocation.
    #[error(
        "index {index}: completes {found}, but the operation that process {process} invoked at index {open_index} is {expected}"
    )]
    CompletionMismatch {
        /// The completion.
        index: u64,
        /// Who.
        process: u32,
        /// The invocation.
        open_index: u64,
        /// Operation and key of the invocation.
        expected: String,
        /// Operation and key of the completion.
        found: String,
    },
    /// What was stated about an unfinished operation does not fit the history.
    #[error("evidence about index {index}: {message}")]
    Evidence {
        /// Of the invocation that was named.
        index: u64,
        /// What does not fit.
        message: String,
    },
    /// An operation that the model does not know, or with an argument it cannot have.
    #[error("index {index}: {message}")]
    DoesNotFit {
        /// The invocation or completion.
        index: u64,
        /// What the model expected, what was found.
        message: String,
    },
}

//! History model, file format, models and checkers.
//!
//! Nothing here knows about clusters, networks or async: a history goes in, a verdict comes out.

mod error;
mod event;
mod export;
mod format;
mod history;
mod import;
pub mod linear;
pub mod model;
pub mod oracle;
pub mod page;
mod sym;
pub mod synth;
#[cfg(test)]
mod testing;
mod verdict;

pub use error::HistoryError;
pub use event::{Event, EventKind, Value};
pub use export::{export_edn, export_jsonl};
pub use format::{HistoryReader, HistoryWriter, Truncated};
pub use history::{History, Op, Ops, Outcome};
pub use import::{EventStream, Format, ImportOptions, detect, read_any, read_text};
pub use linear::{CheckOptions, EngineChoice, Evidence};
pub use model::{FailMeans, ModelKind};
pub use sym::Sym;
pub use verdict::{Blocked, CheckResult, CheckStats, Explanation, KeyResult, OpLine, Verdict, seconds};

//! The history file (`.history`): append-only, readable by any tool, safe to cut off anywhere.
//!
//! ```text
//! file   = frame*            each a complete zstd frame with content checksum
//! frame  = line*             after decompression; whole lines only, about 256 KiB
//! line   = JSON "\n"         one event
//! ```
//!
//! so `zstd -dc run.history` prints JSON Lines, a crash loses at most the last frame, and damage is noticed by the
//! checksum of the frame it is in. A line:
//!
//! ```json
//! {"index":0,"time":123,"type":"invoke","process":3,"f":"read","key":7,"value":null,"node":"n1"}
//! ```
//!
//! `time` (and the optional `intended`) are nanoseconds since the start of the run; `error` is optional; `node` is left
//! out where there is none. Nemesis and phase lines have the types `nemesis` and `phase`.
//!
//! Values: nil, booleans, numbers, strings and lists are JSON's. A map whose keys are distinct strings is an object;
//! any other map (and one with the key `$map`) is `{"$map":[[key,value],…]}`.
//!
//! What it does not do: repair. A damaged frame is reported, never skipped.

mod encode;
mod fast;
mod json;
mod parallel;
mod reader;
#[cfg(test)]
mod tests;
mod writer;

pub use reader::{HistoryReader, Truncated};
pub use writer::HistoryWriter;

pub(crate) use encode::Encoder;
pub(crate) use fast::{Vocabulary, parse as parse_own_line};
pub(crate) use json::parse_line;
pub(crate) use reader::ZSTD_MAGIC;

/// A frame is written once this much text has gathered (bytes). Larger frames compress little better; smaller ones pay
/// for their headers and fresh tables.
const FRAME_LEN: usize = 256 << 10;

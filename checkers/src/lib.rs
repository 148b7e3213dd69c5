//! History model, file format, models and checkers.
//!
//! Nothing here knows about clusters, networks or async: a history goes in, a verdict comes out.

mod event;
mod sym;

pub use event::{Event, EventKind, Value};
pub use sym::Sym;

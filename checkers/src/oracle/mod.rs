//! An independent judge for small histories, and random ones to hold every engine against.
//!
//! [`is_linearizable`] tries every order that real time allows, as the definition says, and shares nothing with the
//! engines but the models: no memory, no reduction, no partial order, no trick. Exponential; for a dozen operations.

mod brute;
mod random;
mod self_check;
#[cfg(test)]
mod tests;

pub use brute::is_linearizable;
pub use random::{Case, random_case};
pub use self_check::{MODELS, Mismatch, PATHS, Path, SelfCheck, Tally};

#[cfg(test)]
pub(crate) use brute::{Certain, Window, order_exists};

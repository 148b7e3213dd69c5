//! What tests and benchmarks of the agent share.

pub(crate) mod agent;
pub(crate) mod net;

//! Traits, cluster providers, control channel, generators, interpreter, store, report.

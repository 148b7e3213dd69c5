//! Workloads: operations, generators, final reads, checkers.

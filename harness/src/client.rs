//! What carries one process's operations to the system under test.

use crate::cluster::Node;
use async_trait::async_trait;
use squall_checkers::{Sym, Value};
use std::sync::Arc;

/// An operation to carry out.
#[derive(Clone, Debug, PartialEq)]
pub struct Op {
    /// The process that invokes it.
    pub process: u32,
    /// `read`, `write`, …: the workload's vocabulary.
    pub f: Sym,
    /// The object it acts on.
    pub key: Value,
    /// Its argument.
    pub value: Value,
}

/// How an operation ended, as far as the client can prove.
#[derive(Clone, Debug, PartialEq)]
pub enum Outcome {
    /// It certainly took effect; the value is its result (what a read saw; for others usually the argument again).
    Ok(Value),
    /// It certainly did not take effect and never will: refused before it was sent, or definitely rejected.
    /// The word says why.
    Fail(Sym),
    /// Unknown: timeout, reset, broken pipe after sending. The word says why.
    Info(Sym),
}

/// One process's connection. After [`Outcome::Info`] it is dropped: the next process opens a fresh one.
#[async_trait]
pub trait Client: Send {
    /// Carries out one operation. The harness drops the future at the operation's deadline and records `info`, so it
    /// need not keep time itself.
    async fn invoke(&mut self, op: &Op) -> Outcome;
}

/// Opens clients.
#[async_trait]
pub trait ClientFactory: Send + Sync {
    /// A fresh client of `node` for process `process`. An error is recorded as `fail`: nothing was sent.
    async fn open(&self, node: &Arc<Node>, process: u32) -> anyhow::Result<Box<dyn Client>>;
}

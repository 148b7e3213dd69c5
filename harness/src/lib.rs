//! Traits, cluster providers, control channel, generators, interpreter, store, report.

pub mod client;
pub mod cluster;
pub mod config;
pub mod generator;
pub mod interpreter;
pub mod journal;
pub mod labels;
pub mod nemesis;
pub mod online;
pub mod pages;
pub mod progress;
pub mod registry;
pub mod report;
pub mod run;
pub mod seed;
pub mod signals;
pub mod stats;
pub mod store;
pub mod target;
pub mod test;
pub mod verdict;
pub mod workload;

pub use client::{Client, ClientFactory, Op, Outcome};
pub use cluster::{Cluster, Node};
pub use nemesis::Nemesis;
pub use registry::{Kind, Registry};
pub use seed::Seed;
pub use target::Target;
pub use test::Test;
pub use workload::{CheckBudget, Checker, Shape, Workload};

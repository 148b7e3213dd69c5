//! A node's disk: a file system of our own over its data directory, which knows what was synced and can lose the rest.
//!
//! ```text
//! process -> kernel -> [fuse] -> [power: rules, cuts] -> [volume: tree of names, content of files] -> the folder below
//! ```
//!
//! The folder below holds what is durable, always; what is not is in memory here and in limbo (see [`tree`]). So a power
//! cut is forgetting, losing a part is carrying out the other part first, and a disk that is killed has lost its power.
//! When it ends in peace everything is made durable, and the folder below is an ordinary directory again.
//!
//! What it costs when nothing is impaired: each write(2) and fsync(2) is one request to this process; reads come from
//! the kernel's page cache. The kernel's passthrough to the file below is of no use, for it hides writes.

mod below;
mod client;
mod daemon;
mod data;
mod file;
mod fuse;
mod listings;
mod loss;
mod power;
mod rules;
mod space;
#[cfg(test)]
mod space_tests;
mod tree;
mod volume;
#[cfg(test)]
mod volume_tests;

pub(crate) use client::{HELPER, ask, end, is_mounted, start};
pub(crate) use daemon::{Ask, Said, serve};
pub(crate) use loss::{Fate, fates};

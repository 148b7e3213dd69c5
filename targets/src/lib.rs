//! Systems under test, one file each: install, start, stop, client.

pub mod etcd;
#[cfg(test)]
mod fake_server;
mod http;
mod json;
pub mod noop;
pub mod squall_node;

use squall_harness::{Kind, Target};

/// All targets of this crate.
pub fn kinds() -> Vec<Kind<dyn Target>> {
    vec![squall_node::kind(), etcd::kind(), noop::kind()]
}

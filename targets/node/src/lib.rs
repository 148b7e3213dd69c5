//! squall-node: the project's own replicated key-value store, deployed and tested like any other system.
//!
//! Raft ([`raft`], sans-io), a write-ahead log and snapshots ([`storage`]), a key-value state machine that recognises
//! repeated requests ([`kv`]), peers over TCP ([`peers`]) and clients over HTTP and JSON ([`http`]). Planted bugs
//! ([`bug`]) break one promise each, on purpose.
//!
//! Three nodes on one machine:
//!
//! ```text
//! P=n1=127.0.0.1:9091,n2=127.0.0.1:9092,n3=127.0.0.1:9093
//! for i in 1 2 3; do
//!   squall node --id n$i --listen 127.0.0.1:808$i --peer-listen 127.0.0.1:909$i --peers $P --data-dir data/n$i &
//! done
//! curl -X PUT -H 'content-type: application/json' -d '{"value": 5}' 127.0.0.1:8081/kv/a
//! curl 127.0.0.1:8083/kv/a
//! curl -X POST -H 'content-type: application/json' -d '{"expected": 5, "new": 6}' 127.0.0.1:8082/kv/a/cas
//! curl 127.0.0.1:8081/status
//! ```

pub mod bug;
pub mod http;
pub mod kv;
mod lease;
pub mod metrics;
mod node;
pub mod peers;
pub mod raft;
pub mod server;
pub mod storage;

pub use node::{NodeArgs, main};

//! What controller and agent say to each other.
//!
//! One duplex byte stream (an ssh channel, or a pair of pipes into a namespace) carries frames in both directions:
//!
//! ```text
//! u32 LE  length of the rest
//! u32 LE  length of the JSON part
//! JSON    {"id": 7, "request": {"start": {…}}}   or   {"id": 7, "reply": {…}}   or   {"id": 7, "error": {…}}
//! bytes   payload (file contents), often empty
//! ```
//!
//! Ids are chosen by the controller. Answers come in any order. Every request is idempotent: asking again after a lost
//! connection is always safe.

use crate::faults::Fault;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::net::IpAddr;

/// Version of this protocol; both sides refuse another one.
pub const VERSION: u32 = 2;

/// A frame may not be longer than this (bytes): anything longer is not our peer.
pub const FRAME_LEN_MAX: usize = 64 << 20;

/// What the controller asks. Paths that are not absolute are relative to the agent's root directory on the node.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Request {
    /// First request on a stream. Answer: [`Reply::Hello`].
    Hello {
        /// [`VERSION`] of the controller.
        version: u32,
        /// How long processes and faults outlive the last sign of life of the controller (milliseconds).
        lease_ms: u64,
        /// This session was here before: what it prepared, and what it impaired for longer than a boot, is put in force
        /// again when the machine was booted meanwhile. Otherwise what another boot left is struck.
        again: bool,
    },
    /// Sign of life: extends the lease of everything on this node. Answer: [`Reply::Time`].
    Renew {
        /// From now on (milliseconds).
        lease_ms: u64,
    },
    /// Start a long-lived process under a name, in a session of its own, stdout and stderr appended to `log`.
    /// One that already runs under that name with the same argv is left alone. Answer: [`Reply::Process`].
    Start(StartProcess),
    /// Signal a process, wait, then kill -9 what is left of its tree. Answer: [`Reply::Process`] (state `gone`).
    Stop {
        /// The name it was started under.
        name: String,
        /// First signal, e.g. 15.
        signal: i32,
        /// How long to wait for it to end by itself (milliseconds).
        grace_ms: u64,
    },
    /// What a named process is doing. Answer: [`Reply::Process`].
    Status {
        /// The name it was started under.
        name: String,
    },
    /// Run a command to its end. Answer: [`Reply::Output`].
    Exec {
        /// Program and arguments; no shell.
        argv: Vec<String>,
        /// Added to the agent's environment.
        env: BTreeMap<String, String>,
        /// Killed after this (milliseconds).
        timeout_ms: u64,
    },
    /// Write a file (payload) by way of a temporary name, fsync and rename. Answer: [`Reply::Done`].
    PutFile {
        /// Destination.
        path: String,
        /// Permission bits, e.g. 0o755.
        mode: u32,
    },
    /// Read part of a file. Answer: [`Reply::File`] with the bytes as payload.
    ReadFile {
        /// Source.
        path: String,
        /// First byte.
        offset: u64,
        /// At most this many bytes.
        len_max: u64,
    },
    /// Remove a file or a whole directory; one that is not there is fine. Only inside the agent's root.
    /// Answer: [`Reply::Done`].
    Remove {
        /// What to remove.
        path: String,
    },
    /// Create a directory and its parents. Answer: [`Reply::Done`].
    MakeDir {
        /// What to create.
        path: String,
    },
    /// Send a few datagrams to each address, then try to open a TCP connection, to all at once. Answer: [`Reply::Probe`].
    Probe {
        /// `ip:port`.
        addresses: Vec<std::net::SocketAddr>,
        /// Give up after (milliseconds).
        timeout_ms: u64,
        /// How many datagrams, so that there is something on the way.
        datagrams: u32,
    },
    /// Inject a fault: ledger first, then the effect, then its verification. Injecting an id again is a no-op that
    /// answers the same. Answer: [`Reply::Fault`].
    Inject {
        /// Chosen by the controller, unique in the run: `17-partition`.
        id: String,
        /// What to do.
        fault: Fault,
        /// Undone by the watchdog when neither healed nor renewed within this time (milliseconds).
        lease_ms: u64,
    },
    /// Current evidence of a fault that is in force (packet counters, process state). Answer: [`Reply::Fault`].
    Measure {
        /// Its id.
        id: String,
    },
    /// Undo a fault and verify that it is gone. An id that is not in the ledger is already healed.
    /// Answer: [`Reply::Fault`].
    Heal {
        /// Its id.
        id: String,
    },
    /// Undo every fault in the ledger; preparations that stand until the session ends are left. Answer:
    /// [`Reply::Ledger`] (what was undone).
    HealAll,
    /// What is in the ledger now. Answer: [`Reply::Ledger`].
    Ledger,
    /// The machine's disks were put back to an earlier time, and the ledger with them: make it what it was last. What is not in it
    /// is undone, and what a boot does not end is in force again. Answer: [`Reply::Ledger`] (what is in it now).
    RollForward {
        /// What was in it last.
        ledger: Vec<LedgerEntry>,
    },
    /// What this node can do. Answer: [`Reply::Doctor`].
    Doctor,
    /// Stop all named processes, undo all faults, end watchdog and agent. Answer: [`Reply::Done`].
    Shutdown,
}

/// A long-lived process to start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct StartProcess {
    /// Name by which it is stopped, paused and looked up.
    pub name: String,
    /// Program and arguments; no shell.
    pub argv: Vec<String>,
    /// Added to the agent's environment.
    pub env: BTreeMap<String, String>,
    /// Working directory.
    pub cwd: String,
    /// File to which stdout and stderr are appended.
    pub log: String,
}

/// What the agent answers.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Reply {
    /// Who and where the agent is.
    Hello(Hello),
    /// The agent's clocks at the moment of answering (nanoseconds).
    Time {
        /// CLOCK_REALTIME since the epoch.
        realtime_ns: i64,
        /// CLOCK_MONOTONIC.
        monotonic_ns: i64,
    },
    /// A named process.
    Process(ProcessStatus),
    /// A command that ended.
    Output {
        /// Exit code; `None` when it was killed by a signal or by the time limit.
        code: Option<i32>,
        /// What it printed.
        stdout: String,
        /// What it complained about; says so when the time limit ended it.
        stderr: String,
    },
    /// Bytes of a file are in the payload.
    File {
        /// Its length at the time of reading.
        len: u64,
    },
    /// One entry per address of the request: how long an answer took (microseconds), or why there was none.
    Probe(Vec<Result<u64, String>>),
    /// A fault was injected, measured or healed.
    Fault(Evidence),
    /// Entries of the ledger.
    Ledger(Vec<LedgerEntry>),
    /// What the node can do.
    Doctor(Vec<Finding>),
    /// Nothing more to say.
    Done,
}

/// Who and where the agent is.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Hello {
    /// [`VERSION`] of the agent.
    pub version: u32,
    /// Its process id, as seen on the node.
    pub pid: u32,
    /// The node's host name.
    pub hostname: String,
    /// `/proc/sys/kernel/random/boot_id`: two nodes with the same one share a kernel and a clock.
    pub boot_id: String,
    /// Effective user id.
    pub uid: u32,
    /// The agent's root directory, absolute.
    pub root: String,
    /// `x86_64`, `aarch64`, …
    pub arch: String,
    /// All addresses of the node's interfaces but loopback.
    pub addresses: Vec<IpAddr>,
    /// Where the ssh connection comes from that carries the control channel.
    #[serde(default)]
    pub controller: Option<IpAddr>,
}

/// A named process.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ProcessStatus {
    /// The name it was started under.
    pub name: String,
    /// Its process id, if it was ever started.
    pub pid: Option<u32>,
    /// `running`, `stopped` (SIGSTOP), `gone`.
    pub state: ProcessState,
    /// Start time of the process in clock ticks since boot (field 22 of `/proc/PID/stat`): tells a restart from a survivor.
    pub start_ticks: Option<u64>,
    /// How it ended, where known: `exit code 1`, `signal 9`.
    pub ended: Option<String>,
}

/// State of a named process.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum ProcessState {
    /// Alive and not stopped.
    Running,
    /// Every thread of its tree is stopped.
    Stopped,
    /// No such process any more (or never started).
    Gone,
}

/// What was measured about a fault.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Evidence {
    /// Whether the fault is in force (after inject, measure) or verifiably gone (after heal).
    pub verified: bool,
    /// In the past tense, with numbers: `4 processes gone`, `state T`, `4211 packets dropped`.
    pub seen: String,
    /// The number behind it, where there is one (packets, processes), so that several nodes can be added up.
    pub count: u64,
    /// The unit of `count`: `packets dropped`, `processes gone`.
    pub unit: String,
}

impl Evidence {
    /// Evidence of these parts.
    pub fn new(verified: bool, seen: impl Into<String>, count: u64, unit: &str) -> Self {
        Self { verified, seen: seen.into(), count, unit: unit.to_owned() }
    }
}

/// A fault in force, as it stands in the ledger.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct LedgerEntry {
    /// Chosen by the controller.
    pub id: String,
    /// What was done (and so, how to undo it).
    pub fault: Fault,
    /// When the watchdog undoes it: CLOCK_BOOTTIME (nanoseconds).
    pub deadline_boottime_ns: u64,
    /// The boot in which it was injected: after a reboot nothing is left to undo.
    pub boot_id: String,
}

/// One thing a node can or cannot do.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Finding {
    /// `nftables`, `user namespaces`, `/dev/fuse`, …
    pub what: String,
    /// Works, works with a restriction, or not.
    pub level: Level,
    /// What was found: a version, a limit, an errno.
    pub seen: String,
    /// What needs it, and what to do about it when it is missing.
    pub advice: String,
}

/// How good a [`Finding`] is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Level {
    /// Works.
    Good,
    /// Some faults or providers are not available here.
    Limited,
    /// Squall cannot use this node at all without it.
    Bad,
}

/// Why a request was refused or failed: a sentence for a person.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, thiserror::Error)]
#[error("{message}")]
pub struct AgentError {
    /// What was wrong, where, and what to do.
    pub message: String,
}

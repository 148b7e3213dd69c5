//! What the agent keeps on disk below `ROOT/agent`: it outlives the agent, the controller and their connection.

use crate::protocol::AgentError;
use nix::fcntl::{Flock, FlockArg};
use nix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize, de::DeserializeOwned};
use std::fs::{self, File};
use std::io::Write;
use std::path::{Path, PathBuf};

impl AgentError {
    /// An error with this sentence.
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self { message: message.into() }
    }

    /// `what`: the error that stopped it.
    pub(crate) fn io(what: &str, path: &Path, error: impl std::fmt::Display) -> Self {
        Self::new(format!("cannot {what} {}: {error}", path.display()))
    }
}

/// The agent's folder on a node.
#[derive(Clone, Debug)]
pub(crate) struct State {
    /// Everything squall may write on the node is below this.
    pub(crate) root: PathBuf,
    /// How this program is called up to its subcommands: `/proc/self/exe agent`. By that name it is found even after its
    /// file was replaced.
    pub(crate) myself: Vec<String>,
}

/// How long what the agent started outlives the controller's last sign of life.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
struct Lease {
    /// CLOCK_BOOTTIME, nanoseconds; `u64::MAX` for ever.
    deadline_boottime_ns: u64,
    boot_id: String,
}

impl State {
    /// Opens (and makes) the agent's folder.
    ///
    /// # Errors
    /// When it cannot be made.
    pub(crate) fn open(root: &Path, myself: Vec<String>) -> Result<Self, AgentError> {
        fs::create_dir_all(root).map_err(|e| AgentError::io("create", root, e))?;
        let root = root.canonicalize().map_err(|e| AgentError::io("use", root, e))?;
        let state = Self { root, myself };
        for name in ["ledger", "processes"] {
            let dir = state.path(name);
            fs::create_dir_all(&dir).map_err(|e| AgentError::io("create", &dir, e))?;
        }
        Ok(state)
    }

    /// A path below the agent's own folder.
    pub(crate) fn path(&self, name: &str) -> PathBuf {
        self.root.join("agent").join(name)
    }

    /// Held by whoever changes processes or faults: this agent, one from an older connection, or the watchdog.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub(crate) fn lock(&self) -> Result<Flock<File>, AgentError> {
        let path = self.path("lock");
        let file = File::create(&path).map_err(|e| AgentError::io("open", &path, e))?;
        Flock::lock(file, FlockArg::LockExclusive).map_err(|(_, e)| AgentError::io("lock", &path, e))
    }

    /// Takes the lock of the only watchdog; `None` when one runs already.
    ///
    /// # Errors
    /// When the lock file cannot be opened.
    pub(crate) fn watchdog_lock(&self) -> Result<Option<Flock<File>>, AgentError> {
        let path = self.path("watchdog.lock");
        let file = File::create(&path).map_err(|e| AgentError::io("open", &path, e))?;
        Ok(Flock::lock(file, FlockArg::LockExclusiveNonblock).ok())
    }

    /// Extends the session's lease to `lease_ms` from now; 0 is for ever.
    ///
    /// # Errors
    /// When it cannot be written.
    pub(crate) fn renew(&self, lease_ms: u64) -> Result<(), AgentError> {
        let lease = Lease { deadline_boottime_ns: deadline(lease_ms), boot_id: boot_id() };
        // Not synced: after a crash of the machine there is nothing left that it could guard.
        write_json(&self.path("lease.json"), &lease, false)
    }

    /// When the session's lease ends (CLOCK_BOOTTIME, nanoseconds); 0 when there is none of this boot.
    pub(crate) fn lease_deadline(&self) -> u64 {
        match read_json::<Lease>(&self.path("lease.json")) {
            Some(lease) if lease.boot_id == boot_id() => lease.deadline_boottime_ns,
            _ => 0,
        }
    }
}

/// `lease_ms` from now as CLOCK_BOOTTIME nanoseconds; 0 is for ever.
pub(crate) fn deadline(lease_ms: u64) -> u64 {
    match lease_ms {
        0 => u64::MAX,
        ms => boottime_ns().saturating_add(ms.saturating_mul(1_000_000)),
    }
}

/// CLOCK_BOOTTIME: goes on while the machine sleeps, and nobody can set it.
pub(crate) fn boottime_ns() -> u64 {
    clock_ns(ClockId::CLOCK_BOOTTIME) as u64
}

/// A clock in nanoseconds; 0 when the kernel does not have it.
pub(crate) fn clock_ns(clock: ClockId) -> i64 {
    clock_gettime(clock).map_or(0, |t| t.tv_sec() * 1_000_000_000 + t.tv_nsec())
}

/// Identifies this boot of this kernel.
pub(crate) fn boot_id() -> String {
    fs::read_to_string("/proc/sys/kernel/random/boot_id").map(|text| text.trim().to_owned()).unwrap_or_default()
}

/// Writes a file in one piece, by way of a temporary name; `durable` also syncs file and folder.
///
/// # Errors
/// When it cannot be written; the old file is then still there.
pub(crate) fn write_whole(path: &Path, content: &[u8], durable: bool) -> Result<(), AgentError> {
    let mut name = path.file_name().unwrap_or_default().to_owned();
    name.push(format!(".{}.tmp", unique()));
    let temporary = path.with_file_name(name);
    let write = || -> std::io::Result<()> {
        let mut file = File::create(&temporary)?;
        file.write_all(content)?;
        if durable {
            file.sync_all()?;
        }
        fs::rename(&temporary, path)?;
        match path.parent() {
            Some(parent) if durable => File::open(parent)?.sync_all(),
            _ => Ok(()),
        }
    };
    write().map_err(|error| {
        let _ = fs::remove_file(&temporary);
        AgentError::io("write", path, error)
    })
}

/// Differs between all threads and processes that may write at the same time.
fn unique() -> String {
    use std::sync::atomic::{AtomicU64, Ordering};
    static NEXT: AtomicU64 = AtomicU64::new(0);
    format!("{}-{}", std::process::id(), NEXT.fetch_add(1, Ordering::Relaxed))
}

/// Writes `value` as JSON in one piece.
///
/// # Errors
/// When it cannot be written.
pub(crate) fn write_json(path: &Path, value: &impl Serialize, durable: bool) -> Result<(), AgentError> {
    let json = serde_json::to_vec(value).map_err(|e| AgentError::io("encode", path, e))?;
    write_whole(path, &json, durable)
}

/// Reads JSON; `None` when the file is not there or not ours.
pub(crate) fn read_json<T: DeserializeOwned>(path: &Path) -> Option<T> {
    serde_json::from_slice(&fs::read(path).ok()?).ok()
}

/// A name that may become part of a file name.
///
/// # Errors
/// When it is empty or holds anything but letters, digits, `-`, `_` and `.`.
pub(crate) fn check_name(name: &str) -> Result<(), AgentError> {
    let good = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '_' | '.');
    if name.is_empty() || name.len() > 100 || name.starts_with('.') || !name.chars().all(good) {
        return Err(AgentError::new(format!("`{name}` is no name: use letters, digits, `-`, `_` and `.`")));
    }
    Ok(())
}

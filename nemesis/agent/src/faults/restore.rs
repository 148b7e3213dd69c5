//! Directories become what they were when a [`Snapshot`](super::snapshot::Snapshot) was taken. What was written since is gone
//! for good.

use serde::{Deserialize, Serialize};

/// Roll directories back. Whoever uses them is dead.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Restore {
    /// Relative to the agent's root, as in the snapshot.
    pub dirs: Vec<String>,
    /// Id of the snapshot, which is in the ledger.
    pub snapshot: String,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::Restore;
    use crate::linux::kept::{copy_dir, digest_of_dir, empty_dir, folder};
    use crate::linux::{At, Effect};
    use crate::protocol::{AgentError, Evidence};

    const UNIT: &str = "directories rolled back";

    impl Effect for Restore {
        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let kept = folder(&At { state: at.state, id: &self.snapshot, lease_ms: 0 });
            if !kept.is_dir() {
                return Err(AgentError::new(format!("there is no snapshot `{}`", self.snapshot)));
            }
            let (mut seen, mut right) = (Vec::new(), true);
            for (n, dir) in self.dirs.iter().enumerate() {
                let (from, to) = (kept.join(n.to_string()), at.state.root.join(dir));
                let before = digest_of_dir(&to)?.0;
                empty_dir(&to)?;
                copy_dir(&from, &to)?;
                let (wanted, now) = (digest_of_dir(&from)?.0, digest_of_dir(&to)?.0);
                right &= wanted == now && now != before;
                seen.push(format!("{dir}: sha256 {before} -> {now}"));
            }
            let count = if right { self.dirs.len() as u64 } else { 0 };
            Ok(Evidence::new(right, seen.join(", "), count, UNIT))
        }

        fn measure(&self, _: &At<'_>) -> Result<Evidence, AgentError> {
            Ok(Evidence::new(true, "rolled back", self.dirs.len() as u64, UNIT))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            // What was written since the snapshot is gone for good; the copy has done its work.
            let _ = std::fs::remove_dir_all(folder(&At { state: at.state, id: &self.snapshot, lease_ms: 0 }));
            Ok(Evidence::new(true, "", 0, UNIT))
        }

        fn survives_reboot(&self) -> bool {
            true
        }
    }
}

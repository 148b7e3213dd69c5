//! A copy of directories, kept until it is healed: for a [`Restore`](super::restore::Restore) later. It does no harm.

use serde::{Deserialize, Serialize};

/// Keep a copy of directories. Whoever writes to them is stopped meanwhile.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Snapshot {
    /// Relative to the agent's root.
    pub dirs: Vec<String>,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::Snapshot;
    use crate::linux::kept::{copy_dir, digest_of_dir, folder, forget};
    use crate::linux::{At, Effect};
    use crate::protocol::{AgentError, Evidence};

    const UNIT: &str = "files kept";

    impl Effect for Snapshot {
        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let (mut files, mut bytes) = (0, 0);
            for (n, dir) in self.dirs.iter().enumerate() {
                let (from, to) = (at.state.root.join(dir), folder(at).join(n.to_string()));
                copy_dir(&from, &to)?;
                let (before, kept) = (digest_of_dir(&from)?, digest_of_dir(&to)?);
                if before != kept {
                    return Err(AgentError::new(format!("{dir} changed while it was copied")));
                }
                (files, bytes) = (files + kept.1, bytes + kept.2);
            }
            Ok(Evidence::new(true, format!("{files} {UNIT}, {bytes} bytes"), files, UNIT))
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let there = (0..self.dirs.len()).all(|n| folder(at).join(n.to_string()).is_dir());
            Ok(Evidence::new(there, if there { "kept" } else { "not kept" }, 0, UNIT))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            forget(at)?;
            Ok(Evidence::new(true, "", 0, UNIT))
        }

        fn survives_reboot(&self) -> bool {
            true
        }
    }
}

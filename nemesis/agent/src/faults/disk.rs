//! A disk of our own over a directory: does no harm by itself, knows what was synced, and can be impaired and cut off.

use crate::disk::Directories;
use serde::{Deserialize, Serialize};

/// Mount a disk over a directory until the session ends. What is in it then is durable.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Disk {
    /// Relative to the agent's root.
    pub dir: String,
    /// When a change of a directory is durable; nothing said leaves it as it is, which is strict at first.
    pub directories: Option<Directories>,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::Disk;
    use crate::linux::{At, Effect, disk};
    use crate::protocol::{AgentError, Evidence};
    use std::path::{Component, Path};

    const UNIT: &str = "disks mounted";

    impl Effect for Disk {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            let below = Path::new(&self.dir).components().all(|part| matches!(part, Component::Normal(_)));
            if self.dir.is_empty() || !below || self.dir.starts_with("agent") {
                return Err(AgentError::new(format!("`{}` is no directory of data below the agent's root", self.dir)));
            }
            Ok(())
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            disk::start(at.state, &self.dir, self.directories)?;
            self.measure(at)
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            disk::ask(at.state, &self.dir, &disk::Ask::Ping)?;
            Ok(Evidence::new(true, format!("{} is on a disk of ours", self.dir), 1, UNIT))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            disk::end(at.state, &self.dir)?;
            Ok(Evidence::new(true, format!("{} is an ordinary directory", self.dir), 0, UNIT))
        }

        fn is_standing(&self) -> bool {
            true
        }
    }
}

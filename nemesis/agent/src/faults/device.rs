//! A block device of its own under a target's data, by way of the kernel's device mapper: does no harm by itself, and can be made
//! slow or broken, or lose its power.

use serde::{Deserialize, Serialize};

/// Put a directory on a device until the session ends. The device must be empty, or squall's from before.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Device {
    /// Relative to the agent's root; empty.
    pub dir: String,
    /// `/dev/disk/by-id/virtio-data`.
    pub device: String,
    /// Whether what is written is logged, as a cut of its power takes.
    #[serde(default)]
    pub logged: bool,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::Device;
    use crate::linux::own_machine::refuse_others;
    use crate::linux::{At, Effect, device};
    use crate::protocol::{AgentError, Evidence};
    use std::path::{Component, Path};

    const UNIT: &str = "devices mounted";

    impl Effect for Device {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            refuse_others(&[], "a disk of this machine is not used")?;
            let below = Path::new(&self.dir).components().all(|part| matches!(part, Component::Normal(_)));
            if self.dir.is_empty() || !below || self.dir.starts_with("agent") {
                return Err(AgentError::new(format!("`{}` is no directory of data below the agent's root", self.dir)));
            }
            Ok(())
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            device::attach(at.state, &self.dir, &self.device, self.logged)?;
            self.measure(at)
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let is_there = device::is_mounted(at.state, &self.dir)?;
            let seen = if is_there { "is on a device of its own" } else { "is not on a device of its own" };
            Ok(Evidence::new(is_there, format!("{} {seen}", self.dir), u64::from(is_there), UNIT))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            device::detach(at.state, &self.dir)?;
            Ok(Evidence::new(true, format!("{} is an ordinary directory", self.dir), 0, UNIT))
        }

        fn is_standing(&self) -> bool {
            true
        }
    }
}

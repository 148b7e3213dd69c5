//! The power of the block device under a target's data is cut: what the kernel had not flushed is lost, all or parts of it.

use crate::disk::Lose;
use serde::{Deserialize, Serialize};

/// kill -9 of a named process and all its descendants, and the loss of what was not flushed on its
/// [`Device`](super::device::Device), which must be `logged`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceCut {
    /// The name it was started under.
    pub process: String,
    /// The directory that was put on the device.
    pub dir: String,
    /// How much is lost of the writes that were complete when it happened, but not flushed. Pages that the kernel had not even
    /// begun to write are lost anyway.
    pub lose: Lose,
    /// For tosses.
    pub seed: u64,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::DeviceCut;
    use crate::linux::device::{self, Table};
    use crate::linux::{At, Effect, process};
    use crate::protocol::{AgentError, Evidence, ProcessState};

    const UNIT: &str = "unflushed writes of a device lost";

    impl Effect for DeviceCut {
        fn refuse(&self, at: &At<'_>) -> Result<(), AgentError> {
            if device::is_mounted(at.state, &self.dir)? {
                return Ok(());
            }
            Err(AgentError::new(format!(
                "{} is on no device of its own: that must be made before the target starts",
                self.dir
            )))
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            // From here on nothing reaches the disk, under a process that runs.
            device::set(at.state, Table::Broken)?;
            let killed = process::kill_tree(at.state, &self.process)?;
            let cut = device::lose_power(at.state, self.lose, self.seed)?;
            // Some have ended by themselves by then, because their disk failed.
            let gone = process::in_state(at.state, &self.process, ProcessState::Gone, "processes gone")?;
            let seen = format!(
                "{killed} processes killed, {} of {} unflushed writes lost, {} torn",
                cut.lost, cut.unflushed, cut.torn
            );
            Ok(Evidence::new(gone.verified, seen, cut.lost + cut.torn, UNIT))
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let is_there = device::is_mounted(at.state, &self.dir)?;
            let seen = if is_there { "the device has power" } else { "the device has no power" };
            Ok(Evidence::new(!is_there, seen, u64::from(!is_there), "devices without power"))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            if !(device::is_mounted(at.state, &self.dir)? && device::is_whole()?) {
                // After a cut that was not finished; after another one nothing is left to be lost.
                process::kill_tree(at.state, &self.process)?;
                device::lose_power(at.state, self.lose, self.seed)?;
                device::power_up(at.state)?;
            }
            Ok(Evidence::new(true, "the device has power", 0, UNIT))
        }
    }
}

//! The power of a node's disks is cut under a running process: it dies, and what it had not synced is gone.

use crate::disk::Lose;
use serde::{Deserialize, Serialize};

/// kill -9 of a named process and all its descendants, and the loss of what was not synced on the disks over `dirs`.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct PowerCut {
    /// The name it was started under.
    pub process: String,
    /// Relative to the agent's root; a disk is mounted over each.
    pub dirs: Vec<String>,
    /// How much is lost.
    pub lose: Lose,
    /// For tosses.
    pub seed: u64,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::PowerCut;
    use crate::disk::Lost;
    use crate::linux::disk::{self, Ask, Said};
    use crate::linux::{At, Effect, process};
    use crate::protocol::{AgentError, Evidence, ProcessState};
    use std::time::Duration;

    const UNIT: &str = "unsynced changes lost";

    /// How long nothing that is synced ends before the power is gone: long enough for whoever writes all the time to be
    /// in the middle of it.
    const BROWN_OUT: Duration = Duration::from_millis(30);

    impl PowerCut {
        fn hold(&self, at: &At<'_>, hold: bool) -> Result<(), AgentError> {
            self.dirs.iter().try_for_each(|dir| disk::ask(at.state, dir, &Ask::Hold { hold }).map(|_| ()))
        }
    }

    impl Effect for PowerCut {
        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            self.hold(at, true)?;
            std::thread::sleep(BROWN_OUT);
            let killed = process::kill_tree(at.state, &self.process)?;
            let mut lost = Lost::default();
            for (n, dir) in self.dirs.iter().enumerate() {
                let seed = self.seed.wrapping_add(n as u64);
                match disk::ask(at.state, dir, &Ask::Cut { lose: self.lose, seed })? {
                    Said::Lost(here) => lost.add(here),
                    other => return Err(AgentError::new(format!("the disk over {dir} answered a cut with {other:?}"))),
                }
            }
            let seen = format!("{killed} processes gone, {lost}");
            Ok(Evidence::new(killed > 0, seen, lost.count(), UNIT))
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            process::in_state(at.state, &self.process, ProcessState::Gone, "processes gone")
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            // After an injection that failed half way; what is lost is lost.
            for dir in self.dirs.iter().filter(|dir| disk::is_mounted(at.state, dir)) {
                disk::ask(at.state, dir, &Ask::Hold { hold: false })?;
            }
            Ok(Evidence::new(true, format!("`{}` may start again", self.process), 0, UNIT))
        }
    }
}

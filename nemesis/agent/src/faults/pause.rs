//! SIGSTOP of a process tree, undone by SIGCONT.

use serde::{Deserialize, Serialize};

/// SIGSTOP of a named process and all its descendants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Pause {
    /// The name it was started under.
    pub process: String,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::Pause;
    use crate::faults::Fault;
    use crate::linux::{At, Effect, process};
    use crate::protocol::{AgentError, Evidence, ProcessState};

    const UNIT: &str = "processes in state T";

    impl Effect for Pause {
        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let stopped = process::pause_tree(at.state, &self.process)?;
            let seen = if stopped > 0 { "state T".to_owned() } else { format!("`{}` does not run", self.process) };
            Ok(Evidence::new(stopped > 0, seen, stopped, UNIT))
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            process::in_state(at.state, &self.process, ProcessState::Stopped, UNIT)
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            // Somebody else may still want it paused.
            if !at.others().iter().any(|other| other.fault == Fault::Pause(self.clone())) {
                process::resume_tree(at.state, &self.process)?;
            }
            Ok(Evidence::new(true, format!("`{}` goes on", self.process), 0, UNIT))
        }
    }
}

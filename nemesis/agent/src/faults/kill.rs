//! kill -9 of a process tree. Starting it again is the target's business.

use serde::{Deserialize, Serialize};

/// kill -9 of a named process and all its descendants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Kill {
    /// The name it was started under.
    pub process: String,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::Kill;
    use crate::linux::{At, Effect, process};
    use crate::protocol::{AgentError, Evidence, ProcessState};

    const UNIT: &str = "processes gone";

    impl Effect for Kill {
        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let process = &self.process;
            let before = process::status(at.state, process)?.state;
            let killed = process::kill_tree(at.state, process)?;
            let seen = match killed {
                0 if before == ProcessState::Gone => format!("`{process}` was gone already"),
                0 => format!("`{process}` was not hit"),
                n => format!("{n} {UNIT}"),
            };
            Ok(Evidence::new(killed > 0, seen, killed, UNIT))
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            process::in_state(at.state, &self.process, ProcessState::Gone, UNIT)
        }

        fn undo(&self, _: &At<'_>) -> Result<Evidence, AgentError> {
            Ok(Evidence::new(true, format!("`{}` may start again", self.process), 0, UNIT))
        }
    }
}

//! SIGTERM to a process tree, and signal 9 for whatever is left after a while. Starting it again is the target's business.

use serde::{Deserialize, Serialize};

/// SIGTERM to a named process and all its descendants.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Term {
    /// The name it was started under.
    pub process: String,
    /// How long it may take to end by itself (milliseconds).
    pub grace_ms: u64,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::Term;
    use crate::linux::{At, Effect, process};
    use crate::protocol::{AgentError, Evidence, ProcessState};
    use std::time::Instant;

    const UNIT: &str = "processes ended";

    impl Effect for Term {
        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let begun = Instant::now();
            let (asked, killed) = process::terminate(at.state, &self.process, self.grace_ms)?;
            let ms = begun.elapsed().as_millis();
            let seen = match (asked, killed) {
                (0, _) => format!("`{}` was gone already", self.process),
                (n, 0) => format!("{n} {UNIT} by SIGTERM within {ms} ms"),
                (n, killed) => format!("{n} {UNIT}, {killed} of them had to be killed after {ms} ms"),
            };
            Ok(Evidence::new(asked > 0, seen, asked, UNIT))
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            process::in_state(at.state, &self.process, ProcessState::Gone, UNIT)
        }

        fn undo(&self, _: &At<'_>) -> Result<Evidence, AgentError> {
            Ok(Evidence::new(true, format!("`{}` may start again", self.process), 0, UNIT))
        }
    }
}

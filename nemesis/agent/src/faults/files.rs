//! A process tree can open no more files and connections: EMFILE, but in the place of what it closes.

use serde::{Deserialize, Serialize};

/// Each process of a tree may have only so many more file descriptors than now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Files {
    /// The name it was started under.
    pub process: String,
    /// How many more.
    pub left: u64,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::Files;
    use crate::faults::Fault;
    use crate::linux::rlimit::{self, Resource};
    use crate::linux::state::check_name;
    use crate::linux::{At, Effect, procfs};
    use crate::protocol::{AgentError, Evidence};

    const UNIT: &str = "processes out of file descriptors";

    impl Effect for Files {
        fn refuse(&self, at: &At<'_>) -> Result<(), AgentError> {
            check_name(&self.process)?;
            let same = |fault: &Fault| matches!(fault, Fault::Files(other) if other.process == self.process);
            match at.others().iter().find(|other| same(&other.fault)) {
                Some(other) => {
                    Err(AgentError::new(format!("`{}` limits the files of `{}` already", other.id, self.process)))
                }
                None => Ok(()),
            }
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let limit = |stat: &procfs::Stat| procfs::free_descriptor(stat.pid, self.left);
            rlimit::impose(at.state, &self.process, at.id, Resource::Files, None, limit)?;
            self.measure(at)
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let held = rlimit::held(at.state, at.id).unwrap_or(0);
            let seen = if held > 0 {
                format!("{held} {UNIT}, {} left each", self.left)
            } else {
                format!("`{}` does not run with this limit", self.process)
            };
            Ok(Evidence::new(held > 0, seen, held, UNIT))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            rlimit::lift(at.state, &self.process, at.id)?;
            Ok(Evidence::new(true, format!("`{}` may open files again", self.process), 0, UNIT))
        }
    }
}

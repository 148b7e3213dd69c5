//! Operations on a [`Disk`](super::disk::Disk) fail, take long, hang, or go wrong in silence.

use crate::disk::Rule;
use serde::{Deserialize, Serialize};

/// A rule is in force on the disk over `dir`, which is mounted.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct DiskRule {
    /// Relative to the agent's root.
    pub dir: String,
    /// Which operations, and what becomes of them.
    pub rule: Rule,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::DiskRule;
    use crate::linux::disk::{self, Ask, Said};
    use crate::linux::{At, Effect};
    use crate::protocol::{AgentError, Evidence};

    const UNIT: &str = "disk operations hit";

    impl Effect for DiskRule {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            self.rule.check().map_err(AgentError::new)
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            disk::ask(at.state, &self.dir, &Ask::Add { id: at.id.to_owned(), rule: self.rule.clone() })?;
            self.measure(at)
        }

        fn comes_back_after_reboot(&self) -> bool {
            true
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            Ok(match disk::ask(at.state, &self.dir, &Ask::Count { id: at.id.to_owned() })? {
                Said::Count(Some(hits)) => Evidence::new(true, format!("{hits} {UNIT}"), hits, UNIT),
                _ => Evidence::new(false, "the disk has no such rule", 0, UNIT),
            })
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            if !disk::is_mounted(at.state, &self.dir) {
                return Ok(Evidence::new(true, "the disk is gone", 0, UNIT));
            }
            let hits = match disk::ask(at.state, &self.dir, &Ask::Remove { id: at.id.to_owned() })? {
                Said::Count(hits) => hits.unwrap_or(0),
                _ => 0,
            };
            Ok(Evidence::new(true, format!("{hits} {UNIT}"), hits, UNIT))
        }
    }
}

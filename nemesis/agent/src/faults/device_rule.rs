//! The block device under a target's data is slow, or broken: whatever reads or writes there, the kernel's own file system, too.

use serde::{Deserialize, Serialize};

/// The [`Device`](super::device::Device) of this machine is impaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct DeviceRule {
    /// Who has its data there, by the name it was started under.
    pub process: String,
    /// The directory that was put on the device.
    pub dir: String,
    /// How.
    pub effect: DeviceEffect,
}

/// What a device does.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum DeviceEffect {
    /// Every read, write and flush takes longer (dm-delay).
    Delay {
        /// Milliseconds.
        ms: u64,
    },
    /// Every read, write and flush fails with EIO (dm-error). File systems give up then: when it is over the process that has its
    /// data there is killed, and the file system is checked and mounted anew.
    Error,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::{DeviceEffect, DeviceRule};
    use crate::faults::Fault;
    use crate::linux::device::{self, Table};
    use crate::linux::state::State;
    use crate::linux::{At, Effect, ledger, process};
    use crate::protocol::{AgentError, Evidence};

    const UNIT: &str = "devices impaired";

    /// What all rules in force but the one called `without` make of the device: broken is broken, delays add up.
    fn table(state: &State, without: &str) -> Table {
        let entries = ledger::all(state).into_iter().filter(|entry| entry.id != without);
        let rules = entries.filter_map(|entry| match entry.fault {
            Fault::DeviceRule(rule) => Some(rule.effect),
            _ => None,
        });
        rules.fold(Table::Whole, |table, effect| match (table, effect) {
            (Table::Broken, _) | (_, DeviceEffect::Error) => Table::Broken,
            (Table::Slow { ms: others }, DeviceEffect::Delay { ms }) => Table::Slow { ms: others + ms },
            (Table::Whole, DeviceEffect::Delay { ms }) => Table::Slow { ms },
        })
    }

    impl Effect for DeviceRule {
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
            // With this one, which is in the ledger already.
            device::set(at.state, table(at.state, ""))?;
            self.measure(at)
        }

        /// By a read of the device, past all caches.
        fn measure(&self, _: &At<'_>) -> Result<Evidence, AgentError> {
            let (took, read) = device::read_directly();
            let took_ms = took.as_millis() as u64;
            Ok(match (self.effect, read) {
                (DeviceEffect::Delay { ms }, Ok(())) => {
                    Evidence::new(took_ms >= ms, format!("a read of the device took {took_ms} ms"), 1, UNIT)
                }
                // Another fault has broken it; that is no matter of this one.
                (DeviceEffect::Delay { .. }, Err(error)) => {
                    Evidence::new(true, format!("a read of the device failed: {error}"), 1, UNIT)
                }
                (DeviceEffect::Error, Err(error)) => {
                    Evidence::new(true, format!("a read of the device failed: {error}"), 1, UNIT)
                }
                (DeviceEffect::Error, Ok(())) => Evidence::new(false, "the device can be read", 0, UNIT),
            })
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            if !device::exists() {
                return Ok(Evidence::new(true, "there is no device any more", 0, UNIT));
            }
            let left = table(at.state, at.id);
            device::set(at.state, left)?;
            if self.effect == DeviceEffect::Error && left != Table::Broken {
                process::kill_tree(at.state, &self.process)?;
                device::mount_anew(at.state, &self.dir)?;
            }
            let (took, read) = device::read_directly();
            if let (Err(error), true) = (&read, left != Table::Broken) {
                return Err(AgentError::new(format!("the device still fails: {error}")));
            }
            Ok(Evidence::new(true, format!("a read of the device takes {} ms", took.as_millis()), 0, UNIT))
        }

        /// The machine does not mend its disk by booting.
        fn comes_back_after_reboot(&self) -> bool {
            true
        }
    }
}

//! The block device under a target's data is slow, broken, or forgets: whatever reads or writes there, the kernel's own file
//! system, too.

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
    /// The same by turns with times when nothing is wrong, which come first (dm-flakey).
    Flaky {
        /// Seconds without errors, at least 1.
        up_s: u32,
        /// Seconds of errors, at least 1.
        down_s: u32,
    },
    /// What is written and flushed is done, the device says, and forgotten (dm-flakey). When it is over the process that has its
    /// data there is killed, and finds what was there when it began.
    Forget,
}

impl DeviceEffect {
    /// Whether a file system cannot go on when it is over.
    fn spoils(self) -> bool {
        !matches!(self, Self::Delay { .. })
    }
}

#[cfg(target_os = "linux")]
mod effect {
    use super::{DeviceEffect, DeviceRule};
    use crate::faults::Fault;
    use crate::linux::device::{self, Table};
    use crate::linux::state::State;
    use crate::linux::{At, Effect, ledger, process};
    use crate::protocol::{AgentError, Evidence};
    use std::time::{Duration, Instant};

    const UNIT: &str = "devices impaired";

    /// How often a device that fails by turns is read in each of them.
    const READS_A_TURN: u32 = 10;

    /// What all rules in force but the one called `without` make of the device: the worst of them counts, and delays add up.
    fn table(state: &State, without: &str) -> Table {
        let entries = ledger::all(state).into_iter().filter(|entry| entry.id != without);
        let rules = entries.filter_map(|entry| match entry.fault {
            Fault::DeviceRule(rule) => Some(rule.effect),
            _ => None,
        });
        rules.fold(Table::Whole, |table, effect| match (table, effect) {
            (Table::Broken, _) | (_, DeviceEffect::Error) => Table::Broken,
            (Table::Forgetful, _) | (_, DeviceEffect::Forget) => Table::Forgetful,
            (Table::Flaky { .. }, _) => table,
            (_, DeviceEffect::Flaky { up_s, down_s }) => Table::Flaky { up_s, down_s },
            (Table::Slow { ms: others }, DeviceEffect::Delay { ms }) => Table::Slow { ms: others + ms },
            (Table::Whole, DeviceEffect::Delay { ms }) => Table::Slow { ms },
        })
    }

    /// Reads for as long as two turns of each kind last, or until some reads failed and some did not.
    fn by_turns(up_s: u32, down_s: u32) -> Evidence {
        let (mut done, mut failed) = (0, 0);
        let begun = Instant::now();
        let time_max = Duration::from_secs(2 * u64::from(up_s + down_s));
        while (done == 0 || failed == 0) && begun.elapsed() < time_max {
            match device::read_directly().1 {
                Ok(()) => done += 1,
                Err(_) => failed += 1,
            }
            std::thread::sleep(Duration::from_secs(up_s.min(down_s).into()) / READS_A_TURN);
        }
        Evidence::new(
            done > 0 && failed > 0,
            format!("{failed} of {} reads of the device failed", done + failed),
            1,
            UNIT,
        )
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

        /// By reads of the device, past all caches, or by what is there of a write.
        fn measure(&self, _: &At<'_>) -> Result<Evidence, AgentError> {
            let failed = |error: std::io::Error| format!("a read of the device failed: {error}");
            Ok(match self.effect {
                DeviceEffect::Delay { ms } => match device::read_directly() {
                    (took, Ok(())) => {
                        let took_ms = took.as_millis() as u64;
                        Evidence::new(took_ms >= ms, format!("a read of the device took {took_ms} ms"), 1, UNIT)
                    }
                    // Another fault has broken it; that is no matter of this one.
                    (_, Err(error)) => Evidence::new(true, failed(error), 1, UNIT),
                },
                DeviceEffect::Error => match device::read_directly().1 {
                    Ok(()) => Evidence::new(false, "the device can be read", 0, UNIT),
                    Err(error) => Evidence::new(true, failed(error), 1, UNIT),
                },
                DeviceEffect::Flaky { up_s, down_s } => by_turns(up_s, down_s),
                DeviceEffect::Forget => match device::keeps_writes() {
                    Ok(keeps) => {
                        let seen =
                            if keeps { "a write to the device is there" } else { "a write to the device is gone" };
                        Evidence::new(!keeps, seen, u64::from(!keeps), UNIT)
                    }
                    // Broken by another fault.
                    Err(error) => Evidence::new(true, failed(error), 1, UNIT),
                },
            })
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            if !device::exists() {
                return Ok(Evidence::new(true, "there is no device any more", 0, UNIT));
            }
            let left = table(at.state, at.id);
            let works = matches!(left, Table::Whole | Table::Slow { .. });
            if self.effect.spoils() && works {
                process::kill_tree(at.state, &self.process)?;
                // What the kernel still has to write goes the way of the rest.
                device::unmount(at.state, &self.dir)?;
                device::set(at.state, left)?;
                device::mount_anew(at.state, &self.dir)?;
            } else {
                device::set(at.state, left)?;
            }
            let (took, read) = device::read_directly();
            if let (Err(error), true) = (&read, works) {
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

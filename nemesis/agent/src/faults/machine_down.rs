//! A whole machine goes down and boots again: its power is cut, or it is rebooted in order.
//!
//! Cutting the power is SysRq `b`: the kernel resets the machine at once, without a word to any process or disk, so that
//! only what was synced is left. Unlike what a [`power cut`](super::power_cut) of our own file system does, this is the real
//! page cache of a real kernel.

use serde::{Deserialize, Serialize};

/// This machine goes down, and boots again.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct MachineDown {
    /// Services are stopped and file systems are unmounted before it. Otherwise the power is cut.
    pub orderly: bool,
    /// The boots of the controller and of all other nodes: whoever shares one of them is no machine of its own.
    pub other_boots: Vec<String>,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::MachineDown;
    use crate::linux::own_machine::refuse_others;
    use crate::linux::state::boot_id;
    use crate::linux::{At, Effect, ledger};
    use crate::protocol::{AgentError, Evidence};
    use std::fs::OpenOptions;
    use std::io::Write;
    use std::process::{Command, Stdio};
    use std::time::Duration;

    /// What the kernel does at once when it is told so, as root.
    const TRIGGER: &str = "/proc/sysrq-trigger";

    /// From the answer to the end: long enough for it to reach the controller.
    const LAST_WORDS: Duration = Duration::from_millis(200);

    const UNIT: &str = "boots";

    impl Effect for MachineDown {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            refuse_others(&self.other_boots, "this machine is not taken down")
        }

        fn inject(&self, _: &At<'_>) -> Result<Evidence, AgentError> {
            if self.orderly {
                let mut reboot = Command::new("systemctl");
                reboot.arg("reboot").stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
                let mut child =
                    reboot.spawn().map_err(|e| AgentError::new(format!("cannot use `systemctl reboot`: {e}")))?;
                std::thread::spawn(move || child.wait());
                return Ok(Evidence::new(true, "told to reboot", 0, ""));
            }
            let failed = |e: std::io::Error| AgentError::new(format!("cannot use {TRIGGER}: {e}"));
            let mut trigger = OpenOptions::new().write(true).open(TRIGGER).map_err(failed)?;
            std::thread::spawn(move || {
                std::thread::sleep(LAST_WORDS);
                // Does not return.
                let _ = trigger.write_all(b"b");
            });
            Ok(Evidence::new(true, "told to reset itself", 0, ""))
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let then = ledger::get(at.state, at.id).map(|entry| entry.boot_id);
            Ok(match then {
                Some(then) if then != boot_id() => Evidence::new(true, "booted anew", 1, UNIT),
                _ => Evidence::new(false, "still in the same boot", 0, UNIT),
            })
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            self.measure(at)
        }

        /// Asked again after the boot, because the answer was lost, it must not go down again.
        fn survives_reboot(&self) -> bool {
            true
        }
    }
}

//! A process tree gets only so much CPU time: by a control group's quota, or, where none can be made, by being stopped for
//! most of the time.

use serde::{Deserialize, Serialize};

/// A named process and all its descendants, those of later starts, too, get at most this much CPU time together.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Cpu {
    /// The name it was started under.
    pub process: String,
    /// Of one processor: 0.1 is a tenth of it.
    pub share: f64,
}

/// The least share that the kernel can give: one millisecond in a hundred.
pub const SHARE_MIN: f64 = 0.01;

/// A larger share than this is no squeeze of anything.
pub const SHARE_MAX: f64 = 64.0;

impl Cpu {
    /// Whether it can be carried out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if (SHARE_MIN..=SHARE_MAX).contains(&self.share) {
            return Ok(());
        }
        Err(format!("`share` must be from {SHARE_MIN} to {SHARE_MAX} processors, not {}", self.share))
    }
}

#[cfg(target_os = "linux")]
pub(crate) use effect::{HELPER, keep_stopped};

#[cfg(target_os = "linux")]
mod effect {
    use super::Cpu;
    use crate::faults::Fault;
    use crate::linux::cgroup::{self, CPU_PERIOD_US, Controller};
    use crate::linux::effect::Launch;
    use crate::linux::helper::{self, Here};
    use crate::linux::ledger;
    use crate::linux::state::{State, check_name, read_json, write_json};
    use crate::linux::{At, Effect, process};
    use crate::protocol::{AgentError, Evidence, ProcessState};
    use std::path::PathBuf;
    use std::thread;
    use std::time::Duration;

    /// The helper's name in the list of all.
    pub(crate) const HELPER: &str = "cpu";

    const UNIT: &str = "times out of CPU";

    /// Where the helper notes how often it has stopped the process.
    fn tally(at: &At<'_>) -> PathBuf {
        at.state.path(&format!("cpu.{}.json", at.id))
    }

    /// Whether somebody else wants the process to stand still.
    fn is_paused(state: &State, process: &str) -> bool {
        ledger::all(state).iter().any(|entry| matches!(&entry.fault, Fault::Pause(pause) if pause.process == process))
    }

    impl Cpu {
        fn quota_us(&self) -> u64 {
            (self.share * CPU_PERIOD_US as f64).round() as u64
        }

        /// How often it ran out.
        fn count(&self, at: &At<'_>) -> u64 {
            let files = [("cpu.stat", "nr_throttled")];
            match cgroup::counter(at.state, &self.process, Controller::Cpu, &files) {
                Some(count) => count,
                None => read_json(&tally(at)).unwrap_or(0),
            }
        }
    }

    impl Effect for Cpu {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            check_name(&self.process)?;
            self.check().map_err(AgentError::new)
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let entered = cgroup::enter(at.state, &self.process, at.id, Controller::Cpu, |_| self.quota_us());
            if let Err(why) = entered {
                cgroup::leave(at.state, &self.process, at.id)?;
                if self.share >= 1.0 {
                    let what =
                        format!("stopping it in turns leaves less than one processor, not {}: {why}", self.share);
                    return Err(AgentError::new(what));
                }
                let args = [self.process.clone(), tally(at).display().to_string(), self.quota_us().to_string()];
                helper::start(at.state, HELPER, at.id, &args)?;
            }
            let seen = self.measure(at)?;
            Ok(Evidence { count: 0, ..seen })
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let percent = 100.0 * self.share;
            let seen = match cgroup::holds(at.state, &self.process, at.id, Controller::Cpu) {
                Ok(Some(_)) => format!("{percent:.0}% of a processor, by its control group"),
                Err(why) => return Ok(Evidence::new(false, why.message, 0, UNIT)),
                Ok(None) if helper::status(at.state, HELPER, at.id)?.state == ProcessState::Running => {
                    format!("{percent:.0}% of a processor, stopped for the rest of the time")
                }
                Ok(None) => return Ok(Evidence::new(false, "nobody limits its CPU time", 0, UNIT)),
            };
            Ok(Evidence::new(true, seen, self.count(at), UNIT))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let count = self.count(at);
            cgroup::leave(at.state, &self.process, at.id)?;
            helper::stop(at.state, HELPER, at.id)?;
            if tally(at).exists() {
                // Stopped in the middle of it. Who else wants that stops it again.
                if !is_paused(at.state, &self.process) {
                    process::resume_tree(at.state, &self.process)?;
                }
                let _ = std::fs::remove_file(tally(at));
            }
            Ok(Evidence::new(true, format!("`{}` has all the CPU time again", self.process), count, UNIT))
        }

        fn launch(&self, at: &At<'_>, name: &str, launch: &mut Launch) -> Result<(), AgentError> {
            if name == self.process {
                launch.confined.join.extend(cgroup::procs_files(at.state, name));
            }
            Ok(())
        }
    }

    /// The helper: lets the process run for a part of each period, and stops it for the rest.
    pub(crate) fn keep_stopped(here: &Here<'_>) -> anyhow::Result<()> {
        let [process, tally, quota_us] = here.args else { anyhow::bail!("started by squall itself") };
        let quota_us: u64 = quota_us.parse()?;
        let mut count = 0u64;
        // Before the first stop: whoever undoes it knows by this that there may be something to continue.
        write_json(tally.as_ref(), &count, false)?;
        here.ready()?;
        loop {
            thread::sleep(Duration::from_micros(quota_us));
            {
                // So that nobody who pauses or kills it finds it neither running nor stopped.
                let _lock = here.state.lock()?;
                if !is_paused(here.state, process) && process::pause_tree(here.state, process)? > 0 {
                    count += 1;
                    write_json(tally.as_ref(), &count, false)?;
                }
            }
            thread::sleep(Duration::from_micros(CPU_PERIOD_US.saturating_sub(quota_us)));
            let _lock = here.state.lock()?;
            if !is_paused(here.state, process) {
                process::resume_tree(here.state, process)?;
            }
        }
    }
}

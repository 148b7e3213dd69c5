//! A process tree can start no more processes and threads: EAGAIN, but in the place of those that end.

use serde::{Deserialize, Serialize};

/// A named process and all its descendants may have only so many more processes and threads than now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Processes {
    /// The name it was started under.
    pub process: String,
    /// How many more. Where no control group can be made it must be none.
    pub left: u64,
}

#[cfg(target_os = "linux")]
mod effect {
    use super::Processes;
    use crate::linux::cgroup::{self, Controller};
    use crate::linux::effect::Launch;
    use crate::linux::rlimit::{self, Resource};
    use crate::linux::state::check_name;
    use crate::linux::{At, Effect, procfs};
    use crate::protocol::{AgentError, Evidence};

    const UNIT: &str = "times no process to be had";

    /// How often it is looked how many there are, and how long in between.
    const READINGS: u32 = 30;
    const READINGS_PAUSE: std::time::Duration = std::time::Duration::from_millis(5);

    impl Processes {
        fn count(&self, at: &At<'_>) -> u64 {
            cgroup::counter(at.state, &self.process, Controller::Pids, &[("pids.events", "max")]).unwrap_or(0)
        }
    }

    impl Effect for Processes {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            check_name(&self.process)
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            // Even of a tree that is gone, so that it can start again.
            let limit = |now: u64| now.max(1) + self.left;
            if let Err(why) = cgroup::enter(at.state, &self.process, at.id, Controller::Pids, limit) {
                cgroup::leave(at.state, &self.process, at.id)?;
                if self.left > 0 {
                    let what = "it can be counted how many processes are left only in a control group (as root), so say \
                                `left: 0`";
                    return Err(AgentError::new(format!("{what}: {why}")));
                }
                if nix::unistd::geteuid().is_root() && !procfs::is_mapped_user() {
                    return Err(AgentError::new(format!(
                        "the kernel lets root have as many processes as it likes: {why}"
                    )));
                }
                // Nobody with any thread at all may have another one. How many the user has elsewhere, we cannot see.
                rlimit::impose(at.state, &self.process, at.id, Resource::Processes, Some(0), |_| Some(0))?;
            }
            // Children that only live for a moment are no measure of what it needs.
            let mut least = u64::MAX;
            for _ in 0..READINGS {
                let files = [("pids.current", "")];
                let Some(now) = cgroup::counter(at.state, &self.process, Controller::Pids, &files) else { break };
                if now < least {
                    least = now;
                    cgroup::set(at.state, &self.process, at.id, Controller::Pids, limit(now))?;
                }
                std::thread::sleep(READINGS_PAUSE);
            }
            let seen = self.measure(at)?;
            Ok(Evidence { count: 0, ..seen })
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            Ok(match cgroup::holds(at.state, &self.process, at.id, Controller::Pids) {
                Ok(Some(limit)) => {
                    let seen = format!("at most {limit} processes and threads, by its control group");
                    Evidence::new(true, seen, self.count(at), UNIT)
                }
                Err(why) => Evidence::new(false, why.message, 0, UNIT),
                Ok(None) => match rlimit::held(at.state, at.id) {
                    Some(held) => Evidence::new(true, format!("{held} processes may not start another one"), 0, UNIT),
                    None => Evidence::new(false, "nobody limits its processes", 0, UNIT),
                },
            })
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let count = self.count(at);
            cgroup::leave(at.state, &self.process, at.id)?;
            rlimit::lift(at.state, &self.process, at.id)?;
            Ok(Evidence::new(true, format!("`{}` may start processes again", self.process), count, UNIT))
        }

        fn launch(&self, at: &At<'_>, name: &str, launch: &mut Launch) -> Result<(), AgentError> {
            if name == self.process {
                launch.confined.join.extend(cgroup::procs_files(at.state, name));
                launch.confined.limits.extend(rlimit::at_start(at.state, at.id));
            }
            Ok(())
        }
    }
}

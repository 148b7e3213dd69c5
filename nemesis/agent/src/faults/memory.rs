//! A process tree gets only so much more memory: by a control group, whose kernel kills what does not fit; where none can be
//! made, by a limit of its address space, and then it is allocations that fail.

use serde::{Deserialize, Serialize};

/// A named process and all its descendants may take only so much more memory than they have now.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// The name it was started under.
    pub process: String,
    /// Bytes. The page cache of files that it reads and writes counts, as far as the kernel cannot do without it. A process
    /// that is started meanwhile may have as much as the old one had, and this much more.
    pub more: u64,
}

/// Less than this and the kernel kills whatever runs at once.
pub const MORE_MIN: u64 = 1 << 20;

impl Memory {
    /// Whether it can be carried out.
    ///
    /// # Errors
    /// What is wrong with it.
    pub fn check(&self) -> Result<(), String> {
        if (MORE_MIN..=1 << 50).contains(&self.more) {
            return Ok(());
        }
        Err(format!("a memory limit must leave at least 1 MiB more than there is now, not {} bytes", self.more))
    }
}

#[cfg(target_os = "linux")]
mod effect {
    use super::Memory;
    use crate::linux::cgroup::{self, Controller};
    use crate::linux::effect::Launch;
    use crate::linux::rlimit::{self, Resource};
    use crate::linux::state::check_name;
    use crate::linux::{At, Effect, process, procfs};
    use crate::protocol::{AgentError, Evidence};

    const UNIT: &str = "times out of memory";

    impl Memory {
        /// How much memory of its own the tree has now, in bytes.
        fn taken(&self, at: &At<'_>) -> u64 {
            let tree = process::tree(at.state, &self.process);
            tree.iter().filter_map(|stat| procfs::status_bytes(stat.pid, "RssAnon")).sum()
        }

        /// How often the kernel killed something of it for want of memory.
        fn count(&self, at: &At<'_>) -> u64 {
            let files = [("memory.oom_control", "oom_kill"), ("memory.events", "oom_kill")];
            cgroup::counter(at.state, &self.process, Controller::Memory, &files).unwrap_or(0)
        }
    }

    impl Effect for Memory {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            check_name(&self.process)?;
            self.check().map_err(AgentError::new)
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let taken = self.taken(at);
            let more = |now: u64| now + self.more;
            match cgroup::enter(at.state, &self.process, at.id, Controller::Memory, more) {
                Ok(()) => {
                    cgroup::remember(at.state, &self.process, at.id, taken)?;
                }
                Err(_) => {
                    cgroup::leave(at.state, &self.process, at.id)?;
                    let size = |pid: u32| procfs::status_bytes(pid, "VmSize");
                    let tree = process::tree(at.state, &self.process);
                    let at_start = tree.iter().filter_map(|stat| size(stat.pid)).max().map(more);
                    let resource = Resource::Memory;
                    let limit = |stat: &procfs::Stat| size(stat.pid).map(more);
                    rlimit::impose(at.state, &self.process, at.id, resource, at_start, limit)?;
                }
            }
            let seen = self.measure(at)?;
            Ok(Evidence { count: 0, ..seen })
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let more = self.more >> 20;
            Ok(match cgroup::holds(at.state, &self.process, at.id, Controller::Memory) {
                Ok(Some(_)) => {
                    let seen = format!("at most {more} MiB more, by its control group");
                    Evidence::new(true, seen, self.count(at), UNIT)
                }
                Err(why) => Evidence::new(false, why.message, 0, UNIT),
                Ok(None) => match rlimit::held(at.state, at.id) {
                    Some(held) => {
                        let seen = format!("at most {more} MiB more of address space, each of {held} processes");
                        Evidence::new(true, seen, 0, UNIT)
                    }
                    None => Evidence::new(false, "nobody limits its memory", 0, UNIT),
                },
            })
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let count = self.count(at);
            cgroup::leave(at.state, &self.process, at.id)?;
            rlimit::lift(at.state, &self.process, at.id)?;
            Ok(Evidence::new(true, format!("`{}` has all the memory again", self.process), count, UNIT))
        }

        fn launch(&self, at: &At<'_>, name: &str, launch: &mut Launch) -> Result<(), AgentError> {
            if name == self.process {
                let taken = cgroup::remember(at.state, name, at.id, 0)?;
                cgroup::set(at.state, name, at.id, Controller::Memory, taken + self.more)?;
                launch.confined.join.extend(cgroup::procs_files(at.state, name));
                launch.confined.limits.extend(rlimit::at_start(at.state, at.id));
            }
            Ok(())
        }
    }
}

//! A process tree is killed by the kernel for want of memory. Starting it again is the target's business.
//!
//! It is put into a control group with little memory, together with a helper that takes all of it and asks for more, and
//! marked as the one to be killed. Nobody else on the machine runs short of memory.

use serde::{Deserialize, Serialize};

/// A named process and all its descendants are killed by the kernel's OOM killer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct OomKill {
    /// The name it was started under.
    pub process: String,
}

#[cfg(target_os = "linux")]
pub(crate) use effect::{HELPER, eat};

#[cfg(target_os = "linux")]
mod effect {
    use super::OomKill;
    use crate::linux::cgroup::{self, Controller};
    use crate::linux::effect::Launch;
    use crate::linux::helper::{self, Here};
    use crate::linux::state::{check_name, read_json, write_json};
    use crate::linux::{At, Effect, process};
    use crate::protocol::{AgentError, Evidence, ProcessState};
    use anyhow::Context;
    use nix::sys::memfd::{MFdFlags, memfd_create};
    use std::collections::BTreeMap;
    use std::fs::{self, File};
    use std::io::Write;
    use std::path::PathBuf;
    use std::thread;
    use std::time::{Duration, Instant};

    /// The helper's name in the list of all.
    pub(crate) const HELPER: &str = "oom";

    const UNIT: &str = "processes killed by the kernel for want of memory";

    /// What the group may have (bytes). A mark of 1000 adds all of it to what a process seems to have, so that half of it is
    /// more than the helper has itself, beside what it eats.
    const ROOM: u64 = 128 << 20;

    /// The mark of the first process of the tree, which is to go first, and of all others.
    const MARKS: (&str, &str) = ("1000", "500");

    /// How long the kernel may take.
    const KILL_TIME_MAX: Duration = Duration::from_secs(15);

    /// Pause between two looks.
    const LOOK_AGAIN: Duration = Duration::from_millis(5);

    /// What the marks were before, by pid.
    fn marks(at: &At<'_>) -> PathBuf {
        at.state.path(&format!("oom.{}.json", at.id))
    }

    fn mark_file(pid: u32) -> String {
        format!("/proc/{pid}/oom_score_adj")
    }

    impl OomKill {
        fn kills(&self, at: &At<'_>) -> u64 {
            let files = [("memory.oom_control", "oom_kill"), ("memory.events", "oom_kill")];
            cgroup::counter(at.state, &self.process, Controller::Memory, &files).unwrap_or(0)
        }

        /// Marks whoever of the tree is not marked yet.
        fn mark(&self, at: &At<'_>) -> Result<(), AgentError> {
            let mut known: BTreeMap<u32, String> = read_json(&marks(at)).unwrap_or_default();
            let first = process::status(at.state, &self.process)?.pid;
            let mut fresh = Vec::new();
            for stat in process::tree(at.state, &self.process).iter().filter(|stat| !known.contains_key(&stat.pid)) {
                let Ok(now) = fs::read_to_string(mark_file(stat.pid)) else { continue };
                fresh.push((stat.pid, now.trim().to_owned()));
            }
            if fresh.is_empty() {
                return Ok(());
            }
            let pids: Vec<u32> = fresh.iter().map(|(pid, _)| *pid).collect();
            known.extend(fresh);
            write_json(&marks(at), &known, false)?;
            for pid in pids {
                let mark = if Some(pid) == first { MARKS.0 } else { MARKS.1 };
                match fs::write(mark_file(pid), mark) {
                    Err(e) if !matches!(e.raw_os_error(), Some(nix::libc::ESRCH | nix::libc::ENOENT)) => {
                        return Err(AgentError::new(format!("cannot mark process {pid} for the OOM killer: {e}")));
                    }
                    _ => {}
                }
            }
            Ok(())
        }

        /// Takes away all but the deed.
        fn clean_up(&self, at: &At<'_>) -> Result<(), AgentError> {
            helper::stop(at.state, HELPER, at.id)?;
            let known: BTreeMap<u32, String> = read_json(&marks(at)).unwrap_or_default();
            let tree = process::tree(at.state, &self.process);
            for (pid, before) in known.iter().filter(|(pid, _)| tree.iter().any(|stat| stat.pid == **pid)) {
                // What ends in this moment needs none.
                let _ = fs::write(mark_file(*pid), before);
            }
            let _ = fs::remove_file(marks(at));
            cgroup::leave(at.state, &self.process, at.id)
        }
    }

    impl Effect for OomKill {
        fn refuse(&self, _: &At<'_>) -> Result<(), AgentError> {
            check_name(&self.process)
        }

        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let alive = process::tree(at.state, &self.process).len();
            if alive == 0 {
                return Ok(Evidence::new(false, format!("`{}` was gone already", self.process), 0, UNIT));
            }
            cgroup::enter(at.state, &self.process, at.id, Controller::Memory, |now| now + ROOM).map_err(|why| {
                AgentError::new(format!("an OOM kill needs a control group with `memory`, and as root: {why}"))
            })?;
            let before = self.kills(at);
            self.mark(at)?;
            helper::start(at.state, HELPER, at.id, std::slice::from_ref(&self.process))?;
            let begun = Instant::now();
            while !process::tree(at.state, &self.process).is_empty() && begun.elapsed() < KILL_TIME_MAX {
                thread::sleep(LOOK_AGAIN);
                self.mark(at)?;
                if helper::status(at.state, HELPER, at.id)?.state == ProcessState::Gone {
                    // It was the one that had the most, all the same.
                    helper::start(at.state, HELPER, at.id, std::slice::from_ref(&self.process))?;
                }
            }
            let (kills, left) = (self.kills(at) - before, process::tree(at.state, &self.process).len());
            self.clean_up(at)?;
            if left > 0 {
                return Err(AgentError::new(format!("{left} of {alive} processes live in spite of {kills} OOM kills")));
            }
            Ok(Evidence::new(kills > 0, format!("{kills} {UNIT}"), kills, UNIT))
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            process::in_state(at.state, &self.process, ProcessState::Gone, UNIT)
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            self.clean_up(at)?;
            Ok(Evidence::new(true, format!("`{}` may start again", self.process), 0, UNIT))
        }

        fn launch(&self, at: &At<'_>, name: &str, launch: &mut Launch) -> Result<(), AgentError> {
            if name == helper::process_name(HELPER, at.id) {
                launch.confined.join.extend(cgroup::procs_files(at.state, &self.process));
            }
            Ok(())
        }
    }

    /// The helper: takes memory until nothing of the process is left.
    pub(crate) fn eat(here: &Here<'_>) -> anyhow::Result<()> {
        let [process] = here.args else { anyhow::bail!("started by squall itself") };
        // Where it may, it saves itself for good; elsewhere the others' marks do.
        let _ = fs::write("/proc/self/oom_score_adj", "-1000");
        // Pages of such a file cannot be dropped as those of others can, and are in nobody's own memory: who holds them does
        // not look large to the kernel.
        let fd = memfd_create(c"squall", MFdFlags::empty()).context("cannot make a file in memory")?;
        let mut file = File::from(fd);
        here.ready()?;
        let chunk = vec![1u8; 1 << 20];
        while !process::tree(here.state, process).is_empty() {
            // That it fails is what is wanted.
            if file.write_all(&chunk).is_err() {
                thread::sleep(LOOK_AGAIN);
            }
        }
        Ok(())
    }
}

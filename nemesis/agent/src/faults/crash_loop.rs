//! A process tree dies, and again whenever it was started and has lived for a moment.
//!
//! A helper on the node watches for every new life of the process, so that even a few milliseconds after its start are hit.
//! Starting it again is the target's business.

use serde::{Deserialize, Serialize};

/// kill -9 of a named process and all its descendants, at once and after every start.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct CrashLoop {
    /// The name it was started under.
    pub process: String,
    /// How long each life lasts: at random between these (milliseconds).
    pub lives_ms: (u64, u64),
    /// It is left alone after so many deaths beside the first; 0 is for ever.
    pub again: u64,
    /// Of the random lengths.
    pub seed: u64,
}

#[cfg(target_os = "linux")]
pub(crate) use effect::watch;

#[cfg(target_os = "linux")]
mod effect {
    use super::CrashLoop;
    use crate::linux::helper::{self, Here};
    use crate::linux::state::{read_json, write_json};
    use crate::linux::{At, Effect, process};
    use crate::protocol::{AgentError, Evidence, ProcessState};
    use anyhow::Context;
    use std::path::PathBuf;
    use std::thread;
    use std::time::Duration;

    /// The helper's name in the list of all.
    const HELPER: &str = "crash-loop";

    const UNIT: &str = "crashes";

    /// How often a new life is looked for: a process is this much older at most when its time begins to count.
    const LOOK_AGAIN: Duration = Duration::from_millis(1);

    /// Where the helper notes how often it has killed.
    fn tally(at: &At<'_>) -> PathBuf {
        at.state.path(&format!("crash-loop.{}.json", at.id))
    }

    impl CrashLoop {
        fn evidence(&self, at: &At<'_>, verified: bool) -> Evidence {
            let again = read_json::<u64>(&tally(at)).unwrap_or(0);
            Evidence::new(verified, format!("{} {UNIT} so far", 1 + again), 1 + again, UNIT)
        }
    }

    impl Effect for CrashLoop {
        fn inject(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            if self.lives_ms.0 > self.lives_ms.1 {
                return Err(AgentError::new("the shortest life is longer than the longest"));
            }
            let killed = process::kill_tree(at.state, &self.process)?;
            let (min, max) = self.lives_ms;
            let mut args: Vec<String> = vec![self.process.clone(), tally(at).display().to_string()];
            args.extend([min, max, self.again, self.seed].map(|number| number.to_string()));
            helper::start(at.state, HELPER, at.id, &args)?;
            Ok(Evidence::new(killed > 0, "killed, and again after every start", 0, UNIT))
        }

        fn measure(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            let runs = helper::status(at.state, HELPER, at.id)?.state == ProcessState::Running;
            Ok(self.evidence(at, runs))
        }

        fn undo(&self, at: &At<'_>) -> Result<Evidence, AgentError> {
            helper::stop(at.state, HELPER, at.id)?;
            let evidence = self.evidence(at, true);
            let _ = std::fs::remove_file(tally(at));
            Ok(evidence)
        }
    }

    /// The helper: kills every new life of a process when its time has come.
    pub(crate) fn watch(here: &Here<'_>) -> anyhow::Result<()> {
        let [process, tally, numbers @ ..] = here.args else { anyhow::bail!("started by squall itself") };
        let numbers: Vec<u64> = numbers.iter().map(|text| text.parse()).collect::<Result<_, _>>()?;
        let [min, max, again, mut seed] = numbers[..] else { anyhow::bail!("started by squall itself") };
        let (mut last, mut killed) = (process::status(here.state, process)?.start_ticks, 0u64);
        here.ready()?;
        loop {
            thread::sleep(LOOK_AGAIN);
            let now = process::status(here.state, process)?;
            let is_new = now.state != ProcessState::Gone && now.start_ticks != last;
            if !is_new || (again > 0 && killed >= again) {
                continue;
            }
            last = now.start_ticks;
            thread::sleep(Duration::from_millis(min + random(&mut seed) % (max - min + 1)));
            let _lock = here.state.lock()?;
            // Unless it has ended by itself and another life began.
            if process::status(here.state, process)?.start_ticks == last {
                killed += u64::from(process::kill_tree(here.state, process)? > 0);
                write_json(tally.as_ref(), &killed, false).context("cannot note a crash")?;
            }
        }
    }

    /// SplitMix64 (G. Steele and others, "Fast Splittable Pseudorandom Number Generators", 2014): the agent needs no more.
    fn random(seed: &mut u64) -> u64 {
        *seed = seed.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = *seed;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        z ^ (z >> 31)
    }
}

//! What the faults have in common that kill a process again and again.

use crate::faults::Hit;
use crate::hands::{Ask, At};
use crate::select::{Selector, Who};
use crate::trial::{BEATS, Lab, Reading, Readings};
use rand::Rng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use squall_agent::faults::{self, Fault};
use squall_agent::protocol::ProcessState;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::PlanContext;
use std::time::{Duration, Instant};

/// How often a dead process is looked for, to be started.
const LOOK_AGAIN: Duration = Duration::from_millis(10);

/// How long a trial waits for starts: on a busy machine they take their time.
const STARTS_TIME_MAX: Duration = Duration::from_secs(20);

/// How long a process is watched that should not be started.
const CALM: Duration = Duration::from_secs(1);

/// Processes that die again and again, and are started every time.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Crashes {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// How long each life lasts: at random between these (milliseconds).
    pub lives_ms: (u64, u64),
    /// So many deaths after the first; 0 is for as long as it lasts.
    pub again: u64,
    /// Of the random lengths.
    pub seed: u64,
}

/// What a fault of this family is when its test file does not say.
pub(crate) struct Defaults {
    /// `one`.
    pub(crate) nodes: &'static str,
    /// Shortest and longest life (milliseconds).
    pub(crate) lives_ms: (u64, u64),
    /// Deaths after the first; 0 is for as long as it lasts.
    pub(crate) again: u64,
}

impl Crashes {
    /// Reads the keys of the family.
    pub(crate) fn read(
        section: &mut Section,
        context: &PlanContext<'_>,
        defaults: &Defaults,
    ) -> Result<impl FnMut(&mut ChaCha8Rng) -> Self + use<>, ConfigError> {
        let nodes = Selector::read(section, context, defaults.nodes)?;
        let (min, max) = defaults.lives_ms;
        let lives = [min, max].map(Duration::from_millis).to_vec();
        let lives = section.get("lives", lives, "[shortest, longest]: it is killed when it was up for so long")?;
        let doc = "how often it dies after the first time; 0 is for as long as the step lasts";
        let again = section.get("again", defaults.again, doc)?;
        let lives_ms = match lives[..] {
            [life] => (life.as_millis() as u64, life.as_millis() as u64),
            [min, max] if min <= max => (min.as_millis() as u64, max.as_millis() as u64),
            _ => return Err(section.error("`lives` must be a duration, or two: [shortest, longest]")),
        };
        Ok(move |rng: &mut ChaCha8Rng| Self {
            select: nodes.name().to_owned(),
            who: nodes.pick(rng),
            lives_ms,
            again,
            // Below 2^53, so that every reader of JSON keeps it.
            seed: rng.next_u64() >> 11,
        })
    }

    pub(crate) fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        let faults = |node: &squall_harness::Node| {
            let process = at.process();
            // Nodes that die together should not live equally long.
            let seed = self.seed.wrapping_add(node.index as u64);
            let Self { lives_ms, again, .. } = *self;
            vec![Fault::CrashLoop(faults::crash_loop::CrashLoop { process, lives_ms, again, seed })]
        };
        at.per_node(hit.nodes(), faults)
    }

    /// Starts whatever is dead.
    pub(crate) async fn start_again_and_again(&self, at: &At<'_>, hit: &Hit) {
        loop {
            for &node in hit.nodes() {
                let gone = crate::hands::state(at.target, at.node(node)).await;
                if matches!(gone, Ok(Some(ProcessState::Gone))) {
                    // It may well die while it is being started.
                    let _ = at.target.start(at.cluster, at.node(node)).await;
                }
            }
            tokio::time::sleep(LOOK_AGAIN).await;
        }
    }

    /// How often each process must be started during a trial.
    fn starts_wanted(&self) -> f64 {
        if self.again == 0 { 2.0 } else { self.again as f64 + 1.0 }
    }

    /// How often the processes were started, and whether they tick. The numbers: the fewest starts of one beside the first,
    /// the most, how many there were in the last second, the slowest pulse.
    pub(crate) async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let fewest = |starts: &[f64]| starts.iter().copied().fold(f64::INFINITY, f64::min) - 1.0;
        let most = |starts: &[f64]| starts.iter().copied().fold(0.0, f64::max) - 1.0;
        let mut pulse = None;
        if lab.in_force {
            let begun = Instant::now();
            while fewest(&lab.starts(hit.nodes()).await?) < self.starts_wanted() && begun.elapsed() < STARTS_TIME_MAX {
                tokio::time::sleep(LOOK_AGAIN).await;
            }
        } else {
            // First, so that a start that is still under way is none of the following second.
            pulse = Some(lab.pulse(hit.nodes()).await?);
        }
        let before: f64 = lab.starts(hit.nodes()).await?.iter().sum();
        tokio::time::sleep(CALM).await;
        let starts = lab.starts(hit.nodes()).await?;
        let pulse = match pulse {
            Some(pulse) => pulse,
            None => lab.pulse(hit.nodes()).await?,
        };
        let beats = pulse.numbers.iter().copied().fold(f64::INFINITY, f64::min);
        let (fewest, most, last) = (fewest(&starts), most(&starts), starts.iter().sum::<f64>() - before);
        let times = if fewest == most { most.to_string() } else { format!("{fewest} to {most}") };
        let words = format!("started {times} times more, {last} of it in the last {CALM:?}; {}", pulse.words);
        Ok(Reading { words, numbers: vec![fewest, most, last, beats] })
    }

    pub(crate) fn expected(&self, nodes: &str) -> String {
        let least = if self.again == 0 { "at least " } else { "" };
        let starts = self.starts_wanted();
        format!("{least}{starts} starts of {nodes}, none before and after, when it ticks")
    }

    pub(crate) fn judge(&self, readings: &Readings) -> Result<(), String> {
        let [before, during, after] = [&readings.before, &readings.during, &readings.after].map(|r| &r.numbers);
        if before[1] != 0.0 || before[3] < BEATS {
            return Err("the process was not calm before".to_owned());
        }
        let (fewest, most, wanted) = (during[0], during[1], self.starts_wanted());
        if fewest < wanted || (self.again > 0 && most > wanted) {
            return Err(format!("it was started {fewest} times during the fault"));
        }
        if after[2] != 0.0 || after[3] < BEATS {
            return Err("the process is not calm after healing".to_owned());
        }
        Ok(())
    }
}

/// Makes a fault of this family: its plan data is [`Crashes`], its kind `KIND`.
macro_rules! crashes {
    ($name:ident) => {
        /// Processes that die again and again.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $crate::crashes::Crashes);

        #[async_trait::async_trait]
        impl $crate::faults::PlannedFault for $name {
            fn kind(&self) -> &'static $crate::faults::FaultKind {
                &KIND
            }

            fn detail(&self) -> &str {
                &self.0.select
            }

            fn scope(&self) -> $crate::faults::Scope<'_> {
                $crate::faults::Scope::Processes(&self.0.who)
            }

            fn harm(&self) -> $crate::claims::Harm {
                $crate::claims::Harm::Crash
            }

            fn asks(&self, at: &$crate::hands::At<'_>, hit: &$crate::faults::Hit) -> Vec<$crate::hands::Ask> {
                self.0.asks(at, hit)
            }

            async fn meanwhile(&self, at: &$crate::hands::At<'_>, hit: &$crate::faults::Hit) {
                self.0.start_again_and_again(at, hit).await
            }

            async fn recover(
                &self,
                at: &$crate::hands::At<'_>,
                hit: &$crate::faults::Hit,
            ) -> anyhow::Result<Option<&'static str>> {
                at.start(hit.nodes()).await?;
                Ok(None)
            }

            async fn gauge(
                &self,
                lab: &$crate::trial::Lab<'_>,
                hit: &$crate::faults::Hit,
            ) -> anyhow::Result<$crate::trial::Reading> {
                self.0.gauge(lab, hit).await
            }

            fn expected(&self) -> String {
                self.0.expected(&self.0.select)
            }

            fn judge(&self, readings: &$crate::trial::Readings) -> Result<(), String> {
                self.0.judge(readings)
            }
        }

        fn read(
            section: &mut squall_harness::config::Section,
            context: &squall_harness::nemesis::PlanContext<'_>,
        ) -> Result<$crate::faults::Make, squall_harness::config::ConfigError> {
            let mut next = $crate::crashes::Crashes::read(section, context, &DEFAULTS)?;
            Ok(Box::new(move |_, rng| $crate::faults::Planned::$name($name(next(rng)))))
        }
    };
}
pub(crate) use crashes;

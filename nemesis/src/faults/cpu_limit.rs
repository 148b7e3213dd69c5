//! The target gets only a part of a processor.

use super::{FaultKind, Hit, Lasts, Make, Planned, PlannedFault, Scope};
use crate::hands::{Ask, At};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings, TrialSetup};
use anyhow::Context;
use async_trait::async_trait;
use serde::{Deserialize, Serialize};
use squall_agent::faults::{self, Fault};
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};

pub(crate) const KIND: FaultKind = FaultKind {
    doc: FaultDoc {
        name: "cpu-limit",
        what: "the whole process tree gets only a part of a processor",
        mechanism: "a control group's quota (v1 or v2); where none can be made, SIGSTOP and SIGCONT in turns",
        needs: "root for a control group; otherwise a share below 1",
        verified: "every process is in the group (or the helper that stops them runs), at the beginning and at the end; how often it ran out is counted",
        colour: "#8ca252",
    },
    lasts: Lasts { key: "for", default_ms: 5000, doc: "how long it gets so little" },
    read,
    trial: TrialSetup {
        nodes: 1,
        keys: "{ nodes: one, share: 0.05 }",
        target: None,
        program: "echo started; while :; do :; done",
        machines: false,
    },
};

/// How often it is looked whether it gets much more than that, while it is not limited.
const LOOKS_MAX: u32 = 10;

/// Processes with little CPU time.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CpuLimit {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// Of one processor, for all processes of the target on a node together.
    pub share: f64,
}

fn read(section: &mut Section, context: &PlanContext<'_>) -> Result<Make, ConfigError> {
    let nodes = Selector::read(section, context, "one")?;
    let share = section.get("share", 0.1, "how much CPU time is left: 0.1 is a tenth of one processor")?;
    let planned = CpuLimit { select: nodes.name().to_owned(), who: Who::Nodes(Vec::new()), share };
    planned.validate().map_err(|why| section.error(why))?;
    Ok(Box::new(move |_, rng| Planned::CpuLimit(CpuLimit { who: nodes.pick(rng), ..planned.clone() })))
}

impl CpuLimit {
    fn on(&self, process: String) -> faults::cpu::Cpu {
        faults::cpu::Cpu { process, share: self.share }
    }
}

#[async_trait]
impl PlannedFault for CpuLimit {
    fn kind(&self) -> &'static FaultKind {
        &KIND
    }

    fn detail(&self) -> &str {
        &self.select
    }

    fn scope(&self) -> Scope<'_> {
        Scope::Nodes(&self.who)
    }

    fn needs_process(&self) -> bool {
        true
    }

    fn validate(&self) -> Result<(), String> {
        self.on(String::new()).check()
    }

    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask> {
        at.per_node(hit.nodes(), |_| vec![Fault::Cpu(self.on(at.process()))])
    }

    fn holds_to_the_end(&self) -> bool {
        true
    }

    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        at.start_ended(hit.nodes()).await?;
        Ok(None)
    }

    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading> {
        let node = *hit.nodes().first().context("nobody is hit")?;
        let pid = lab.pid(node).await?;
        // Time by the kernel's account of the process (proc(5): fields 14 and 15 of stat), over time by the clock.
        let script = format!(
            "now() {{ set -- $(cat /proc/{pid}/stat); echo $((${{14}} + ${{15}})) $(date +%s%N); }}; \
             sleep 0.2; set -- $(now); sleep 2; echo $* $(now) $(getconf CLK_TCK)"
        );
        let mut share = 0.0;
        for _ in 0..if lab.in_force { 1 } else { LOOKS_MAX } {
            let printed = lab.shell(node, &script).await?;
            let numbers: Vec<f64> = printed.stdout.split_ascii_whitespace().filter_map(|n| n.parse().ok()).collect();
            let [used, begun, used_then, ended, ticks] = numbers[..] else {
                anyhow::bail!("/proc does not say what it has used: {} {}", printed.stdout, printed.stderr)
            };
            share = (used_then - used) / ticks / ((ended - begun) / 1e9);
            // Others may need the machine, too.
            if share >= 3.0 * self.share {
                break;
            }
        }
        Ok(Reading { words: format!("a busy loop used {:.1}% of a processor", 100.0 * share), numbers: vec![share] })
    }

    fn expected(&self) -> String {
        format!(
            "at most {:.0}% of a processor (+2 points) while it lasts, and at least twice as much before and after",
            100.0 * self.share
        )
    }

    fn judge(&self, readings: &Readings) -> Result<(), String> {
        let share = |reading: &Reading| reading.numbers.first().copied().unwrap_or(f64::NAN);
        let [before, during, after] = [&readings.before, &readings.during, &readings.after].map(share);
        if !(during > 0.0 && during <= self.share + 0.02) {
            return Err(format!("it used {:.1}% of a processor while it was limited", 100.0 * during));
        }
        if before < 2.0 * during || after < 2.0 * during {
            return Err("it did not use twice as much before and after".to_owned());
        }
        Ok(())
    }
}

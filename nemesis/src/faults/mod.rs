//! Every fault that a test file can name, one file each.
//!
//! A new fault is a file here that holds its `FaultKind` (what people read about it, and the reader of its keys), its plan
//! data (pure, serializable) and `PlannedFault` for that data, then its `pub mod` line and its line in the list below.
//! What it asks of the agents is a fault of `squall_agent::faults`.

pub mod bit_rot;
pub mod clock_bump;
pub mod clock_drift;
pub mod clock_freeze;
pub mod clock_strobe;
pub mod clog;
pub mod corrupt;
pub mod cpu_limit;
pub mod crash_loop;
pub mod damage;
pub mod delay;
pub mod device_delay;
pub mod device_error;
pub mod device_flaky;
pub mod device_forget;
pub mod device_power_cut;
pub mod disk_error;
pub mod disk_full;
pub mod disk_hang;
pub mod disk_rate;
pub mod disk_slow;
pub mod duplicate;
pub mod fd_limit;
pub mod fsync_error;
pub mod impaired;
mod impaired_trial;
pub mod kill;
pub mod kill_in_recovery;
pub mod kill_in_startup;
pub mod loss;
pub mod machine_clock_bump;
pub mod machine_clock_drift;
pub mod machine_rollback;
pub mod memory_limit;
pub mod misdirect;
pub mod oom_kill;
pub mod partition;
pub mod pause;
pub mod pid_limit;
pub mod power_cut;
pub mod power_off;
pub mod rate;
pub mod reboot;
pub mod remove_member;
pub mod reorder;
pub mod reset;
pub mod restart_storm;
pub mod rollback;
pub mod rolling_restart;
pub mod swap_disks;
pub mod term;
pub mod transfer_leader;

use crate::claims::Harm;
use crate::control_path;
use crate::grudge;
use crate::hands::{Ask, At, Seen};
use crate::links::Links;
use crate::select::Who;
use crate::trial::{Lab, Reading, Readings, TrialSetup};
use async_trait::async_trait;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use squall_agent::faults::Fault;
use squall_agent::protocol::Evidence;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::{FaultDoc, PlanContext};
use squall_harness::target::Change;
use squall_harness::{Cluster, Node, Target};

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident($module:ident),)*) => {
        /// What happens in a step.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Planned {
            $($(#[$doc])* $variant($module::$variant),)*
        }

        impl Planned {
            /// What it does: the only place that tells faults apart.
            pub(crate) fn fault(&self) -> &dyn PlannedFault {
                match self {
                    $(Self::$variant(data) => data,)*
                }
            }
        }

        /// All of them.
        pub(crate) const KINDS: &[&FaultKind] = &[$(&$module::KIND,)*];
    };
}

faults! {
    /// Links are cut.
    Partition(partition),
    /// Packets come late.
    Delay(delay),
    /// Packets are lost.
    Loss(loss),
    /// Packets arrive twice.
    Duplicate(duplicate),
    /// Packets overtake one another.
    Reorder(reorder),
    /// Bits of packets flip.
    Corrupt(corrupt),
    /// Links are narrow.
    Rate(rate),
    /// Packets are held until the end.
    Clog(clog),
    /// TCP connections are reset.
    Reset(reset),
    /// kill -9, and a start when the step ends.
    Kill(kill),
    /// SIGSTOP, and SIGCONT when the step ends.
    Pause(pause),
    /// Clocks are off.
    ClockBump(clock_bump),
    /// Clocks jump to and fro.
    ClockStrobe(clock_strobe),
    /// Clocks go too fast or too slow.
    ClockDrift(clock_drift),
    /// Clocks stand still.
    ClockFreeze(clock_freeze),
    /// Machines' clocks are off.
    MachineClockBump(machine_clock_bump),
    /// Machines' clocks go too fast or too slow.
    MachineClockDrift(machine_clock_drift),
    /// kill -9, and what was not synced is gone.
    PowerCut(power_cut),
    /// The device under the data is slow.
    DeviceDelay(device_delay),
    /// The device under the data fails.
    DeviceError(device_error),
    /// The device under the data fails by turns.
    DeviceFlaky(device_flaky),
    /// The device under the data forgets what is written.
    DeviceForget(device_forget),
    /// The device under the data loses its power.
    DevicePowerCut(device_power_cut),
    /// Operations on files fail.
    DiskError(disk_error),
    /// Operations on files take longer.
    DiskSlow(disk_slow),
    /// Operations on files hang.
    DiskHang(disk_hang),
    /// An fsync fails once, and its pages are clean.
    FsyncError(fsync_error),
    /// Writes land elsewhere.
    Misdirect(misdirect),
    /// Bits are wrong that are read.
    BitRot(bit_rot),
    /// A file at rest is damaged.
    Damage(damage),
    /// Data are what they were a while ago.
    Rollback(rollback),
    /// Two nodes have each other's data.
    SwapDisks(swap_disks),
    /// SIGTERM, and a start when the step ends.
    Term(term),
    /// kill -9 soon after every start.
    CrashLoop(crash_loop),
    /// kill -9 and start of many nodes at random moments.
    RestartStorm(restart_storm),
    /// SIGTERM and start, node after node.
    RollingRestart(rolling_restart),
    /// kill -9, and again while it starts.
    KillInStartup(kill_in_startup),
    /// kill -9, and again while it recovers.
    KillInRecovery(kill_in_recovery),
    /// Machines lose power, and boot.
    PowerOff(power_off),
    /// Machines are rebooted.
    Reboot(reboot),
    /// Machines' disks are what they were a while ago.
    MachineRollback(machine_rollback),
    /// Leadership is handed over.
    TransferLeader(transfer_leader),
    /// A member leaves, and joins again when the step ends.
    RemoveMember(remove_member),
    /// Little CPU time.
    CpuLimit(cpu_limit),
    /// Little memory.
    MemoryLimit(memory_limit),
    /// The kernel kills for want of memory, and a start when the step ends.
    OomKill(oom_kill),
    /// No more file descriptors.
    FdLimit(fd_limit),
    /// No more processes.
    PidLimit(pid_limit),
    /// Bytes pass the disk at a rate.
    DiskRate(disk_rate),
    /// No more room on the disk.
    DiskFull(disk_full),
}

/// Whether the target of the test can do what a fault asks of it.
fn check_change(section: &Section, context: &PlanContext<'_>, change: Change) -> Result<(), ConfigError> {
    match context.target {
        Some(target) if !target.can_change(change) => {
            let what = match change {
                Change::Leader => "hand leadership over",
                Change::Members => "change its members",
            };
            Err(section.error(format!("target `{}` cannot {what}", target.name())))
        }
        _ => Ok(()),
    }
}

/// What people read about a fault, and how its keys are read.
pub(crate) struct FaultKind {
    /// What people read about it; its name is the word in test files and histories.
    pub(crate) doc: FaultDoc,
    /// The key that says how long it lasts.
    pub(crate) lasts: Lasts,
    /// Reads the keys of its own (those of schedules are read for all faults alike).
    pub(crate) read: fn(&mut Section, &PlanContext<'_>) -> Result<Make, ConfigError>,
    /// How `squall nemesis try` tries it.
    pub(crate) trial: TrialSetup,
}

/// The key that says how long a fault lasts.
pub(crate) struct Lasts {
    /// `for`, `restart_after`.
    pub(crate) key: &'static str,
    /// When it is not given (milliseconds).
    pub(crate) default_ms: u64,
    /// What it says.
    pub(crate) doc: &'static str,
}

/// Makes the fault of the nth step of an entry from its own stream of random numbers, and nothing else.
pub(crate) type Make = Box<dyn FnMut(usize, &mut ChaCha8Rng) -> Planned>;

/// Whom a fault hits, as planned.
pub enum Scope<'a> {
    /// Ordered pairs of nodes. Many faults may be on one link.
    Links(&'a Links),
    /// These nodes, whatever the target's process does there. Many faults may be on one node.
    Nodes(&'a Who),
    /// The target's process on these nodes, which is killed or stands still: one fault at a time has it.
    Processes(&'a Who),
}

impl Scope<'_> {
    /// Whether it depends on who leads.
    pub(crate) fn needs_primary(&self) -> bool {
        match self {
            Self::Links(links) => matches!(links, Links::Primary { .. }),
            Self::Nodes(who) | Self::Processes(who) => who.needs_primary(),
        }
    }

    /// Whom exactly, once it is known who leads and who is down already.
    pub(crate) fn resolve(&self, primaries: &[usize], down: &[usize], count: usize) -> Hit {
        match self {
            Self::Links(links) => Hit::Links(links.resolve(primaries, count).into_iter().collect()),
            Self::Nodes(who) | Self::Processes(who) => Hit::Nodes(who.resolve(primaries, down)),
        }
    }

    /// Every node that the plan names.
    pub(crate) fn nodes(&self) -> Vec<usize> {
        match self {
            Self::Links(links) => links.nodes(),
            Self::Nodes(who) | Self::Processes(who) => who.nodes(),
        }
    }
}

/// Whom a fault hits, resolved when its step begins.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Hit {
    /// These ordered pairs.
    Links(Vec<(usize, usize)>),
    /// These nodes.
    Nodes(Vec<usize>),
}

impl Hit {
    /// The pairs; none for a fault of nodes.
    pub(crate) fn links(&self) -> &[(usize, usize)] {
        match self {
            Self::Links(pairs) => pairs,
            Self::Nodes(_) => &[],
        }
    }

    /// In words: `{n1 | n2 n3}`, `n1 n2`.
    pub(crate) fn words(&self, names: &[String]) -> String {
        match self {
            Self::Links(pairs) => grudge::describe(&pairs.iter().copied().collect(), names),
            Self::Nodes(nodes) => nodes.iter().map(|&node| names[node].as_str()).collect::<Vec<_>>().join(" "),
        }
    }

    /// The nodes; none for a fault of links.
    pub(crate) fn nodes(&self) -> &[usize] {
        match self {
            Self::Links(_) => &[],
            Self::Nodes(nodes) => nodes,
        }
    }
}

/// One fault of a plan.
///
/// A step goes so: [`inject`](PlannedFault::inject), which has the agents do what it [`asks`](PlannedFault::asks) and then looks
/// from outside ([`verify`](PlannedFault::verify)); [`meanwhile`](PlannedFault::meanwhile) until its time is over;
/// [`heal`](PlannedFault::heal), which measures again where it must [hold to the end](PlannedFault::holds_to_the_end), has
/// the agents undo it, and [`recover`](PlannedFault::recover)s what was lost.
#[async_trait]
pub(crate) trait PlannedFault: Send + Sync {
    /// Its kind.
    fn kind(&self) -> &'static FaultKind;

    /// Which of its kind: `majorities-ring`, `minority`. For people; the summary has a row for each.
    fn detail(&self) -> &str;

    /// Whom it hits.
    fn scope(&self) -> Scope<'_>;

    /// Whether it takes a process of the target's that runs: nodes without are left out then.
    fn needs_process(&self) -> bool {
        false
    }

    /// Whether nothing on the nodes that it hits can be reached meanwhile.
    fn takes_machines_down(&self) -> bool {
        false
    }

    /// Whether it unmounts the file system of a target's data, over which nothing may be mounted then.
    fn unmounts(&self) -> bool {
        false
    }

    /// Checks what no type can say, of a plan that came from a file.
    ///
    /// # Errors
    /// What does not fit.
    fn validate(&self) -> Result<(), String> {
        Ok(())
    }

    /// What it does to the nodes that it hits, against which targets make claims.
    fn harm(&self) -> Harm {
        Harm::None
    }

    /// Whether the provider of the cluster can do what it takes.
    ///
    /// # Errors
    /// What it cannot do, and who can.
    fn check_cluster(&self, cluster: &Cluster) -> anyhow::Result<()> {
        let _ = cluster;
        Ok(())
    }

    /// What must stand on `node` before the target starts there: faults of the agent that are preparations. Those of all
    /// steps are made once.
    fn preparations(&self, target: &dyn Target, node: &Node) -> Vec<Fault> {
        let _ = (target, node);
        Vec::new()
    }

    /// What the agents are asked for.
    fn asks(&self, at: &At<'_>, hit: &Hit) -> Vec<Ask>;

    /// Injects and verifies. Only faults that are not the agents' business do this in their own way.
    ///
    /// # Errors
    /// When it is not certain that all of it is in force.
    async fn inject(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        if let Hit::Links(links) = hit {
            control_path::spare(at.cluster, links)?;
        }
        let evidence = at.inject(self.asks(at, hit)).await?;
        self.verify(at, hit, &evidence).await
    }

    /// Looks from outside whether it bit, beside what the agents saw.
    ///
    /// # Errors
    /// When it did not, with what was seen.
    async fn verify(&self, at: &At<'_>, hit: &Hit, evidence: &[Evidence]) -> anyhow::Result<Seen> {
        let _ = (at, hit);
        Seen::verified(evidence)
    }

    /// What goes on while it is in force; ended when its time is over.
    async fn meanwhile(&self, at: &At<'_>, hit: &Hit) {
        let _ = (at, hit);
        std::future::pending().await
    }

    /// Undoes and verifies.
    ///
    /// # Errors
    /// When it is not certain that it was in force to the end (where it must be), or that it is gone.
    async fn heal(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Seen> {
        let mut seen = Seen::verified(&at.heal(self.asks(at, hit), self.holds_to_the_end()).await?)?;
        if let Some(words) = self.recover(at, hit).await? {
            seen.words = words.to_owned();
        }
        Ok(seen)
    }

    /// Whether it must still be in force when its time is over.
    fn holds_to_the_end(&self) -> bool {
        false
    }

    /// What it takes after the agents have undone it; in words, when the agents' own do not say it.
    ///
    /// # Errors
    /// When the cluster is not what it was.
    async fn recover(&self, at: &At<'_>, hit: &Hit) -> anyhow::Result<Option<&'static str>> {
        let _ = (at, hit);
        Ok(None)
    }

    /// Measures, by the kernel and programs that are not ours, what this fault changes: the same before, during and after.
    ///
    /// # Errors
    /// When nothing could be measured.
    async fn gauge(&self, lab: &Lab<'_>, hit: &Hit) -> anyhow::Result<Reading>;

    /// What the readings must show, with the tolerance, in words.
    fn expected(&self) -> String;

    /// Whether they show it.
    ///
    /// # Errors
    /// What they show instead.
    fn judge(&self, readings: &Readings) -> Result<(), String>;
}

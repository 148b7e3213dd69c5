//! Every fault that an agent can inject, one file each: its data, which builds everywhere, and on Linux its effect.
//!
//! A new fault is a file here that holds a serializable struct and implements `Effect` for it, its `pub mod` line, and
//! its line in the list below. Who is hit was decided by the nemesis' plan; what came of it is an
//! [`Evidence`](crate::protocol::Evidence).

pub mod clock;
pub mod cpu;
pub mod crash_loop;
pub mod damage;
pub mod device;
pub mod device_cut;
pub mod device_rule;
pub mod disk;
pub mod disk_rule;
pub mod drop;
pub mod files;
pub mod kill;
pub mod link;
pub mod machine_clock;
pub mod machine_down;
pub mod memory;
pub mod oom_kill;
pub mod pause;
pub mod power_cut;
pub mod processes;
pub mod restore;
pub mod snapshot;
pub mod term;

use serde::{Deserialize, Serialize};

macro_rules! faults {
    ($($(#[$doc:meta])* $variant:ident($data:path),)*) => {
        /// A fault as one node's agent sees it.
        #[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
        #[serde(rename_all = "snake_case")]
        pub enum Fault {
            $($(#[$doc])* $variant($data),)*
        }

        #[cfg(target_os = "linux")]
        impl Fault {
            /// What it does: the only place that tells faults apart.
            pub(crate) fn effect(&self) -> &dyn crate::linux::Effect {
                match self {
                    $(Self::$variant(data) => data,)*
                }
            }
        }
    };
}

faults! {
    /// A process tree is given a clock of its own when it starts.
    OwnClock(clock::OwnClock),
    /// The clock of a process tree is shifted.
    Clock(clock::Clock),
    /// Packets are dropped silently.
    Drop(drop::Drop),
    /// A process tree is killed.
    Kill(kill::Kill),
    /// Packets come late, twice, in another order, damaged, not at all.
    Link(link::Link),
    /// A process tree stands still.
    Pause(pause::Pause),
    /// A disk of ours is mounted.
    Disk(disk::Disk),
    /// Operations on a disk of ours are impaired.
    DiskRule(disk_rule::DiskRule),
    /// A directory is on a block device of its own.
    Device(device::Device),
    /// That device is slow, broken, or forgets.
    DeviceRule(device_rule::DeviceRule),
    /// That device loses its power.
    DeviceCut(device_cut::DeviceCut),
    /// A process is killed and what it had not synced is lost.
    PowerCut(power_cut::PowerCut),
    /// A file at rest is damaged.
    Damage(damage::Damage),
    /// A copy of directories is kept.
    Snapshot(snapshot::Snapshot),
    /// Directories are what they were when a copy was kept.
    Restore(restore::Restore),
    /// A process tree is asked to end.
    Term(term::Term),
    /// A process tree is killed after every start.
    CrashLoop(crash_loop::CrashLoop),
    /// A process tree gets little CPU time.
    Cpu(cpu::Cpu),
    /// A process tree gets little memory.
    Memory(memory::Memory),
    /// A process tree is killed by the kernel for want of memory.
    OomKill(oom_kill::OomKill),
    /// A process tree runs out of file descriptors.
    Files(files::Files),
    /// A process tree cannot have more processes.
    Processes(processes::Processes),
    /// A machine's clock is shifted.
    MachineClock(machine_clock::MachineClock),
    /// A machine loses power, or is rebooted.
    MachineDown(machine_down::MachineDown),
}

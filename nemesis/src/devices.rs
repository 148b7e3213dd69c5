//! What faults of whole block devices share: whose they are, and how they are looked at, by `dd` past all caches and by way of the
//! file system.

use crate::atlas::Victims;
use crate::hands::{Ask, At};
use crate::machine;
use crate::select::{Selector, Who};
use crate::trial::{Lab, Output, Reading};
use anyhow::Context;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use squall_agent::faults::Fault;
use squall_agent::faults::device::Device;
use squall_agent::faults::device_rule::{DeviceEffect, DeviceRule};
use squall_harness::Target;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::PlanContext;

pub(crate) const NEEDS: &str =
    "nodes with kernels of their own (vagrant, ssh), root; an empty disk, on which the target's data are put";

/// The disk that Vagrant's machines have for it.
const DEVICE: &str = "/dev/disk/by-id/virtio-data";

/// How often each is tried.
const TRIES: u32 = 3;

/// A shell's read of the device, past all caches.
pub(crate) const READ: &str =
    "timeout 5 dd if=/dev/mapper/squall-data iflag=direct of=/dev/null bs=4096 count=1 2>/dev/null";

/// Devices that are impaired.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Devices {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
    /// Which: `/dev/…`.
    pub device: String,
}

impl Devices {
    /// Reads the keys `nodes` and `device`.
    ///
    /// # Errors
    /// On nodes that share this machine's kernel (`other` is the fault for them), and what a selector refuses.
    pub(crate) fn read(
        section: &mut Section,
        context: &PlanContext<'_>,
        fault: &str,
        other: &str,
    ) -> Result<impl FnMut(&mut ChaCha8Rng) -> Self + Send + use<>, ConfigError> {
        let device = read_device(section, context, fault, other)?;
        let nodes = Selector::read(section, context, "one")?;
        let select = nodes.name().to_owned();
        Ok(move |rng: &mut ChaCha8Rng| Self { select: select.clone(), who: nodes.pick(rng), device: device.clone() })
    }

    /// The same for a fault that loses what was acknowledged: no more copies than the target claims to survive, or as many as
    /// `beyond` and `nodes` say.
    ///
    /// # Errors
    /// On nodes that share this machine's kernel (`other` is the fault for them), and more copies than that.
    pub(crate) fn read_victims(
        section: &mut Section,
        context: &PlanContext<'_>,
        fault: &str,
        other: &str,
    ) -> Result<impl FnMut(&mut ChaCha8Rng) -> Self + Send + use<>, ConfigError> {
        let device = read_device(section, context, fault, other)?;
        let victims = Victims::read(section, context)?;
        let select = victims.name().to_owned();
        Ok(move |rng: &mut ChaCha8Rng| Self { select: select.clone(), who: victims.pick(rng), device: device.clone() })
    }

    /// What must stand before the target starts: its first folder of data is on the device, with a log of what is written where
    /// that is wanted.
    pub(crate) fn preparations(&self, target: &dyn Target, logged: bool) -> Vec<Fault> {
        let device = |dir| Fault::Device(Device { dir, device: self.device.clone(), logged });
        target.data().into_iter().take(1).map(device).collect()
    }

    /// What the agents are asked for.
    pub(crate) fn asks(&self, at: &At<'_>, nodes: &[usize], effect: DeviceEffect) -> Vec<Ask> {
        let rule = |dir| Fault::DeviceRule(DeviceRule { process: at.process(), dir, effect });
        at.per_node(nodes, |_| at.target.data().into_iter().take(1).map(rule).collect())
    }
}

fn read_device(
    section: &mut Section,
    context: &PlanContext<'_>,
    fault: &str,
    other: &str,
) -> Result<String, ConfigError> {
    let other = format!("`{other}`, whose disk is the target's alone");
    machine::check(section, context, fault, "takes a disk of the machine", &other)?;
    let doc = "an empty disk of the nodes; the target's data are put on it before it starts";
    let device = section.get("device", DEVICE.to_owned(), doc)?;
    if device.starts_with("/dev/") {
        return Ok(device);
    }
    Err(section.error(format!("`device` must be a path below /dev, not `{device}`")))
}

/// Reads the device by `dd`, and writes and syncs a file on it. Numbers: exit code and milliseconds of each.
///
/// # Errors
/// When nothing could be measured.
pub(crate) async fn gauge(lab: &Lab<'_>, nodes: &[usize]) -> anyhow::Result<Reading> {
    let node = *nodes.first().context("no node is hit")?;
    let dir = lab.target.data().into_iter().next().context("this target keeps nothing on disks")?;
    // The time is dd's own, and the shortest of some: what else the machine does is no matter of the device.
    let script = format!(
        "try() {{ for n in $(seq {TRIES}); do said=$(LC_ALL=C timeout 5 dd \"$@\" bs=4096 count=1 2>&1 >/dev/null); code=$?; \
         echo \"$code $(echo \"$said\" | sed -n 's/.* copied, \\([0-9.e+-]*\\) s.*/\\1/p') $(echo \"$said\" | \
         sed -n 's/^dd: .*: //p' | tail -n 1)\"; done | sort -k1,1n -k2,2g | head -n 1; }}; \
         try if=/dev/mapper/squall-data iflag=direct; try if=/dev/zero of={dir}/probe conv=fsync,notrunc"
    );
    reading(&lab.shell(node, &script).await?)
}

fn reading(printed: &Output) -> anyhow::Result<Reading> {
    let mut reading = Reading::default();
    for (what, line) in ["a read", "a synced write"].iter().zip(printed.stdout.lines()) {
        let [code, seconds, why] = line.splitn(3, ' ').collect::<Vec<_>>()[..] else {
            anyhow::bail!("dd said `{line}`")
        };
        // None of one that was stopped.
        let ms = (1000.0 * seconds.parse::<f64>().unwrap_or(f64::NAN)).round();
        let comma = if reading.words.is_empty() { "" } else { "; " };
        let why = match (code, why) {
            ("0", _) => "done",
            ("124", _) => "no answer",
            (_, "") => "failed",
            (_, why) => why,
        };
        reading.words += &format!("{comma}{what}: {why}, {ms} ms");
        reading.numbers.extend([code.parse::<f64>()?, ms]);
    }
    anyhow::ensure!(reading.numbers.len() == 4, "dd said nothing: {}", printed.stderr);
    Ok(reading)
}

/// Runs a shell script on the first of these nodes, in which `$data` is where the target has its data, and looks which of two files
/// are there then and not empty. Numbers: 1 or 0 each.
///
/// # Errors
/// When nothing could be looked at.
pub(crate) async fn files(
    lab: &Lab<'_>,
    nodes: &[usize],
    script: &str,
    names: [&'static str; 2],
) -> anyhow::Result<Reading> {
    let node = *nodes.first().context("no node is hit")?;
    let dir = lab.target.data().into_iter().next().context("this target keeps nothing on disks")?;
    let looks = names.map(|name| format!("[ -s $data/{name} ] && echo {name}")).join("; ");
    let printed = lab.shell(node, &format!("data={dir}; {script}; {looks}; echo end")).await?;
    let lines: Vec<&str> = printed.stdout.lines().collect();
    anyhow::ensure!(lines.last() == Some(&"end"), "the shell said: {}", printed.stderr.trim());
    let numbers = names.map(|name| f64::from(u8::from(lines.contains(&name)))).to_vec();
    let there = &lines[..lines.len() - 1];
    let words = if there.is_empty() { "no files".to_owned() } else { format!("files: {}", there.join(" ")) };
    Ok(Reading { words, numbers })
}

/// Whether both could be done.
pub(crate) fn is_fine(reading: &Reading) -> bool {
    reading.numbers[0] == 0.0 && reading.numbers[2] == 0.0
}

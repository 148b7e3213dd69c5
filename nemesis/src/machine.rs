//! What faults that take a whole machine down share: who may be taken down, how it is seen, how it comes back.

use crate::control_path;
use crate::hands::{Ask, At, Seen};
use crate::select::{Selector, Who};
use crate::trial::{Lab, Reading, Readings};
use anyhow::{Context, bail};
use futures::future::{join_all, try_join_all};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use squall_agent::faults::Fault;
use squall_agent::faults::machine_down::MachineDown;
use squall_agent::protocol::Request;
use squall_harness::Node;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::PlanContext;
use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::time::{Duration, Instant};
use tokio::net::TcpStream;

/// A machine that shuts down in order may take so long until it is silent.
const SILENCE_TIME_MAX: Duration = Duration::from_secs(100);

/// A machine that does not even refuse a connection within this is silent.
const REFUSAL_TIME_MAX: Duration = Duration::from_millis(700);

/// A port on which nothing listens.
const PROBE_PORT: u16 = 1;

const UNIT: &str = "boots";

/// A test on nodes that share this machine's kernel is refused: `fault` `does` something to a machine, and there is an `other` for
/// them.
///
/// # Errors
/// With what to do.
pub(crate) fn check(
    section: &Section,
    context: &PlanContext<'_>,
    fault: &str,
    does: &str,
    other: &str,
) -> Result<(), ConfigError> {
    if context.has_machines {
        return Ok(());
    }
    Err(section.error(format!(
        "`{fault}` {does}, and local nodes share this one: use provider `vagrant` or `ssh`, or {other}"
    )))
}

/// Machines that go down.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Machines {
    /// As in the test file; for people.
    pub select: String,
    /// Whose.
    pub who: Who,
}

impl Machines {
    /// Reads which they are.
    ///
    /// # Errors
    /// On nodes that share this machine's kernel, and what a selector refuses.
    pub(crate) fn read(
        section: &mut Section,
        context: &PlanContext<'_>,
        fault: &str,
    ) -> Result<impl FnMut(&mut ChaCha8Rng) -> Self + Send + use<>, ConfigError> {
        let other = "`power-cut`, which loses what was not synced without a machine";
        check(section, context, fault, "takes a machine down", other)?;
        let nodes = Selector::read(section, context, "one")?;
        Ok(move |rng: &mut ChaCha8Rng| Self { select: nodes.name().to_owned(), who: nodes.pick(rng) })
    }
}

/// Makes a fault that takes machines down: its plan data is [`Machines`], its kind `KIND`; `orderly` when services are
/// stopped and file systems are unmounted before.
macro_rules! machines {
    ($name:ident, orderly: $orderly:literal) => {
        /// Machines that go down.
        #[derive(Clone, Debug, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
        #[serde(transparent)]
        pub struct $name(pub $crate::machine::Machines);

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

            fn takes_machines_down(&self) -> bool {
                true
            }

            fn asks(&self, at: &$crate::hands::At<'_>, hit: &$crate::faults::Hit) -> Vec<$crate::hands::Ask> {
                $crate::machine::asks(at, hit.nodes(), $orderly)
            }

            async fn inject(
                &self,
                at: &$crate::hands::At<'_>,
                hit: &$crate::faults::Hit,
            ) -> anyhow::Result<$crate::hands::Seen> {
                $crate::machine::take_down(at, hit.nodes(), $orderly).await
            }

            async fn heal(
                &self,
                at: &$crate::hands::At<'_>,
                hit: &$crate::faults::Hit,
            ) -> anyhow::Result<$crate::hands::Seen> {
                $crate::machine::bring_up(at, hit.nodes(), $orderly).await
            }

            async fn gauge(
                &self,
                lab: &$crate::trial::Lab<'_>,
                hit: &$crate::faults::Hit,
            ) -> anyhow::Result<$crate::trial::Reading> {
                $crate::machine::gauge(lab, hit.nodes()).await
            }

            fn expected(&self) -> String {
                "the machine is up, then silent, then up in another boot".to_owned()
            }

            fn judge(&self, readings: &$crate::trial::Readings) -> Result<(), String> {
                $crate::machine::judge(readings)
            }
        }

        fn read(
            section: &mut squall_harness::config::Section,
            context: &squall_harness::nemesis::PlanContext<'_>,
        ) -> Result<$crate::faults::Make, squall_harness::config::ConfigError> {
            let mut next = $crate::machine::Machines::read(section, context, KIND.doc.name)?;
            Ok(Box::new(move |_, rng| $crate::faults::Planned::$name($name(next(rng)))))
        }
    };
}
pub(crate) use machines;

/// What the agents are asked for where nobody switches the machines from outside.
pub(crate) fn asks(at: &At<'_>, nodes: &[usize], orderly: bool) -> Vec<Ask> {
    at.per_node(nodes, |node| vec![Fault::MachineDown(MachineDown { orderly, other_boots: other_boots(at, node) })])
}

/// The boots of the controller and of all nodes but `node`: if its own is one of them, it is no machine of its own.
pub(crate) fn other_boots(at: &At<'_>, node: &Node) -> Vec<String> {
    let ours = std::fs::read_to_string("/proc/sys/kernel/random/boot_id").unwrap_or_default().trim().to_owned();
    let others = at.cluster.nodes.iter().filter(|other| other.index != node.index).map(|other| boot_of(other));
    std::iter::once(ours).chain(others).filter(|boot| !boot.is_empty()).collect()
}

fn boot_of(node: &Node) -> String {
    node.control.hello().map(|hello| hello.boot_id).unwrap_or_default()
}

/// Takes the machines down and waits until each of them is silent.
///
/// # Errors
/// When one of them still answers.
pub(crate) async fn take_down(at: &At<'_>, nodes: &[usize], orderly: bool) -> anyhow::Result<Seen> {
    control_path::spare_machines(at.cluster, nodes)?;
    let begun = Instant::now();
    match &at.cluster.power {
        Some(power) if !orderly => {
            try_join_all(nodes.iter().map(|&node| power.off(node))).await?;
        }
        _ => {
            Seen::verified(&at.inject(asks(at, nodes, orderly)).await?)?;
        }
    }
    join_all(nodes.iter().map(|&node| at.node(node).control.goes_down("its machine went down"))).await;
    try_join_all(nodes.iter().map(|&node| silent(at.node(node)))).await?;
    let how = if orderly { "shut down" } else { "without power" };
    let mut seen = Seen {
        words: format!("{how} and silent after {:.1} s", begun.elapsed().as_secs_f64()),
        counts: BTreeMap::new(),
    };
    seen.count(nodes.len() as u64, "machines down");
    Ok(seen)
}

/// Waits until the node does not even refuse connections.
async fn silent(node: &Node) -> anyhow::Result<()> {
    let begun = Instant::now();
    loop {
        let dial = TcpStream::connect(SocketAddr::new(node.address, PROBE_PORT));
        match tokio::time::timeout(REFUSAL_TIME_MAX, dial).await {
            Ok(Err(error)) if error.kind() == std::io::ErrorKind::ConnectionRefused => {}
            Ok(Ok(_)) => {}
            _ => return Ok(()),
        }
        if begun.elapsed() > SILENCE_TIME_MAX {
            node.control.stays_up();
            bail!("{} still answers", node.name);
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Waits until the machines have booted, and starts the target there.
///
/// # Errors
/// When one of them does not come back, or comes back in the same boot.
pub(crate) async fn bring_up(at: &At<'_>, nodes: &[usize], orderly: bool) -> anyhow::Result<Seen> {
    if orderly || at.cluster.power.is_none() {
        let seen = wait_for_boots(at, nodes).await?;
        at.heal(asks(at, nodes, orderly), false).await?;
        at.start(nodes).await?;
        return Ok(seen);
    }
    let seen = boot(at, nodes).await?;
    at.start(nodes).await?;
    Ok(seen)
}

/// Gives machines their power, where somebody can from outside, and waits until they have booted.
///
/// # Errors
/// When one of them does not come back, or comes back in the same boot.
pub(crate) async fn boot(at: &At<'_>, nodes: &[usize]) -> anyhow::Result<Seen> {
    if let Some(power) = &at.cluster.power {
        try_join_all(nodes.iter().map(|&node| power.on(node))).await?;
    }
    wait_for_boots(at, nodes).await
}

async fn wait_for_boots(at: &At<'_>, nodes: &[usize]) -> anyhow::Result<Seen> {
    let boots = try_join_all(nodes.iter().map(|&node| async move {
        let node = at.node(node);
        // Whatever is asked, the answer comes after the boot.
        node.control.call(Request::Ledger).await.with_context(|| format!("{} did not come back", node.name))?;
        node.control.last_boot().with_context(|| format!("{} never went down", node.name))
    }))
    .await?;
    let words = nodes.iter().zip(&boots).map(|(&node, boot)| {
        let short = |id: &str| id.chars().take(8).collect::<String>();
        format!(
            "{} down for {:.1} s, boot {} -> {}",
            at.node(node).name,
            boot.took.as_secs_f64(),
            short(&boot.from),
            short(&boot.to)
        )
    });
    let mut seen = Seen { words: words.collect::<Vec<_>>().join("; "), counts: BTreeMap::new() };
    seen.count(boots.len() as u64, UNIT);
    Ok(seen)
}

/// Whether the first of these machines answers, and in which boot: 1 or 0, and the beginning of the boot's id.
///
/// # Errors
/// When it answers and cannot be asked.
pub(crate) async fn gauge(lab: &Lab<'_>, nodes: &[usize]) -> anyhow::Result<Reading> {
    let node = *nodes.first().context("nobody is hit")?;
    let dial = TcpStream::connect(SocketAddr::new(lab.cluster.nodes[node].address, PROBE_PORT));
    let is_silent = tokio::time::timeout(REFUSAL_TIME_MAX, dial).await.is_err();
    if is_silent {
        return Ok(Reading { words: "silent".to_owned(), numbers: vec![0.0, 0.0] });
    }
    let printed = lab.shell(node, "cut -c 1-8 /proc/sys/kernel/random/boot_id; cut -d. -f1 /proc/uptime").await?.stdout;
    let (boot, uptime) = printed.trim().split_once('\n').context("no boot id, or no uptime")?;
    let number = u32::from_str_radix(boot, 16).with_context(|| format!("`{boot}` is no boot id"))?;
    Ok(Reading { words: format!("boot {boot}, up for {uptime} s"), numbers: vec![1.0, f64::from(number)] })
}

/// Whether the machine was up, silent, and up again in another boot.
///
/// # Errors
/// What it was instead.
pub(crate) fn judge(readings: &Readings) -> Result<(), String> {
    let [before, during, after] = [&readings.before, &readings.during, &readings.after].map(|r| &r.numbers);
    if before[0] != 1.0 || after[0] != 1.0 {
        return Err("the machine was not up before and after".to_owned());
    }
    if during[0] != 0.0 {
        return Err("the machine answered during the fault".to_owned());
    }
    if after[1] != before[1] { Ok(()) } else { Err("the machine has not booted".to_owned()) }
}

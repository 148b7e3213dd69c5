//! What faults of whole machines' clocks share: who may have them, how they are seen from outside, by `date` there and the clock
//! of this machine.

use crate::hands::{Ask, At, Seen};
use crate::machine;
use crate::trial::{Lab, Reading, Readings};
use anyhow::{Context, bail};
use futures::future::try_join_all;
use squall_agent::faults::Fault;
use squall_agent::faults::machine_clock::{MachineClock, MachineShift};
use squall_agent::protocol::{Evidence, Reply, Request};
use squall_harness::cluster::Control;
use squall_harness::config::{ConfigError, Section};
use squall_harness::nemesis::PlanContext;
use std::collections::BTreeMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

pub(crate) const MECHANISM: &str =
    "adjtimex(2), after stopping what keeps the clock right (NTP), which is started again";
pub(crate) const NEEDS: &str = "nodes with kernels of their own (vagrant, ssh), root";

/// Of several questions the one that was answered soonest counts: nobody knows when within it `date` looked.
const QUESTIONS: u32 = 5;

/// How long clocks are watched to see how fast they go.
const WATCHED_FOR: Duration = Duration::from_secs(8);

/// How far a clock may be from where it should be, beside what the questions leave open (seconds).
const TOLERANCE_S: f64 = 0.1;

/// How far a rate may be from what it should be.
const RATE_TOLERANCE: f64 = 0.02;

/// A test on nodes that share this machine's kernel is refused.
///
/// # Errors
/// With what to do; `other` is the fault for them.
pub(crate) fn check(section: &Section, context: &PlanContext<'_>, fault: &str, other: &str) -> Result<(), ConfigError> {
    let other = format!("`{other}`, whose clock is the target's alone");
    machine::check(section, context, fault, "sets the clock of a whole machine", &other)
}

/// Shifts the clock of each of `nodes`.
pub(crate) fn asks(at: &At<'_>, nodes: &[usize], shift: impl Fn(usize) -> MachineShift) -> Vec<Ask> {
    at.per_node(nodes, |node| {
        let (shift, other_boots) = (shift(node.index), machine::other_boots(at, node));
        vec![Fault::MachineClock(MachineClock { shift, other_boots })]
    })
}

/// How far a clock is ahead of this machine's (seconds), give or take so much.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ahead {
    pub(crate) by: f64,
    pub(crate) give_or_take: f64,
}

/// Asks `date` there.
///
/// # Errors
/// When it does not say.
pub(crate) async fn ahead(control: &Control) -> anyhow::Result<Ahead> {
    let mut best: Option<Ahead> = None;
    for _ in 0..QUESTIONS {
        let argv = ["date", "+%s.%N"].map(str::to_owned).to_vec();
        let (now, asked) = (SystemTime::now(), Instant::now());
        let reply = control.call(Request::Exec { argv, env: BTreeMap::new(), timeout_ms: 10_000 }).await?;
        let give_or_take = asked.elapsed().as_secs_f64() / 2.0;
        let Reply::Output { stdout, stderr, .. } = reply else { bail!("the agent answered a command with {reply:?}") };
        let shown: f64 = stdout.trim().parse().with_context(|| format!("`date` did not say: {}", stderr.trim()))?;
        let one = Ahead { by: shown - now.duration_since(UNIX_EPOCH)?.as_secs_f64() - give_or_take, give_or_take };
        if best.is_none_or(|best| give_or_take < best.give_or_take) {
            best = Some(one);
        }
    }
    best.context("nobody was asked")
}

/// The same on each of `nodes`.
pub(crate) async fn all_ahead(at: &At<'_>, nodes: &[usize]) -> anyhow::Result<Vec<Ahead>> {
    try_join_all(nodes.iter().map(|&node| ahead(&at.node(node).control))).await
}

/// What was seen, node by node: by the agents, and by `date` before and after.
///
/// # Errors
/// When a clock is not where it should be, `by` so much (seconds) from where it was.
pub(crate) fn verify(
    at: &At<'_>,
    nodes: &[usize],
    evidence: &[Evidence],
    dates: Option<(&[Ahead], &[Ahead])>,
    by: impl Fn(usize) -> f64,
) -> anyhow::Result<Seen> {
    let mut seen = Seen::verified(evidence).context("a machine's clock is not as it should be")?;
    let mut words = Vec::new();
    for (number, (&node, one)) in nodes.iter().zip(evidence).enumerate() {
        let mut word = format!("{} {}", at.node(node).name, one.seen);
        if let Some((before, after)) = dates {
            let moved = after[number].by - before[number].by;
            let open = before[number].give_or_take + after[number].give_or_take + TOLERANCE_S;
            if (moved - by(node)).abs() > open {
                bail!("by `date` on {} it moved {moved:+.2} s, not {:+.2} s", at.node(node).name, by(node));
            }
            word += &format!(", {moved:+.2} s by date");
        }
        words.push(word);
    }
    seen.words = words.join("; ");
    Ok(seen)
}

/// Looks at `date` on the first node that is hit, twice. Numbers: how far ahead, seconds there in one here.
///
/// # Errors
/// When it does not say.
pub(crate) async fn gauge(lab: &Lab<'_>, nodes: &[usize]) -> anyhow::Result<Reading> {
    let node = *nodes.first().context("no node is hit")?;
    let control = &lab.cluster.nodes[node].control;
    let first = (ahead(control).await?, Instant::now());
    tokio::time::sleep(WATCHED_FOR).await;
    let last = (ahead(control).await?, Instant::now());
    let passed = last.1.duration_since(first.1).as_secs_f64();
    let rate = 1.0 + (last.0.by - first.0.by) / passed;
    let services =
        lab.shell(node, "systemctl is-active systemd-timesyncd chrony ntp 2>/dev/null | grep -c '^active'").await?;
    let words = format!(
        "`date` {:+.2} s from this machine's, {rate:.3} s a second; {} time services run",
        last.0.by,
        services.stdout.trim()
    );
    Ok(Reading { words, numbers: vec![last.0.by, rate] })
}

/// Whether the clock was, during the fault, `by` so much (seconds) from where it was before, where that is known, and went `rate`
/// times as fast; and is where it was, and as fast, afterwards.
///
/// # Errors
/// What is otherwise.
pub(crate) fn judge(readings: &Readings, by: Option<f64>, rate: f64) -> Result<(), String> {
    let [before, during, after] = [&readings.before, &readings.during, &readings.after].map(|r| &r.numbers);
    let goes_at = |reading: &[f64], rate: f64| (reading[1] - rate).abs() <= RATE_TOLERANCE;
    if !goes_at(before, 1.0) {
        return Err("the machine's clock was wrong before".to_owned());
    }
    if by.is_some_and(|by| (during[0] - before[0] - by).abs() > 5.0 * TOLERANCE_S) || !goes_at(during, rate) {
        return Err("`date` did not show the fault".to_owned());
    }
    match (after[0] - before[0]).abs() <= 5.0 * TOLERANCE_S && goes_at(after, 1.0) {
        true => Ok(()),
        false => Err("the machine's clock is wrong after healing".to_owned()),
    }
}

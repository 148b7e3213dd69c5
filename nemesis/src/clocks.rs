//! What all faults of clocks have in common.

use crate::hands::{Ask, At, Seen};
use crate::select::Who;
use crate::trial::{Lab, Reading, Readings};
use anyhow::{Context, bail};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use squall_agent::faults::Fault;
use squall_agent::faults::clock::{Clock, ClockShift, OwnClock};
use squall_agent::protocol::Evidence;
use squall_harness::Target;
use squall_harness::config::{ConfigError, Section, format_duration, unknown};
use std::collections::BTreeMap;
use std::time::Duration;

pub(crate) const MECHANISM: &str = "a stand-in for the vDSO in every process of the target, a shift in a shared page";
pub(crate) const NEEDS: &str = "x86-64, ptrace(2)";

/// What must stand before the target starts.
pub(crate) fn preparations(target: &dyn Target) -> Vec<Fault> {
    vec![Fault::OwnClock(OwnClock { process: target.process().to_owned() })]
}

/// Shifts the clock of the target on each of `nodes`.
pub(crate) fn asks(at: &At<'_>, nodes: &[usize], monotonic: bool, shift: impl Fn(usize) -> ClockShift) -> Vec<Ask> {
    at.per_node(nodes, |node| vec![Fault::Clock(Clock { process: at.process(), shift: shift(node.index), monotonic })])
}

/// What was measured, node by node.
pub(crate) fn verify(at: &At<'_>, nodes: &[usize], evidence: &[Evidence]) -> anyhow::Result<Seen> {
    let mut seen = Seen::verified(evidence).context("a clock is not shifted")?;
    let words: Vec<String> =
        nodes.iter().zip(evidence).map(|(node, one)| format!("{} {}", at.node(*node).name, one.seen)).collect();
    seen.words = words.join(", ");
    Ok(seen)
}

/// Reads whether CLOCK_MONOTONIC is shifted, too.
pub(crate) fn read_monotonic(section: &mut Section) -> Result<bool, ConfigError> {
    section.get("monotonic", false, "CLOCK_MONOTONIC, too, which programs may take for granted to be steady")
}

/// What a plan says for a node of the cluster (milliseconds, parts per million); one that came from a file may lack it.
pub(crate) fn of_node(amounts: &[i64], node: usize) -> i64 {
    amounts.get(node).copied().unwrap_or(1000)
}

/// The same for the first node that is hit.
pub(crate) fn of_first(amounts: &[i64], who: &Who) -> i64 {
    of_node(amounts, who.nodes().first().copied().unwrap_or(0))
}

/// Which way a clock goes wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Direction {
    Ahead,
    Back,
    Either,
}

impl Direction {
    /// Reads the key `direction`.
    pub(crate) fn read(section: &mut Section) -> Result<Self, ConfigError> {
        let word = section.get("direction", "either".to_owned(), "ahead, back, or either: drawn for each node")?;
        match word.as_str() {
            "ahead" => Ok(Self::Ahead),
            "back" => Ok(Self::Back),
            "either" => Ok(Self::Either),
            other => Err(section.error(unknown("direction", other, ["ahead", "back", "either"]))),
        }
    }

    /// `amount` with a sign.
    pub(crate) fn sign(self, amount: i64, rng: &mut ChaCha8Rng) -> i64 {
        match self {
            Self::Ahead => amount,
            Self::Back => -amount,
            Self::Either if rng.random() => amount,
            Self::Either => -amount,
        }
    }

    /// What each of `count` nodes gains at `rate` seconds in a second (parts per million).
    pub(crate) fn ppm(self, rate: f64, count: usize, rng: &mut ChaCha8Rng) -> Vec<i64> {
        (0..count).map(|_| self.sign((rate * 1e6).round() as i64, rng)).collect()
    }
}

/// How far clocks are off in practice, by orders of magnitude: names and limits (milliseconds).
const TIERS: [(&str, i64, i64); 4] =
    [("small", 1, 100), ("medium", 100, 2000), ("large", 2000, 60_000), ("huge", 60_000, 3_600_000)];

/// Nobody's clock is off by more (a year); squares of it in nanoseconds are never formed.
const BY_MAX: Duration = Duration::from_secs(365 * 86_400);

/// By how much clocks jump, as a test file says it.
pub(crate) struct Jumps {
    /// One after the other: what it is called, and its limits (milliseconds).
    tiers: Vec<(String, i64, i64)>,
    direction: Direction,
}

impl Jumps {
    /// Reads the keys `by`, `tiers` and `direction`.
    pub(crate) fn read(section: &mut Section) -> Result<Self, ConfigError> {
        let doc = "amounts, one after the other; without any, `tiers` are drawn from";
        let by = section.get("by", Vec::<Duration>::new(), doc)?;
        let all = TIERS.map(|(name, ..)| name.to_owned()).to_vec();
        let doc = "small (up to 100ms), medium (2s), large (1m), huge (1h): one after the other, drawn for each node";
        let names = section.get("tiers", all, doc)?;
        let direction = Direction::read(section)?;
        if by.iter().any(|by| *by < Duration::from_millis(1) || *by > BY_MAX) {
            return Err(section.error("`by` must be from 1ms to a year"));
        }
        let mut tiers: Vec<(String, i64, i64)> =
            by.iter().map(|by| (format_duration(*by), by.as_millis() as i64, by.as_millis() as i64)).collect();
        if tiers.is_empty() {
            for name in &names {
                match TIERS.iter().find(|(known, ..)| known == name) {
                    Some(&(known, low, high)) => tiers.push((known.to_owned(), low, high)),
                    None => return Err(section.error(unknown("tier", name, TIERS.map(|(name, ..)| name)))),
                }
            }
        }
        if tiers.is_empty() {
            return Err(section.error("`tiers` is empty: name at least one, or amounts in `by`"));
        }
        Ok(Self { tiers, direction })
    }

    /// Those of a step: what they are called, and the offset of each of `count` nodes (milliseconds).
    pub(crate) fn draw(&mut self, turn: usize, count: usize, rng: &mut ChaCha8Rng) -> (String, Vec<i64>) {
        let (tier, low, high) = &self.tiers[turn % self.tiers.len()];
        // Evenly over orders of magnitude.
        let (low, high) = (*low as f64, *high as f64);
        let mut amount = || (low * (high / low).powf(rng.random::<f64>())).round() as i64;
        let amounts: Vec<i64> = (0..count).map(|_| amount()).collect();
        (tier.clone(), amounts.into_iter().map(|amount| self.direction.sign(amount, rng)).collect())
    }
}

/// What a trial of a clock runs: prints `program seconds-since-1970 uptime uptime` again and again, by a dynamic program (`date`),
/// a static one (busybox-static) and one in Go (etcd, whose complaint about its data folder has a time stamp), as far as they
/// are installed. The uptimes (seconds) are those before and after, which the kernel tells in a file.
pub(crate) const TELLERS: &str = r#"up() { read up rest </proc/uptime; }
while :; do
  up; then=$up; now=$(date +%s.%N); up; echo "date $now $then $up"
  command -v busybox >/dev/null && { up; then=$up; now=$(busybox date +%s); up; echo "busybox $now $then $up"; }
  up; then=$up; stamp=$(etcd --logger=zap --data-dir /dev/null 2>&1 | sed -n 's/.*"ts":"\([^"]*\)".*/\1/p' | head -n 1); up
  [ -n "$stamp" ] && echo "etcd $(date -d "$stamp" +%s.%N) $then $up"
  sleep 0.01
done"#;

/// One that took longer says too little about when it looked (seconds).
const TELLING_TIME_MAX: f64 = 1.0;

/// How many looks at what the tellers print, and how long they are apart.
const LOOKS: usize = 15;
/// On a slow machine a round of the tellers may take seconds.
const LOOKS_MAX: usize = 120;
/// So long must `date` be watched to see how fast it goes (seconds).
const SLOPE_S: f64 = 1.0;
const LOOKS_PAUSE: Duration = Duration::from_millis(100);

/// No teller needs longer from its look at the clock to ours (seconds).
const TELLER_TIME_MAX: f64 = 1.5;

/// Offsets below this cannot be told from the truth by what the tellers print (seconds).
pub(crate) const OFF_MIN: f64 = 3.0;

/// Rates below this cannot, either.
pub(crate) const RATE_MIN: f64 = 0.4;

/// What the [`TELLERS`] show.
pub(crate) struct Told {
    /// How far they are off, earliest and latest (seconds).
    off: (f64, f64),
    /// Seconds that pass on the clock of `date` in a second.
    slope: f64,
}

impl Told {
    fn of(reading: &Reading) -> Self {
        Self { off: (reading.numbers[0], reading.numbers[1]), slope: reading.numbers[2] }
    }

    /// Whether all of them are off by `seconds`.
    pub(crate) fn is_off_by(&self, seconds: f64) -> bool {
        self.is_between(seconds, seconds)
    }

    /// Whether the earliest and the latest are off by so many seconds.
    pub(crate) fn is_between(&self, earliest: f64, latest: f64) -> bool {
        // Some leave a second's fraction out, and all are read a little later.
        let is = |off: f64, seconds: f64| off > seconds - TELLER_TIME_MAX && off < seconds + 0.5;
        is(self.off.0, earliest) && is(self.off.1, latest)
    }

    /// Whether a second lasts `1 / slope` seconds.
    pub(crate) fn goes_at(&self, slope: f64) -> bool {
        (self.slope - slope).abs() < 0.25
    }

    fn is_true(&self) -> bool {
        self.is_off_by(0.0) && self.goes_at(1.0)
    }
}

/// Judges the [`gauge`]: the truth before and after, and during the fault what `is_wrong` expects.
///
/// # Errors
/// What is otherwise.
pub(crate) fn judge(readings: &Readings, is_wrong: impl Fn(&Told) -> bool) -> Result<(), String> {
    if !Told::of(&readings.before).is_true() {
        return Err("the clock was wrong before".to_owned());
    }
    if !is_wrong(&Told::of(&readings.during)) {
        return Err("the clock did not show the fault".to_owned());
    }
    if Told::of(&readings.after).is_true() { Ok(()) } else { Err("the clock is wrong after healing".to_owned()) }
}

/// Measures what the [`TELLERS`] print on the first node that is hit, against the clock that programs which are not the target's see
/// there.
///
/// # Errors
/// When they print nothing.
pub(crate) async fn gauge(lab: &Lab<'_>, nodes: &[usize]) -> anyhow::Result<Reading> {
    let node = *nodes.first().context("no node is hit")?;
    let log = lab.target.logs().concat();
    let mut offs: BTreeMap<String, f64> = BTreeMap::new();
    let mut dates: Vec<(f64, f64)> = Vec::new();
    let (mut begun, mut range) = (None, (f64::INFINITY, f64::NEG_INFINITY));
    for look in 0..LOOKS_MAX {
        let is_slope = dates.first().zip(dates.last()).is_some_and(|(first, last)| last.0 - first.0 >= SLOPE_S);
        if look >= LOOKS && is_slope {
            break;
        }
        tokio::time::sleep(LOOKS_PAUSE).await;
        // Not under the target's clock: this `date` is the agent's child.
        let printed = lab.shell(node, &format!("tail -n 6 {log}; date +%s.%N; cat /proc/uptime")).await?.stdout;
        let mut last =
            printed.lines().rev().map(|line| line.split(' ').next().and_then(|word| word.parse::<f64>().ok()));
        let (Some(uptime), Some(asked)) = (last.next().flatten(), last.next().flatten()) else { bail!("no uptime") };
        let begun = *begun.get_or_insert(uptime);
        // What it showed, and when that was by the node's true clock.
        let told = printed.lines().filter_map(|line| {
            let [teller, shown, before, after] = line.split(' ').collect::<Vec<_>>()[..] else { return None };
            let (before, after) = (before.parse::<f64>().ok()?, after.parse::<f64>().ok()?);
            // It looked a little before that, as late as it could: a program under a tracer takes long to start.
            let then = asked - (uptime - after);
            // What was printed before the first look may be from before the fault.
            (before >= begun && after - before <= TELLING_TIME_MAX)
                .then_some((teller, (shown.parse::<f64>().ok()?, then)))
        });
        let latest: BTreeMap<&str, (f64, f64)> = told.collect();
        for (teller, (shown, now)) in latest {
            let off = shown - now;
            range = (range.0.min(off), range.1.max(off));
            offs.insert(teller.to_owned(), off);
            if teller == "date" {
                dates.push((now, shown));
            }
        }
    }
    let (Some(first), Some(last)) = (dates.first(), dates.last()) else { bail!("`date` printed nothing into {log}") };
    let slope = (last.1 - first.1) / (last.0 - first.0);
    let told: Vec<String> = offs.iter().map(|(teller, off)| format!("{teller} {off:+.1} s")).collect();
    let words = format!("{}; from {:+.1} s to {:+.1} s off, {slope:.2} s a second", told.join(", "), range.0, range.1);
    Ok(Reading { words, numbers: vec![range.0, range.1, slope] })
}

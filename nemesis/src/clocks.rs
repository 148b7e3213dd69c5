//! What all faults of clocks have in common.

use crate::hands::{Ask, At, Seen};
use crate::trial::{Lab, Reading, Readings};
use anyhow::{Context, bail};
use rand::RngExt;
use rand_chacha::ChaCha8Rng;
use squall_agent::faults::Fault;
use squall_agent::faults::clock::{Clock, ClockShift, OwnClock};
use squall_agent::protocol::Evidence;
use squall_harness::Target;
use squall_harness::config::{ConfigError, Section, unknown};
use std::collections::BTreeMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

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
}

/// What a trial of a clock runs: prints `program seconds-since-1970` again and again, by a dynamic program (`date`), a
/// static one (busybox-static) and one in Go (etcd, whose complaint about its data folder has a time stamp), as far as
/// they are installed.
pub(crate) const TELLERS: &str = r#"while :; do
  echo "date $(date +%s.%N)"
  command -v busybox >/dev/null && echo "busybox $(busybox date +%s)"
  stamp=$(etcd --logger=zap --data-dir /dev/null 2>&1 | sed -n 's/.*"ts":"\([^"]*\)".*/\1/p' | head -n 1)
  [ -n "$stamp" ] && echo "etcd $(date -d "$stamp" +%s.%N)"
  sleep 0.01
done"#;

/// How many looks at what the tellers print, and how long they are apart.
const LOOKS: usize = 15;
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

/// Measures what the [`TELLERS`] print on the first node that is hit, against the clock of this machine: that of the node may
/// be what is wrong.
///
/// # Errors
/// When they print nothing.
pub(crate) async fn gauge(lab: &Lab<'_>, nodes: &[usize]) -> anyhow::Result<Reading> {
    let node = *nodes.first().context("no node is hit")?;
    let log = lab.target.logs().concat();
    let mut offs: BTreeMap<String, f64> = BTreeMap::new();
    let mut dates: Vec<(f64, f64)> = Vec::new();
    let mut range = (f64::INFINITY, f64::NEG_INFINITY);
    for _ in 0..LOOKS {
        tokio::time::sleep(LOOKS_PAUSE).await;
        let asked = SystemTime::now();
        let printed = lab.shell(node, &format!("tail -n 6 {log}")).await?.stdout;
        // Looked at half way between question and answer.
        let now =
            asked.duration_since(UNIX_EPOCH)?.as_secs_f64() + asked.elapsed().unwrap_or_default().as_secs_f64() / 2.0;
        let told = printed.lines().filter_map(|line| {
            let (teller, seconds) = line.split_once(' ')?;
            Some((teller, seconds.parse::<f64>().ok()?))
        });
        let latest: BTreeMap<&str, f64> = told.collect();
        for (teller, shown) in latest {
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

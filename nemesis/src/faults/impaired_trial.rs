//! How impaired links are tried: what echoes between two nodes show, and must show.

use crate::echo::{Echo, Echoes};
use crate::trial::{Lab, Reading, Readings, TICKER, TrialSetup};
use squall_agent::faults::link::Impairment;
use std::time::Duration;

/// By how much a share of packets may be off: three times the spread of chance among a thousand, and a little.
const SHARE_TOLERANCE: f64 = 0.05;

/// By how much a round trip may be longer than the delay asks for (milliseconds): two nodes, a router, a shaper and others'
/// work share this machine.
const LATE_MS_MAX: f64 = 3.0;

/// By how much a throughput may be off, as a share.
const RATE_TOLERANCE: f64 = 0.1;

/// Resets seen that are enough.
const RESETS_MIN: f64 = 5.0;

/// Bytes of IP and UDP headers, which are part of what a narrow link carries.
const HEADERS: f64 = 28.0;

/// A trial between two nodes with these keys.
pub(super) const fn setup(keys: &'static str) -> TrialSetup {
    TrialSetup { nodes: 2, keys, target: None, program: TICKER, machines: false }
}

/// Measures the link.
pub(super) async fn gauge(lab: &Lab<'_>, link: (usize, usize), impairment: &Impairment) -> anyhow::Result<Reading> {
    let echo = Echo::start(lab, link.0, link.1).await?;
    let reading = |words: String, numbers: &[f64]| Ok(Reading { words, numbers: numbers.to_vec() });
    let many = || echo.udp(1000, Duration::from_millis(1), 64);
    let percent = |share: f64, what: &str| format!("{:.1}% of 1000 UDP echoes {what}", share * 100.0);
    match impairment {
        Impairment::Delay { .. } => {
            let udp = echo.udp(50, Duration::from_millis(20), 64).await?.median_ms();
            let tcp = echo.tcp(30).await?.median_ms();
            reading(format!("median round trip: UDP {udp:.2} ms, TCP {tcp:.2} ms"), &[udp, tcp])
        }
        Impairment::Loss { .. } => {
            let share = lost(&many().await?);
            reading(percent(share, "lost"), &[share])
        }
        Impairment::Duplicate { .. } => {
            let echoes = many().await?;
            let share = echoes.share(echoes.doubled);
            reading(percent(share, "came twice"), &[share])
        }
        Impairment::Reorder { .. } => {
            let echoes = many().await?;
            let share = echoes.share(echoes.overtaken);
            reading(percent(share, "overtaken"), &[share])
        }
        Impairment::Corrupt { deliver: true, .. } => {
            let echoes = many().await?;
            let share = echoes.share(echoes.damaged);
            reading(percent(share, "damaged"), &[share])
        }
        Impairment::Corrupt { deliver: false, .. } => {
            let before = echo.checksum_errors().await?;
            let share = lost(&many().await?);
            let errors = echo.checksum_errors().await? - before;
            reading(
                percent(share, &format!("lost, {errors} checksum errors in the receiving kernel")),
                &[share, errors / 1000.0],
            )
        }
        Impairment::Rate { .. } => {
            let len = 1200.0;
            let echoes = echo.udp(200, Duration::ZERO, 1200).await?;
            let bits_per_s = echoes.bits_per_s * (len + HEADERS) / len;
            reading(format!("{:.0} kbit/s of UDP came back", bits_per_s / 1e3), &[bits_per_s])
        }
        Impairment::Clog { .. } => {
            let echoes = echo.udp(100, Duration::from_millis(1), 64).await?;
            reading(format!("{} of {} UDP echoes came", echoes.answered, echoes.sent), &[echoes.share(echoes.answered)])
        }
        Impairment::Reset { .. } => {
            let before = echo.server_resets().await?;
            let echoes = echo.tcp(100).await?;
            let at_server = echo.server_resets().await? - before;
            let words = format!("ECONNRESET in 100 TCP echoes: client {}, server {at_server}", echoes.resets);
            reading(words, &[f64::from(echoes.resets), at_server as f64])
        }
    }
}

fn lost(echoes: &Echoes) -> f64 {
    1.0 - echoes.share(echoes.answered)
}

/// What must be seen, with the tolerance, in words.
pub(super) fn expected(impairment: &Impairment) -> String {
    let percent = |probability: f64| format!("{:.0}% ± {:.0}", probability * 100.0, SHARE_TOLERANCE * 100.0);
    match *impairment {
        Impairment::Delay { delay_us, jitter_us, .. } => {
            let (least, most) = (delay_us.saturating_sub(jitter_us) as f64 / 1e3, (delay_us + jitter_us) as f64 / 1e3);
            format!(
                "at least {least} ms, at most {most} ms more than before; as before after; give or take {LATE_MS_MAX} ms, or twice \
                 what it took before"
            )
        }
        Impairment::Loss { probability, .. } => format!("{} lost, none before and after", percent(probability)),
        Impairment::Duplicate { probability } => format!("{} twice, none before and after", percent(probability)),
        Impairment::Reorder { probability, .. } => format!("{} overtaken, none before and after", percent(probability)),
        Impairment::Corrupt { probability, deliver: true, .. } => {
            format!("{} damaged, none before and after", percent(probability))
        }
        Impairment::Corrupt { probability, .. } => {
            format!(
                "{} dropped by the receiving kernel for their checksums, none before and after",
                percent(probability)
            )
        }
        Impairment::Rate { bits_per_s, .. } => {
            let kbit = bits_per_s / 1000;
            format!("{kbit} kbit/s ± {:.0}%, more than ten times that before and after", RATE_TOLERANCE * 100.0)
        }
        Impairment::Clog { .. } => "none came, all before and after".to_owned(),
        Impairment::Reset { .. } => format!("at least {RESETS_MIN} at each end, none before and after"),
    }
}

/// Whether it was seen.
pub(super) fn judge(impairment: &Impairment, readings: &Readings) -> Result<(), String> {
    let (before, during, after) = (&readings.before.numbers, &readings.during.numbers, &readings.after.numbers);
    let healed = |is_healed: bool| if is_healed { Ok(()) } else { Err("it is still there after healing".to_owned()) };
    let shown = |is_shown: bool| if is_shown { Ok(()) } else { Err("not what was asked for".to_owned()) };
    let near = |share: f64, probability: f64| (share - probability).abs() <= SHARE_TOLERANCE;
    let is_calm = |shares: &[f64]| shares.iter().all(|share| *share == 0.0);
    if let Some(probability) = impairment.probability().filter(|_| !matches!(impairment, Impairment::Reset { .. })) {
        // What is there without a fault is none of it.
        shown(is_calm(before) && during.iter().all(|share| near(*share, probability)))?;
        return healed(is_calm(after));
    }
    match *impairment {
        Impairment::Delay { delay_us, jitter_us, .. } => {
            let least = delay_us.saturating_sub(jitter_us) as f64 / 1e3;
            let most = (delay_us + jitter_us) as f64 / 1e3;
            // Slow (emulated) machines are slow in all of it.
            let late = |before: f64| LATE_MS_MAX.max(2.0 * before);
            // The least is of the trip itself: what a busy machine added before need not be added now.
            let is_shown = |before: f64, during: f64| during >= least && during - before <= most + late(before);
            shown(before.iter().zip(during).all(|(before, during)| is_shown(*before, *during)))?;
            healed(before.iter().zip(after).all(|(before, after)| after - before < late(*before)))
        }
        Impairment::Rate { bits_per_s, .. } => {
            let wanted = bits_per_s as f64;
            shown(before[0] > 10.0 * wanted && (during[0] / wanted - 1.0).abs() <= RATE_TOLERANCE)?;
            healed(after[0] > 10.0 * wanted)
        }
        Impairment::Clog { .. } => {
            shown(before[0] == 1.0 && during[0] == 0.0)?;
            healed(after[0] == 1.0)
        }
        _ => {
            shown(is_calm(before) && during.iter().all(|resets| *resets >= RESETS_MIN))?;
            healed(is_calm(after))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_that_does_not_show_or_does_not_go_is_told() {
        let delay = Impairment::Delay { delay_us: 50_000, jitter_us: 0, keep_order: true };
        let loss = Impairment::Loss { probability: 0.3, burst: 1.0 };
        let reset = Impairment::Reset { probability: 0.3 };
        let table: [(Impairment, [&[f64]; 3], bool); 9] = [
            (delay, [&[0.1, 0.2], &[50.2, 50.4], &[0.1, 0.2]], true),
            (delay, [&[0.1, 0.2], &[49.2, 50.4], &[0.1, 0.2]], false),
            (delay, [&[0.1, 0.2], &[f64::NAN, 50.4], &[0.1, 0.2]], false),
            (delay, [&[0.1, 0.2], &[50.2, 50.4], &[50.1, 50.2]], false),
            (loss, [&[0.0], &[0.29], &[0.0]], true),
            (loss, [&[0.0], &[0.2], &[0.0]], false),
            (loss, [&[0.0], &[0.3], &[0.1]], false),
            (reset, [&[0.0, 0.0], &[9.0, 9.0], &[0.0, 0.0]], true),
            (reset, [&[0.0, 0.0], &[9.0, 0.0], &[0.0, 0.0]], false),
        ];
        for (impairment, numbers, is_good) in table {
            let [before, during, after] =
                numbers.map(|numbers| Reading { words: String::new(), numbers: numbers.to_vec() });
            assert_eq!(judge(&impairment, &Readings { before, during, after }).is_ok(), is_good, "{numbers:?}");
        }
    }
}

//! What a person sees while a run goes: one line that lives on a terminal, plain lines where there is none.

use crate::journal::Journal;
use crate::nemesis::Nemesis;
use indicatif::{ProgressBar, ProgressStyle};
use squall_checkers::seconds;
use std::io::IsTerminal;
use std::sync::Arc;
use std::time::Duration;

/// Where progress goes: stderr, so that stdout stays for results.
#[derive(Clone)]
pub struct Progress {
    bar: Option<ProgressBar>,
    quiet: bool,
}

impl Progress {
    /// A live line where stderr is a terminal, else one plain line a step; nothing when `quiet`.
    pub fn new(quiet: bool) -> Self {
        let live = !quiet && std::io::stderr().is_terminal();
        let bar = live.then(|| {
            let bar = ProgressBar::new_spinner();
            bar.set_style(ProgressStyle::with_template("  {spinner} {msg}").expect("constant template"));
            bar.enable_steady_tick(Duration::from_millis(100));
            bar
        });
        Self { bar, quiet }
    }

    /// A step that is done: stays on the screen. `word` is padded to a column.
    pub fn done(&self, word: &str, what: &str) {
        let line = format!("  {word:<8} {what}");
        match &self.bar {
            Some(bar) => bar.println(line),
            None if self.quiet => {}
            None => eprintln!("{line}"),
        }
    }

    /// A step that is under way: replaced by the next one.
    pub fn now(&self, what: String) {
        if let Some(bar) = &self.bar {
            bar.set_message(what);
        }
    }

    /// Ends the live line.
    pub fn finish(&self) {
        if let Some(bar) = &self.bar {
            bar.finish_and_clear();
        }
    }

    /// Keeps the live line up to date with numbers until it is dropped or aborted.
    pub fn follow(&self, journal: Journal, nemesis: Arc<dyn Nemesis>) -> tokio::task::JoinHandle<()> {
        let progress = self.clone();
        tokio::spawn(async move {
            let mut ticks =
                tokio::time::interval(Duration::from_millis(if progress.bar.is_some() { 250 } else { 10_000 }));
            ticks.tick().await;
            loop {
                ticks.tick().await;
                let line = live_line(&journal, &*nemesis);
                match &progress.bar {
                    Some(bar) => bar.set_message(line),
                    None if progress.quiet => {}
                    None => eprintln!("  ...      {line}"),
                }
            }
        })
    }
}

fn live_line(journal: &Journal, nemesis: &dyn Nemesis) -> String {
    let stats = journal.stats();
    let (ok, fail, info) = stats.totals();
    let latency = stats.latency_us();
    let last = stats.ok_per_second.iter().rev().nth(1).copied().unwrap_or_default();
    let fault = nemesis.in_force().map_or(String::new(), |what| format!("   fault: {what}"));
    format!(
        "{} s  {ok} ok  {fail} fail  {info} unknown   {last} op/s   p50 {}  p99 {}   {}{fault}",
        seconds(journal.now_ns()).split('.').next().unwrap_or("0"),
        microseconds(latency.value_at_quantile(0.5)),
        microseconds(latency.value_at_quantile(0.99)),
        sparkline(&stats.ok_per_second, 12),
    )
}

/// `950 µs`, `1.8 ms`, `2.41 s`.
pub fn microseconds(us: u64) -> String {
    match us {
        0..1000 => format!("{us} µs"),
        1000..100_000 => format!("{:.1} ms", us as f64 / 1e3),
        100_000..1_000_000 => format!("{} ms", us / 1000),
        _ => format!("{:.2} s", us as f64 / 1e6),
    }
}

/// The last `width` full values as little bars, scaled to their largest.
pub fn sparkline(values: &[u64], width: usize) -> String {
    const BARS: [char; 8] = ['▁', '▂', '▃', '▄', '▅', '▆', '▇', '█'];
    // The second that is still running would always look like a dip.
    let full = &values[..values.len().saturating_sub(1)];
    let last = &full[full.len().saturating_sub(width)..];
    let max = last.iter().copied().max().unwrap_or(0).max(1);
    last.iter().map(|&v| BARS[(v * 7 / max) as usize]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_fit_the_eye() {
        assert_eq!(microseconds(950), "950 µs");
        assert_eq!(microseconds(1800), "1.8 ms");
        assert_eq!(microseconds(250_000), "250 ms");
        assert_eq!(microseconds(2_410_000), "2.41 s");
        assert_eq!(sparkline(&[0, 50, 100, 7], 12), "▁▄█");
        assert_eq!(sparkline(&[], 12), "");
    }
}

//! What is known of the boots of a node: machines go down and come back while their channel is opened again.

use squall_agent::protocol::Hello;
use std::time::{Duration, Instant};

/// What is known of the boots of a node.
#[derive(Default)]
pub(super) struct Boots {
    /// What the agent said of itself last.
    pub(super) hello: Option<Hello>,
    /// It goes down, and whatever still answers in this boot is on its way out.
    pub(super) leaving: Option<(String, Instant)>,
    /// The last time that it went down and came back.
    pub(super) last: Option<Boot>,
}

/// A machine went down and came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// `/proc/sys/kernel/random/boot_id` before.
    pub from: String,
    /// And since then.
    pub to: String,
    /// From [`Control::goes_down`](super::Control::goes_down), or the loss of the channel, to the first answer.
    pub took: Duration,
}

impl Boots {
    /// From now on only an agent of another boot counts.
    pub(super) fn goes_down(&mut self) {
        let now = self.hello.as_ref().map(|hello| hello.boot_id.clone()).unwrap_or_default();
        self.leaving = Some((now, Instant::now()));
    }

    /// Notes what the agent says of itself over a new channel; `Err` when it belongs to a boot that is over.
    pub(super) fn greeted(&mut self, hello: Hello, lost_at: Instant) -> Result<(), String> {
        if self.leaving.as_ref().is_some_and(|(boot, _)| *boot == hello.boot_id) {
            return Err("it has not gone down yet".to_owned());
        }
        let since = self.leaving.take().map_or(lost_at, |(_, since)| since);
        let before = self.hello.as_ref().map(|before| before.boot_id.clone());
        if let Some(from) = before.filter(|before| *before != hello.boot_id) {
            self.last = Some(Boot { from, to: hello.boot_id.clone(), took: since.elapsed() });
        }
        self.hello = Some(hello);
        Ok(())
    }
}

//! The controller's end of a control channel: framed, id-tagged requests over one duplex stream.
//!
//! Answers come in any order; each waits in a table under its id. When the stream ends, every waiting request is told
//! so. See `squall_agent::protocol` for the frames.

mod boots;
mod channel;
#[cfg(test)]
mod tests;

pub use boots::Boot;

use super::{Duplex, Transport};
use boots::Boots;
use channel::{Channel, encode};
use squall_agent::protocol::{Hello, Reply, Request, VERSION};
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::io::AsyncWriteExt;
use tokio::sync::oneshot;

/// How long [`Control::call`] waits for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// How long an agent that was started again may take to say so.
const GREETING_TIME_MAX: Duration = Duration::from_secs(15);

/// How much of a file is fetched at a time (bytes).
const FETCH_LEN: u64 = 1 << 20;

/// How long to wait before a lost channel is opened again, the first times; from then on always the last of these, until
/// [`Transport::boot_time_max`] is over.
const REOPEN_AFTER: [Duration; 4] =
    [Duration::ZERO, Duration::from_millis(250), Duration::from_millis(500), Duration::from_secs(1)];

/// Leases are renewed this many times within their length: one lost renewal must not end them.
const RENEWALS_PER_LEASE: u32 = 5;

/// A handle to one agent; clones share the channel.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    node: String,
    channel: Mutex<Arc<Channel>>,
    /// How to open the channel again when it is lost; `None` for a bare [`Control::new`].
    reopen: Option<Reopen>,
    boots: Mutex<Boots>,
    /// Held while the channel is opened again, so that many waiting requests open it once.
    reopening: tokio::sync::Mutex<()>,
}

/// What it takes to open a channel.
struct Reopen {
    transport: Arc<dyn Transport>,
    argv: Vec<String>,
    lease: Duration,
}

/// Why a request got no good answer.
#[derive(Clone, Debug, thiserror::Error)]
pub enum ControlError {
    /// The agent refused or failed.
    #[error("{node}: {message}")]
    Agent {
        /// Which node.
        node: String,
        /// The agent's sentence.
        message: String,
    },
    /// No answer in time.
    #[error("{node}: no answer from the agent within {after:?}")]
    Timeout {
        /// Which node.
        node: String,
        /// How long we waited.
        after: Duration,
    },
    /// The channel is gone.
    #[error("{node}: control channel lost: {why}")]
    Lost {
        /// Which node.
        node: String,
        /// What happened.
        why: String,
    },
}

impl Control {
    /// Starts speaking over `duplex` to the agent of `node`. A channel that is lost stays lost: see
    /// [`connect`](Control::connect). Must be called inside a tokio runtime.
    pub fn new(node: &str, duplex: Duplex) -> Self {
        Self::with(node, duplex, None)
    }

    /// Starts `argv` (an agent) by `transport`, greets it, and from then on renews the lease in the background for as
    /// long as the handle lives. A lost channel is opened again and what was asked is asked again: every request is
    /// idempotent.
    ///
    /// # Errors
    /// When the program cannot be started, does not answer, or is not an agent of our version.
    pub async fn connect(
        node: &str,
        transport: Arc<dyn Transport>,
        argv: Vec<String>,
        lease: Duration,
    ) -> anyhow::Result<(Self, Hello)> {
        let duplex = transport.open(&argv).await?;
        let control = Self::with(node, duplex, Some(Reopen { transport, argv, lease }));
        let hello = match control.ask(&control.channel(), &hello(lease, false), &[], ANSWER_TIME_MAX).await? {
            (Reply::Hello(hello), _) if hello.version == VERSION => hello,
            (Reply::Hello(hello), _) => {
                anyhow::bail!("{node}: the agent speaks version {} of the protocol, not {VERSION}", hello.version)
            }
            (other, _) => anyhow::bail!("{node}: the agent answered a greeting with {other:?}"),
        };
        control.boots().hello = Some(hello.clone());
        tokio::spawn(keep_alive(Arc::downgrade(&control.inner), lease));
        Ok((control, hello))
    }

    fn with(node: &str, duplex: Duplex, reopen: Option<Reopen>) -> Self {
        let channel = Mutex::new(Channel::start(duplex));
        let reopening = tokio::sync::Mutex::default();
        let boots = Mutex::default();
        Self { inner: Arc::new(Inner { node: node.to_owned(), channel, reopen, boots, reopening }) }
    }

    fn boots(&self) -> MutexGuard<'_, Boots> {
        self.inner.boots.lock().unwrap_or_else(|e| e.into_inner())
    }

    /// What the agent said of itself last: after a boot it is another process, of another boot. `None` for a bare
    /// [`Control::new`].
    pub fn hello(&self) -> Option<Hello> {
        self.boots().hello.clone()
    }

    /// The node goes down now, and will boot again: gives the channel up at once, and from here on only an agent of another
    /// boot counts. The next request waits for it.
    pub async fn goes_down(&self, why: &str) {
        self.boots().goes_down();
        self.channel().lose(why);
        if let Some(reopen) = &self.inner.reopen {
            reopen.transport.disconnect().await;
        }
    }

    /// Whether the node went down and has not come back yet: whatever it is asked waits for that.
    pub fn is_down(&self) -> bool {
        self.boots().leaving.is_some()
    }

    /// It did not go down after all: the agent of the same boot counts again.
    pub fn stays_up(&self) {
        self.boots().leaving = None;
    }

    /// The last time that the node went down and came back, if it ever did.
    pub fn last_boot(&self) -> Option<Boot> {
        self.boots().last.clone()
    }

    /// Sends `request` and waits for its answer for at most 30 s.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn call(&self, request: Request) -> Result<Reply, ControlError> {
        self.call_with(request, Vec::new(), ANSWER_TIME_MAX).await.map(|(reply, _)| reply)
    }

    /// The same with a payload in both directions and a time limit.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn call_with(
        &self,
        request: Request,
        payload: Vec<u8>,
        timeout: Duration,
    ) -> Result<(Reply, Vec<u8>), ControlError> {
        let channel = self.channel();
        match self.ask(&channel, &request, &payload, timeout).await {
            Err(ControlError::Lost { why, .. }) if self.inner.reopen.is_some() => {
                let channel = self.reopen(&channel, why).await?;
                self.ask(&channel, &request, &payload, timeout).await
            }
            answer => answer,
        }
    }

    /// Whether both speak to the same agent over the same channel.
    pub fn is(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.inner, &other.inner)
    }

    fn channel(&self) -> Arc<Channel> {
        self.inner.channel.lock().unwrap_or_else(|e| e.into_inner()).clone()
    }

    /// Opens the channel again unless somebody else has done so since `lost` was.
    async fn reopen(&self, lost: &Arc<Channel>, mut why: String) -> Result<Arc<Channel>, ControlError> {
        let _one_at_a_time = self.inner.reopening.lock().await;
        let current = self.channel();
        if !Arc::ptr_eq(&current, lost) {
            return Ok(current);
        }
        let Some(reopen) = &self.inner.reopen else {
            return Err(ControlError::Lost { node: self.inner.node.clone(), why });
        };
        let begun = Instant::now();
        for turn in 0.. {
            tokio::time::sleep(REOPEN_AFTER[turn.min(REOPEN_AFTER.len() - 1)]).await;
            match self.open_again(reopen, begun).await {
                Ok(channel) => {
                    *self.inner.channel.lock().unwrap_or_else(|e| e.into_inner()) = channel.clone();
                    return Ok(channel);
                }
                Err(now) => why = now,
            }
            if begun.elapsed() > reopen.transport.boot_time_max() {
                break;
            }
        }
        Err(ControlError::Lost { node: self.inner.node.clone(), why })
    }

    /// One try to open the channel again.
    async fn open_again(&self, reopen: &Reopen, lost_at: Instant) -> Result<Arc<Channel>, String> {
        let opened = tokio::time::timeout(ANSWER_TIME_MAX, reopen.transport.open(&reopen.argv)).await;
        let duplex = opened.map_err(|_| "it could not be opened again in time".to_owned())?;
        let channel = Channel::start(duplex.map_err(|error| format!("{error:#}"))?);
        // A machine that goes down while it is greeted answers nothing at all.
        let greeting = self.ask(&channel, &hello(reopen.lease, true), &[], GREETING_TIME_MAX).await;
        let greeted = match greeting {
            Ok((Reply::Hello(hello), _)) => self.boots().greeted(hello, lost_at),
            Ok((other, _)) => Err(format!("the agent answered a greeting with {other:?}")),
            Err(error) => Err(error.to_string()),
        };
        if greeted.is_err() {
            reopen.transport.disconnect().await;
        }
        greeted.map(|()| channel)
    }

    async fn ask(
        &self,
        channel: &Arc<Channel>,
        request: &Request,
        payload: &[u8],
        timeout: Duration,
    ) -> Result<(Reply, Vec<u8>), ControlError> {
        let node = &self.inner.node;
        let lost = |why: String| ControlError::Lost { node: node.clone(), why };
        let (sender, receiver) = oneshot::channel();
        let id = channel.enter(sender).map_err(lost)?;
        let frame = encode(id, request, payload).map_err(|why| {
            channel.waiting().by_id.remove(&id);
            ControlError::Agent { node: node.clone(), message: why.to_string() }
        })?;
        // In a task of its own: a frame cut in half by the time limit would garble all that follow.
        let send = {
            let channel = channel.clone();
            tokio::spawn(async move { channel.send(&frame).await })
        };
        let sent = tokio::time::timeout(timeout, async {
            match send.await {
                Ok(Ok(())) => receiver.await.unwrap_or_else(|_| Err("the agent ended".to_owned())),
                Ok(Err(error)) => {
                    channel.lose(&error.to_string());
                    Err(error.to_string())
                }
                Err(error) => Err(error.to_string()),
            }
        });
        let answer = sent.await;
        channel.waiting().by_id.remove(&id);
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(message)) if channel.waiting().lost.is_some() => Err(lost(message)),
            Ok(Err(message)) => Err(ControlError::Agent { node: node.clone(), message }),
            Err(_) => Err(ControlError::Timeout { node: node.clone(), after: timeout }),
        }
    }
}

fn hello(lease: Duration, again: bool) -> Request {
    Request::Hello { version: VERSION, lease_ms: lease.as_millis() as u64, again }
}

/// Renews the lease until the last handle is gone. A failed renewal is tried again with the next: whoever needs the node
/// meanwhile gets the error.
async fn keep_alive(inner: std::sync::Weak<Inner>, lease: Duration) {
    loop {
        tokio::time::sleep(lease / RENEWALS_PER_LEASE).await;
        let Some(inner) = inner.upgrade() else { return };
        let control = Control { inner };
        if let Err(error) = control.call(Request::Renew { lease_ms: lease.as_millis() as u64 }).await {
            tracing::warn!("{error}");
        }
    }
}

/// Copies a file of a node to this machine.
///
/// # Errors
/// When the node cannot be asked or the copy cannot be written.
pub async fn fetch_file(control: &Control, remote: &str, local: &Path) -> anyhow::Result<()> {
    let mut file = tokio::fs::File::create(local).await?;
    let mut offset = 0;
    loop {
        let request = Request::ReadFile { path: remote.to_owned(), offset, len_max: FETCH_LEN };
        let (_, bytes) = control.call_with(request, Vec::new(), ANSWER_TIME_MAX).await?;
        if bytes.is_empty() {
            file.sync_all().await?;
            return Ok(());
        }
        file.write_all(&bytes).await?;
        offset += bytes.len() as u64;
    }
}

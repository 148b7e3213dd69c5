//! The controller's end of a control channel: framed, id-tagged requests over one duplex stream.
//!
//! Answers come in any order; each waits in a table under its id. When the stream ends, every waiting request is told
//! so. See `squall_agent::protocol` for the frames.

use super::{Duplex, Transport};
use serde::{Deserialize, Serialize};
use squall_agent::frame;
use squall_agent::protocol::{AgentError, Hello, Reply, Request, VERSION};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::{Duration, Instant};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
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

/// What is known of the boots of a node.
#[derive(Default)]
struct Boots {
    /// What the agent said of itself last.
    hello: Option<Hello>,
    /// It goes down, and whatever still answers in this boot is on its way out.
    leaving: Option<(String, Instant)>,
    /// The last time that it went down and came back.
    last: Option<Boot>,
}

/// A machine went down and came back.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Boot {
    /// `/proc/sys/kernel/random/boot_id` before.
    pub from: String,
    /// And since then.
    pub to: String,
    /// From [`Control::goes_down`], or the loss of the channel, to the first answer.
    pub took: Duration,
}

/// One duplex stream and who waits on it.
struct Channel {
    writer: tokio::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    waiting: Mutex<Waiting>,
    /// Whatever keeps the stream open: dropped with the channel.
    _keep: Mutex<Box<dyn std::any::Any + Send>>,
}

type Answer = Result<(Reply, Vec<u8>), String>;

#[derive(Default)]
struct Waiting {
    id_next: u64,
    by_id: HashMap<u64, oneshot::Sender<Answer>>,
    /// Why the stream ended, once it has.
    lost: Option<String>,
}

/// The JSON part of a frame to the agent.
#[derive(Serialize)]
struct Question<'a> {
    id: u64,
    request: &'a Request,
}

/// The JSON part of a frame from the agent.
#[derive(Deserialize)]
struct Answered {
    id: u64,
    reply: Option<Reply>,
    error: Option<AgentError>,
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
        {
            let mut boots = self.boots();
            let now = boots.hello.as_ref().map(|hello| hello.boot_id.clone()).unwrap_or_default();
            boots.leaving = Some((now, Instant::now()));
        }
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

    /// Notes what the agent says of itself over a new channel; `Err` when it belongs to a boot that is over.
    fn greeted(&self, hello: Hello, lost_at: Instant) -> Result<(), String> {
        let mut boots = self.boots();
        if boots.leaving.as_ref().is_some_and(|(boot, _)| *boot == hello.boot_id) {
            return Err("it has not gone down yet".to_owned());
        }
        let since = boots.leaving.take().map_or(lost_at, |(_, since)| since);
        let before = boots.hello.as_ref().map(|before| before.boot_id.clone());
        if let Some(from) = before.filter(|before| *before != hello.boot_id) {
            boots.last = Some(Boot { from, to: hello.boot_id.clone(), took: since.elapsed() });
        }
        boots.hello = Some(hello);
        Ok(())
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
            Ok((Reply::Hello(hello), _)) => self.greeted(hello, lost_at),
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

fn encode(id: u64, request: &Request, payload: &[u8]) -> std::io::Result<Vec<u8>> {
    frame::encode(&serde_json::to_vec(&Question { id, request })?, payload)
}

impl Channel {
    fn start(duplex: Duplex) -> Arc<Self> {
        let channel = Arc::new(Self {
            writer: tokio::sync::Mutex::new(duplex.writer),
            waiting: Mutex::default(),
            _keep: Mutex::new(duplex.keep),
        });
        tokio::spawn(read_answers(Arc::downgrade(&channel), duplex.reader));
        channel
    }

    fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }

    fn enter(&self, sender: oneshot::Sender<Answer>) -> Result<u64, String> {
        let mut waiting = self.waiting();
        if let Some(why) = &waiting.lost {
            return Err(why.clone());
        }
        waiting.id_next += 1;
        let id = waiting.id_next;
        waiting.by_id.insert(id, sender);
        Ok(id)
    }

    async fn send(&self, frame: &[u8]) -> std::io::Result<()> {
        let mut writer = self.writer.lock().await;
        writer.write_all(frame).await?;
        writer.flush().await
    }

    /// The stream is of no use any more: tells everybody who waits.
    fn lose(&self, why: &str) {
        let mut waiting = self.waiting();
        waiting.lost.get_or_insert_with(|| why.to_owned());
        for (_, sender) in waiting.by_id.drain() {
            let _ = sender.send(Err(why.to_owned()));
        }
    }
}

async fn read_answers(channel: std::sync::Weak<Channel>, mut reader: Box<dyn AsyncRead + Send + Unpin>) {
    let why = loop {
        let (answered, payload) = match read_frame(&mut reader).await {
            Ok(frame) => frame,
            Err(why) => break why,
        };
        let Some(channel) = channel.upgrade() else { return };
        let answer = match (answered.reply, answered.error) {
            (Some(reply), None) => Ok((reply, payload)),
            (_, Some(error)) => Err(error.message),
            (None, None) => Err("the agent sent an answer without content".to_owned()),
        };
        if let Some(sender) = channel.waiting().by_id.remove(&answered.id) {
            // Whoever asked may have given up.
            let _ = sender.send(answer);
        }
    };
    if let Some(channel) = channel.upgrade() {
        channel.lose(&why);
    }
}

async fn read_frame(reader: &mut (dyn AsyncRead + Send + Unpin)) -> Result<(Answered, Vec<u8>), String> {
    let gone = |error: std::io::Error| format!("the stream ended: {error}");
    let mut head = [0; frame::HEAD_LEN];
    reader.read_exact(&mut head).await.map_err(gone)?;
    let (len, json_len) = frame::lengths(head).map_err(|error| error.to_string())?;
    let mut body = vec![0; len];
    reader.read_exact(&mut body).await.map_err(gone)?;
    let payload = body.split_off(json_len);
    let answered = serde_json::from_slice(&body).map_err(|error| format!("a frame is not JSON: {error}"))?;
    Ok((answered, payload))
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

#[cfg(test)]
mod tests {
    use super::*;
    use tokio::io::DuplexStream;

    /// A channel, and the agent's end of it.
    fn channel() -> (Control, DuplexStream) {
        let (ours, theirs) = tokio::io::duplex(1 << 16);
        let (reader, writer) = tokio::io::split(ours);
        let duplex = Duplex { writer: Box::new(writer), reader: Box::new(reader), keep: Box::new(()) };
        (Control::new("n1", duplex), theirs)
    }

    async fn receive(agent: &mut DuplexStream) -> (u64, Vec<u8>) {
        let len = agent.read_u32_le().await.unwrap() as usize;
        let json_len = agent.read_u32_le().await.unwrap() as usize;
        let mut body = vec![0; len - 4];
        agent.read_exact(&mut body).await.unwrap();
        let payload = body.split_off(json_len);
        let json: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert!(json.get("request").is_some());
        (json["id"].as_u64().unwrap(), payload)
    }

    async fn answer(agent: &mut DuplexStream, json: &str, payload: &[u8]) {
        agent.write_u32_le((4 + json.len() + payload.len()) as u32).await.unwrap();
        agent.write_u32_le(json.len() as u32).await.unwrap();
        agent.write_all(json.as_bytes()).await.unwrap();
        agent.write_all(payload).await.unwrap();
    }

    #[tokio::test]
    async fn answers_find_their_requests_in_any_order() {
        let (control, mut agent) = channel();
        let calls = async {
            let first = control.call_with(Request::Ledger, b"abc".to_vec(), ANSWER_TIME_MAX);
            let second = control.call(Request::Doctor);
            tokio::join!(first, second)
        };
        let answers = async {
            let (a, b) = (receive(&mut agent).await, receive(&mut agent).await);
            for (id, payload) in [b, a] {
                let with_payload = payload == b"abc";
                let json = if with_payload {
                    format!(r#"{{"id":{id},"reply":"done"}}"#)
                } else {
                    format!(r#"{{"id":{id},"error":{{"message":"no"}}}}"#)
                };
                answer(&mut agent, &json, if with_payload { b"xyz" } else { b"" }).await;
            }
        };
        let ((first, second), ()) = tokio::join!(calls, answers);
        assert_eq!(first.unwrap(), (Reply::Done, b"xyz".to_vec()));
        assert_eq!(second.unwrap_err().to_string(), "n1: no");
    }

    #[tokio::test]
    async fn a_stream_that_ends_or_lies_is_lost() {
        let (control, mut agent) = channel();
        let (result, ()) = tokio::join!(control.call(Request::Ledger), async {
            receive(&mut agent).await;
            agent.write_all(&[0xff; 16]).await.unwrap();
        });
        assert!(matches!(result, Err(ControlError::Lost { .. })), "{result:?}");
        assert!(matches!(control.call(Request::Ledger).await, Err(ControlError::Lost { .. })));
    }

    /// A machine whose agents say that they belong to these boots, one after the other; each serves until it is asked for
    /// the doctor, and then dies.
    struct Machine {
        boots: Mutex<std::vec::IntoIter<&'static str>>,
        disconnected: std::sync::atomic::AtomicU32,
        greetings: Arc<Mutex<Vec<bool>>>,
        boot_time_max: Duration,
    }

    #[async_trait::async_trait]
    impl Transport for Machine {
        async fn put(&self, _: &Path, _: &str) -> anyhow::Result<()> {
            Ok(())
        }

        async fn open(&self, _: &[String]) -> anyhow::Result<Duplex> {
            let boot = self.boots.lock().unwrap().next().ok_or_else(|| anyhow::anyhow!("no route to host"))?;
            let (ours, mut theirs) = tokio::io::duplex(1 << 16);
            let (reader, writer) = tokio::io::split(ours);
            let greetings = self.greetings.clone();
            tokio::spawn(async move {
                while let Ok(len) = theirs.read_u32_le().await {
                    let json_len = theirs.read_u32_le().await.unwrap() as usize;
                    let mut body = vec![0; len as usize - 4];
                    theirs.read_exact(&mut body).await.unwrap();
                    let question: serde_json::Value = serde_json::from_slice(&body[..json_len]).unwrap();
                    let id = question["id"].as_u64().unwrap();
                    if question["request"] == "doctor" {
                        return;
                    }
                    let reply = match question["request"].get("hello") {
                        Some(hello) => {
                            greetings.lock().unwrap().push(hello["again"] == true);
                            format!(
                                r#"{{"hello":{{"version":{VERSION},"pid":1,"hostname":"n1","boot_id":"{boot}","uid":0,"root":"/","arch":"","addresses":[]}}}}"#
                            )
                        }
                        None => r#"{"ledger":[]}"#.to_owned(),
                    };
                    answer(&mut theirs, &format!(r#"{{"id":{id},"reply":{reply}}}"#), b"").await;
                }
            });
            Ok(Duplex { writer: Box::new(writer), reader: Box::new(reader), keep: Box::new(()) })
        }

        async fn disconnect(&self) {
            self.disconnected.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        }

        fn boot_time_max(&self) -> Duration {
            self.boot_time_max
        }
    }

    const LONG: Duration = Duration::from_secs(600);

    async fn machine(boots: Vec<&'static str>, boot_time_max: Duration) -> (Control, Arc<Machine>) {
        let boots = Mutex::new(boots.into_iter());
        let (disconnected, greetings) = Default::default();
        let machine = Arc::new(Machine { boots, disconnected, greetings, boot_time_max });
        let lease = Duration::from_secs(3600);
        let (control, _) = Control::connect("n1", machine.clone(), Vec::new(), lease).await.unwrap();
        (control, machine)
    }

    #[tokio::test]
    async fn a_lost_channel_is_opened_again_and_the_agent_is_known_anew() {
        let (control, machine) = machine(vec!["a", "a", "b", "b"], LONG).await;
        // Its agent dies of that, the next one too, and the third.
        assert!(matches!(control.call(Request::Doctor).await, Err(ControlError::Lost { .. })));
        assert_eq!((control.hello().unwrap().boot_id.as_str(), control.last_boot()), ("a", None));
        assert!(matches!(control.call(Request::Doctor).await, Err(ControlError::Lost { .. })));
        assert_eq!(control.call(Request::Ledger).await.unwrap(), Reply::Ledger(Vec::new()));
        let boot = control.last_boot().unwrap();
        assert_eq!((boot.from.as_str(), boot.to.as_str()), ("a", "b"));
        assert_eq!(control.hello().unwrap().boot_id, "b");
        assert_eq!(
            *machine.greetings.lock().unwrap(),
            [false, true, true, true],
            "only the first session is a new one"
        );
    }

    #[tokio::test]
    async fn a_machine_that_goes_down_is_waited_for_until_it_has_booted() {
        let (control, machine) = machine(vec!["a", "a", "a", "b"], LONG).await;
        control.goes_down("for the test").await;
        // Twice the old boot still answers.
        assert_eq!(control.call(Request::Ledger).await.unwrap(), Reply::Ledger(Vec::new()));
        assert_eq!(control.hello().unwrap().boot_id, "b");
        assert_eq!(control.last_boot().unwrap().from, "a");
        assert_eq!(machine.disconnected.load(std::sync::atomic::Ordering::Relaxed), 3);
    }

    #[tokio::test]
    async fn a_machine_that_never_comes_back_is_lost() {
        let (control, _) = machine(vec!["a"], Duration::from_millis(100)).await;
        control.goes_down("for good").await;
        let error = control.call(Request::Ledger).await.unwrap_err();
        assert!(error.to_string().contains("no route to host"), "{error}");
    }
}

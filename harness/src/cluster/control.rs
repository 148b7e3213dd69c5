//! The controller's end of a control channel: framed, id-tagged requests over one duplex stream.
//!
//! Answers come in any order; each waits in a table under its id. When the stream ends, every waiting request is told
//! so. See `squall_agent::protocol` for the frames.

use super::Duplex;
use serde::{Deserialize, Serialize};
use squall_agent::protocol::{AgentError, FRAME_LEN_MAX, Reply, Request};
use std::collections::HashMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

/// How long [`Control::call`] waits for an answer.
const ANSWER_TIME_MAX: Duration = Duration::from_secs(30);

/// How much of a file is fetched at a time (bytes).
const FETCH_LEN: u64 = 1 << 20;

/// A handle to one agent; clones share the channel.
#[derive(Clone)]
pub struct Control {
    inner: Arc<Inner>,
}

struct Inner {
    node: String,
    writer: tokio::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    waiting: Mutex<Waiting>,
    /// Whatever keeps the stream open: dropped with the last handle.
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
    /// Starts speaking over `duplex` to the agent of `node`. Must be called inside a tokio runtime.
    pub fn new(node: &str, duplex: Duplex) -> Self {
        let inner = Arc::new(Inner {
            node: node.to_owned(),
            writer: tokio::sync::Mutex::new(duplex.writer),
            waiting: Mutex::default(),
            _keep: Mutex::new(duplex.keep),
        });
        tokio::spawn(read_answers(Arc::downgrade(&inner), duplex.reader));
        Self { inner }
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
        let node = &self.inner.node;
        let lost = |why: String| ControlError::Lost { node: node.clone(), why };
        let (sender, receiver) = oneshot::channel();
        let id = self.inner.enter(sender).map_err(lost)?;
        // In a task of its own: a frame cut in half by the time limit would garble all that follow.
        let inner = self.inner.clone();
        let send = tokio::spawn(async move { inner.send(id, &request, &payload).await });
        let sent = tokio::time::timeout(timeout, async {
            match send.await {
                Ok(Ok(())) => receiver.await.unwrap_or_else(|_| Err("the agent ended".to_owned())),
                Ok(Err(error)) => Err(error.to_string()),
                Err(error) => Err(error.to_string()),
            }
        });
        let answer = sent.await;
        self.inner.waiting().by_id.remove(&id);
        match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(message)) if self.inner.waiting().lost.is_some() => Err(lost(message)),
            Ok(Err(message)) => Err(ControlError::Agent { node: node.clone(), message }),
            Err(_) => Err(ControlError::Timeout { node: node.clone(), after: timeout }),
        }
    }
}

impl Inner {
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

    async fn send(&self, id: u64, request: &Request, payload: &[u8]) -> std::io::Result<()> {
        let json = serde_json::to_vec(&Question { id, request })?;
        let too_long = |_| std::io::Error::other("the request is too long for a frame");
        let len = u32::try_from(4 + json.len() + payload.len()).map_err(too_long)?;
        let json_len = u32::try_from(json.len()).map_err(too_long)?;
        let mut frame = Vec::with_capacity(8 + json.len() + payload.len());
        frame.extend_from_slice(&len.to_le_bytes());
        frame.extend_from_slice(&json_len.to_le_bytes());
        frame.extend_from_slice(&json);
        frame.extend_from_slice(payload);
        let mut writer = self.writer.lock().await;
        writer.write_all(&frame).await?;
        writer.flush().await
    }
}

async fn read_answers(inner: std::sync::Weak<Inner>, mut reader: Box<dyn AsyncRead + Send + Unpin>) {
    let why = loop {
        let (answered, payload) = match read_frame(&mut reader).await {
            Ok(frame) => frame,
            Err(why) => break why,
        };
        let Some(inner) = inner.upgrade() else { return };
        let answer = match (answered.reply, answered.error) {
            (Some(reply), None) => Ok((reply, payload)),
            (_, Some(error)) => Err(error.message),
            (None, None) => Err("the agent sent an answer without content".to_owned()),
        };
        if let Some(sender) = inner.waiting().by_id.remove(&answered.id) {
            // Whoever asked may have given up.
            let _ = sender.send(answer);
        }
    };
    let Some(inner) = inner.upgrade() else { return };
    let mut waiting = inner.waiting();
    waiting.lost = Some(why.clone());
    for (_, sender) in waiting.by_id.drain() {
        let _ = sender.send(Err(why.clone()));
    }
}

async fn read_frame(reader: &mut (dyn AsyncRead + Send + Unpin)) -> Result<(Answered, Vec<u8>), String> {
    let gone = |error: std::io::Error| format!("the stream ended: {error}");
    let len = reader.read_u32_le().await.map_err(gone)? as usize;
    let json_len = reader.read_u32_le().await.map_err(gone)? as usize;
    if !(4..=FRAME_LEN_MAX).contains(&len) || json_len > len - 4 {
        return Err(format!("a frame of {len} bytes with {json_len} of JSON: this is not a squall agent"));
    }
    let mut body = vec![0; len - 4];
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
}

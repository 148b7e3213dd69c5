//! One duplex stream to an agent, and who waits on it. See `squall_agent::frame` for the frames.

use crate::cluster::Duplex;
use serde::{Deserialize, Serialize};
use squall_agent::frame;
use squall_agent::protocol::{AgentError, Reply, Request};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard};
use tokio::io::{AsyncRead, AsyncReadExt, AsyncWrite, AsyncWriteExt};
use tokio::sync::oneshot;

/// One duplex stream and who waits on it.
pub(super) struct Channel {
    writer: tokio::sync::Mutex<Box<dyn AsyncWrite + Send + Unpin>>,
    waiting: Mutex<Waiting>,
    /// Whatever keeps the stream open: dropped with the channel.
    _keep: Mutex<Box<dyn std::any::Any + Send>>,
}

pub(super) type Answer = Result<(Reply, Vec<u8>), String>;

#[derive(Default)]
pub(super) struct Waiting {
    id_next: u64,
    pub(super) by_id: HashMap<u64, oneshot::Sender<Answer>>,
    /// Why the stream ended, once it has.
    pub(super) lost: Option<String>,
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

pub(super) fn encode(id: u64, request: &Request, payload: &[u8]) -> std::io::Result<Vec<u8>> {
    frame::encode(&serde_json::to_vec(&Question { id, request })?, payload)
}

impl Channel {
    pub(super) fn start(duplex: Duplex) -> Arc<Self> {
        let channel = Arc::new(Self {
            writer: tokio::sync::Mutex::new(duplex.writer),
            waiting: Mutex::default(),
            _keep: Mutex::new(duplex.keep),
        });
        tokio::spawn(read_answers(Arc::downgrade(&channel), duplex.reader));
        channel
    }

    pub(super) fn waiting(&self) -> MutexGuard<'_, Waiting> {
        self.waiting.lock().unwrap_or_else(|e| e.into_inner())
    }

    pub(super) fn enter(&self, sender: oneshot::Sender<Answer>) -> Result<u64, String> {
        let mut waiting = self.waiting();
        if let Some(why) = &waiting.lost {
            return Err(why.clone());
        }
        waiting.id_next += 1;
        let id = waiting.id_next;
        waiting.by_id.insert(id, sender);
        Ok(id)
    }

    pub(super) async fn send(&self, frame: &[u8]) -> std::io::Result<()> {
        let mut writer = self.writer.lock().await;
        writer.write_all(frame).await?;
        writer.flush().await
    }

    /// The stream is of no use any more: tells everybody who waits.
    pub(super) fn lose(&self, why: &str) {
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

//! Messages between members over TCP: frames of a length (u32 LE) and JSON, each answered by one byte.
//!
//! The answers tell a connection into a partition from a quiet one: when none comes for a second it is closed and opened
//! anew, because TCP's own retransmissions would go on waiting long after the partition has healed. What cannot be sent
//! is dropped; Raft and the retries above it take care of that.

use crate::raft::{Index, Member, Message, Token};
use crate::server::{Done, Input};
use serde::{Deserialize, Serialize};
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::mpsc::Sender;
use std::time::Duration;
use tokio::io::{AsyncReadExt, AsyncWriteExt, BufReader};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::mpsc;
use tokio::time::{Instant, sleep, timeout};

/// No answer for this long: the connection is dead.
const SILENCE_MAX: Duration = Duration::from_millis(1000);
/// How long a connection may take to open.
const CONNECT_TIME_MAX: Duration = Duration::from_millis(500);
/// Pause before the next try.
const RECONNECT_PAUSE: Duration = Duration::from_millis(100);
/// A longer frame is none of ours (bytes).
const FRAME_LEN_MAX: usize = 64 << 20;
/// Messages that wait for one peer.
const QUEUE_LEN: usize = 4096;

/// What members tell each other.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum PeerMessage {
    /// The protocol.
    Raft(Message),
    /// A follower hands its client's request to the leader.
    Propose {
        /// The follower's name for it.
        token: Token,
        /// A request of the state machine.
        data: Arc<str>,
    },
    /// What came of it.
    Proposed {
        /// The follower's name for it.
        token: Token,
        /// The answer.
        done: Done,
    },
    /// A follower asks up to where it must have applied before it may answer a read.
    Read {
        /// The follower's name for it.
        token: Token,
    },
    /// The answer.
    ReadIndex {
        /// The follower's name for it.
        token: Token,
        /// Up to there.
        index: Index,
    },
    /// Nothing came of a proposal or read here: the receiver does not lead, or no longer.
    NotHere {
        /// The follower's name for it.
        token: Token,
    },
}

/// The way to all other members.
#[derive(Clone, Debug)]
pub struct Peers {
    queues: Vec<Option<mpsc::Sender<PeerMessage>>>,
}

impl Peers {
    /// Starts a task for every other member. Must be called inside a tokio runtime.
    pub fn connect(id: Member, addresses: &[SocketAddr]) -> Self {
        let queues = addresses.iter().enumerate().map(|(peer, &address)| {
            (peer != id).then(|| {
                let (sender, receiver) = mpsc::channel(QUEUE_LEN);
                tokio::spawn(send_for_ever(id, address, receiver));
                sender
            })
        });
        Self { queues: queues.collect() }
    }

    /// Sends, or drops when the peer's queue is full.
    pub fn send(&self, to: Member, message: PeerMessage) {
        if let Some(Some(queue)) = self.queues.get(to) {
            let _ = queue.try_send(message);
        }
    }
}

async fn send_for_ever(id: Member, address: SocketAddr, mut queue: mpsc::Receiver<PeerMessage>) {
    while !queue.is_closed() {
        if let Ok(Ok(stream)) = timeout(CONNECT_TIME_MAX, TcpStream::connect(address)).await {
            // What waited while there was no connection is stale.
            while queue.try_recv().is_ok() {}
            let _ = send_while_answered(id, stream, &mut queue).await;
        } else {
            sleep(RECONNECT_PAUSE).await;
        }
    }
}

async fn send_while_answered(id: Member, stream: TcpStream, queue: &mut mpsc::Receiver<PeerMessage>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (mut answers, mut writer) = stream.into_split();
    writer.write_u32_le(id as u32).await?;
    let (mut sent, mut answered) = (0u64, 0u64);
    let mut last_progress = Instant::now();
    let mut buffer = [0; 1024];
    let mut batch = Vec::new();
    loop {
        tokio::select! {
            message = queue.recv() => {
                let Some(message) = message else { return Ok(()) };
                if sent == answered {
                    last_progress = Instant::now();
                }
                batch.clear();
                sent += frame(&message, &mut batch)?;
                // Everything that is there already goes with it.
                while batch.len() < 1 << 16 {
                    let Ok(message) = queue.try_recv() else { break };
                    sent += frame(&message, &mut batch)?;
                }
                match timeout(SILENCE_MAX, writer.write_all(&batch)).await {
                    Ok(written) => written?,
                    Err(_) => return Err(io::ErrorKind::TimedOut.into()),
                }
            }
            read = answers.read(&mut buffer) => {
                let count = read?;
                if count == 0 {
                    return Err(io::ErrorKind::UnexpectedEof.into());
                }
                answered += count as u64;
                last_progress = Instant::now();
            }
            () = tokio::time::sleep_until(last_progress + SILENCE_MAX), if sent > answered => {
                return Err(io::ErrorKind::TimedOut.into());
            }
        }
    }
}

fn frame(message: &PeerMessage, batch: &mut Vec<u8>) -> io::Result<u64> {
    let at = batch.len();
    batch.extend_from_slice(&[0; 4]);
    serde_json::to_writer(&mut *batch, message)?;
    let len = (batch.len() - at - 4) as u32;
    batch[at..at + 4].copy_from_slice(&len.to_le_bytes());
    Ok(1)
}

/// Takes messages in for ever.
///
/// # Errors
/// When the listener breaks.
pub async fn listen(listener: TcpListener, members: usize, inbox: Sender<Input>) -> io::Result<()> {
    loop {
        match listener.accept().await {
            Ok((stream, _)) => {
                let inbox = inbox.clone();
                tokio::spawn(async move {
                    // A broken connection is opened again by the other side.
                    let _ = receive(stream, members, &inbox).await;
                });
            }
            // Out of file descriptors, or a connection that was gone before it was taken.
            Err(_) => sleep(RECONNECT_PAUSE).await,
        }
    }
}

async fn receive(stream: TcpStream, members: usize, inbox: &Sender<Input>) -> io::Result<()> {
    stream.set_nodelay(true)?;
    let (reader, mut writer) = stream.into_split();
    let mut reader = BufReader::with_capacity(1 << 16, reader);
    let from = reader.read_u32_le().await? as Member;
    if from >= members {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = Vec::new();
    loop {
        let len = reader.read_u32_le().await? as usize;
        if len > FRAME_LEN_MAX {
            return Err(io::ErrorKind::InvalidData.into());
        }
        body.resize(len, 0);
        reader.read_exact(&mut body).await?;
        let message = serde_json::from_slice(&body)?;
        writer.write_all(&[1]).await?;
        if inbox.send(Input::Peer { from, message }).is_err() {
            return Ok(());
        }
    }
}

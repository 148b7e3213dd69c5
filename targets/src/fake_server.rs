//! For tests: an HTTP server on loopback that misbehaves as told, and counts what reached it.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::{TcpListener, TcpStream};

/// What to do with one request, after all of it was read.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Then {
    /// Answer with this status and body and keep the connection.
    Answer(u16, &'static str),
    /// The same, and close the connection although nothing announced that.
    AnswerAndClose(u16, &'static str),
    /// Promise a longer body than comes before the connection closes.
    CutShort,
    /// Close without a word.
    Close,
    /// Reset the connection.
    Reset,
    /// Never answer.
    Hang,
}

/// The server; it stops listening when its script is over, so that later connections are refused.
pub(crate) struct FakeServer {
    pub(crate) address: SocketAddr,
    requests: Arc<AtomicUsize>,
    task: tokio::task::JoinHandle<()>,
}

impl FakeServer {
    /// Serves one request per entry of `script`, one connection at a time.
    pub(crate) async fn start(script: &[Then]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let requests = Arc::new(AtomicUsize::new(0));
        let mut script: VecDeque<Then> = script.iter().copied().collect();
        let seen = requests.clone();
        let task = tokio::spawn(async move {
            while !script.is_empty() {
                let Ok((mut stream, _)) = listener.accept().await else { return };
                while read_request(&mut stream).await {
                    seen.fetch_add(1, Ordering::SeqCst);
                    let Some(then) = script.pop_front() else { return };
                    if !carry_out(&mut stream, then).await {
                        break;
                    }
                }
            }
        });
        Self { address, requests, task }
    }

    /// How many whole requests came in.
    pub(crate) fn requests(&self) -> usize {
        self.requests.load(Ordering::SeqCst)
    }

    /// Waits until the script is over and nobody listens any more.
    pub(crate) async fn end(&mut self) {
        (&mut self.task).await.unwrap();
    }
}

impl Drop for FakeServer {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// Reads head and body; false when the other side has gone.
async fn read_request(stream: &mut TcpStream) -> bool {
    let mut bytes = Vec::new();
    loop {
        if let Some(head_len) = bytes.windows(4).position(|end| end == b"\r\n\r\n") {
            let head = String::from_utf8_lossy(&bytes[..head_len]).to_ascii_lowercase();
            let length = head.lines().find_map(|line| line.strip_prefix("content-length:"));
            let length = length.map_or(0, |text| text.trim().parse::<usize>().unwrap());
            if bytes.len() >= head_len + 4 + length {
                return true;
            }
        }
        let mut buffer = [0; 4096];
        match stream.read(&mut buffer).await {
            Ok(read) if read > 0 => bytes.extend_from_slice(&buffer[..read]),
            _ => return false,
        }
    }
}

/// False when the connection is over.
async fn carry_out(stream: &mut TcpStream, then: Then) -> bool {
    let answer = |code: u16, body: &str| {
        format!("HTTP/1.1 {code} x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}", body.len())
    };
    match then {
        Then::Answer(code, body) => {
            stream.write_all(answer(code, body).as_bytes()).await.unwrap();
            true
        }
        Then::AnswerAndClose(code, body) => {
            stream.write_all(answer(code, body).as_bytes()).await.unwrap();
            false
        }
        Then::CutShort => {
            stream.write_all(b"HTTP/1.1 200 x\r\ncontent-length: 100\r\n\r\n{\"ok\": true").await.unwrap();
            false
        }
        Then::Close => false,
        Then::Reset => {
            stream.set_zero_linger().unwrap();
            false
        }
        Then::Hang => std::future::pending().await,
    }
}

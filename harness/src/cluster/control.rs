//! The controller's end of a control channel.

use super::Duplex;
use squall_agent::protocol::{Reply, Request};
use std::time::Duration;

/// A handle to one agent; clones share the channel.
#[derive(Clone)]
pub struct Control {}

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
    /// The channel is gone and could not be opened again.
    #[error("{node}: control channel lost: {why}")]
    Lost {
        /// Which node.
        node: String,
        /// What happened.
        why: String,
    },
}

impl Control {
    /// Sends `request` and waits for its answer for at most 30 s.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn call(&self, request: Request) -> Result<Reply, ControlError> {
        self.call_with(request, Vec::new(), Duration::from_secs(30)).await.map(|(reply, _)| reply)
    }

    /// The same with a payload in both directions and a time limit.
    ///
    /// # Errors
    /// See [`ControlError`].
    pub async fn call_with(
        &self,
        _request: Request,
        _payload: Vec<u8>,
        _timeout: Duration,
    ) -> Result<(Reply, Vec<u8>), ControlError> {
        unimplemented!("being written")
    }

    /// Starts speaking over `duplex`.
    pub fn new(_node: &str, _duplex: Duplex) -> Self {
        unimplemented!("being written")
    }
}

/// Copies a file of a node to this machine; one that is not there becomes an empty file.
///
/// # Errors
/// When the node cannot be asked or the copy cannot be written.
pub async fn fetch_file(control: &Control, remote: &str, local: &std::path::Path) -> anyhow::Result<()> {
    use std::io::Write;
    let mut file = std::fs::File::create(local)?;
    let mut offset = 0;
    loop {
        let request = Request::ReadFile { path: remote.to_owned(), offset, len_max: 1 << 20 };
        let (_, bytes) = control.call_with(request, Vec::new(), Duration::from_secs(30)).await?;
        if bytes.is_empty() {
            return Ok(());
        }
        file.write_all(&bytes)?;
        offset += bytes.len() as u64;
    }
}

//! One HTTP connection of one client, and what can be proven when it fails.

use serde_json::Value as Json;
use squall_checkers::Sym;
use std::time::Duration;

/// How long a connection may take to open. Shorter than the deadline of an operation: a node that cannot be reached is
/// a definite failure, but only if we are the ones to say so.
const CONNECT_TIME_MAX: Duration = Duration::from_secs(1);

/// A client that keeps one connection, follows nothing, retries nothing and knows no proxy.
#[derive(Clone)]
pub(crate) struct Http {
    client: reqwest::Client,
    base: String,
}

/// Why there is no answer.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum NoAnswer {
    /// No connection came about, so nothing was sent.
    NotSent(&'static str),
    /// Something may have been sent.
    MaybeSent(&'static str),
}

impl NoAnswer {
    /// The word for the history.
    pub(crate) fn word(self) -> Sym {
        match self {
            Self::NotSent(word) | Self::MaybeSent(word) => Sym::new(word),
        }
    }
}

impl Http {
    /// For `http://{authority}`.
    pub(crate) fn new(authority: &str) -> anyhow::Result<Self> {
        let client = reqwest::Client::builder()
            .no_proxy()
            .redirect(reqwest::redirect::Policy::none())
            .retry(reqwest::retry::never())
            .connect_timeout(CONNECT_TIME_MAX)
            .pool_max_idle_per_host(1)
            .tcp_nodelay(true)
            .build()?;
        Ok(Self { client, base: format!("http://{authority}") })
    }

    /// Sends a request and reads its whole answer as JSON (null when it is none).
    pub(crate) async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        body: Option<&Json>,
    ) -> Result<(u16, Json), NoAnswer> {
        let mut request = self.client.request(method, format!("{}{path}", self.base));
        if let Some(body) = body {
            request = request.json(body);
        }
        let answer = request.send().await.map_err(|error| classify(&error))?;
        let status = answer.status().as_u16();
        // The head of the answer came, so the request was sent; a body cut short proves nothing more.
        let bytes = answer.bytes().await.map_err(|_| NoAnswer::MaybeSent("answer cut short"))?;
        Ok((status, serde_json::from_slice(&bytes).unwrap_or_default()))
    }
}

/// The server's own words for an error, else its status.
pub(crate) fn error_word(code: u16, body: &Json) -> Sym {
    match body["error"].as_str().or(body["message"].as_str()) {
        Some(error) => Sym::new(error),
        None => Sym::new(&format!("status {code}")),
    }
}

fn classify(error: &reqwest::Error) -> NoAnswer {
    if error.is_connect() {
        // TCP did not even open: refused, unreachable or no answer to SYN. No byte of the request has left.
        return NoAnswer::NotSent(if error.is_timeout() { "connect timeout" } else { "connection refused" });
    }
    if error.is_builder() {
        return NoAnswer::NotSent("bad request");
    }
    if error.is_timeout() {
        return NoAnswer::MaybeSent("timeout");
    }
    // Reset, broken pipe, closed while waiting: the request may have been read and carried out.
    NoAnswer::MaybeSent("connection lost")
}

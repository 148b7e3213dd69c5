//! The clients' side: HTTP and JSON.
//!
//! | request | answer |
//! |---|---|
//! | `GET /kv/{key}` | 200 `{"value": …}`, null for an absent key; linearizable, from any node |
//! | `PUT /kv/{key}` `{"value": 5}` | 200 `{"ok": true, "index": N}` |
//! | `POST /kv/{key}/cas` `{"expected": 5, "new": 6}` | the same, or 409 `{"ok": false, "value": …}` when it was something else |
//! | `DELETE /kv/{key}` | as `PUT` |
//! | `POST /transfer` `{"to": "n2"}` | 202 when this node leads and begins to hand leadership over |
//! | `GET /status`, `GET /metrics`, `GET /healthz` | how it is; counters; 200 when a leader is known |
//!
//! Everything else is `{"error": …, "definite": …}`. `definite: true` is a promise: the request is in no log and never
//! will be. 503 goes with it, 504 with a request that may still take effect. The headers `x-client` and `x-seq` name a
//! request, so that sending it again does not apply it again; the numbers of one client must grow, one request at a time.
//! The content type is not looked at: a body is JSON or an error.

use crate::kv::{Applied, Command, Request};
use crate::metrics::Metrics;
use crate::server::{Answer, Done, Input};
use axum::body::Bytes;
use axum::extract::{DefaultBodyLimit, Path, State};
use axum::http::{HeaderMap, StatusCode};
use axum::routing::{get, post};
use axum::{Json, Router};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use serde_json::{Value, json};
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::Sender;
use std::sync::{Arc, Mutex};
use std::time::{Duration, Instant};
use tokio::sync::oneshot;

/// What the handlers share.
pub struct Api {
    inbox: Sender<Input>,
    metrics: Arc<Metrics>,
    time_max: Duration,
    /// Sessions of this process that no request uses now, with their last number: a request takes one, so that its
    /// retries are recognised and requests side by side do not overtake each other within one.
    sessions: Mutex<Vec<(u64, u64)>>,
    next_session: AtomicU64,
    /// Differs between two lives of one node.
    life: String,
}

/// A longer body is refused (bytes).
const BODY_LEN_MAX: usize = 1 << 20;

type Response = (StatusCode, Json<Value>);

impl Api {
    /// Hands requests to `inbox`; each has `time_max` for its answer.
    pub fn new(inbox: Sender<Input>, metrics: Arc<Metrics>, time_max: Duration, life: String) -> Arc<Self> {
        let (sessions, next_session) = (Mutex::default(), AtomicU64::new(0));
        Arc::new(Self { inbox, metrics, time_max, sessions, next_session, life })
    }

    /// All routes.
    pub fn router(self: &Arc<Self>) -> Router {
        Router::new()
            .route("/kv/{key}", get(read).put(put).delete(delete))
            .route("/kv/{key}/cas", post(cas))
            .route("/transfer", post(transfer))
            .route("/status", get(status))
            .route("/metrics", get(metrics))
            .route("/healthz", get(healthz))
            .fallback(|| async { error(StatusCode::NOT_FOUND, "no such page", true) })
            .method_not_allowed_fallback(|| async {
                error(StatusCode::METHOD_NOT_ALLOWED, "this page does not know that method", true)
            })
            .layer(DefaultBodyLimit::max(BODY_LEN_MAX))
            .with_state(self.clone())
    }

    async fn write(&self, headers: &HeaderMap, command: Command) -> Response {
        let named = |name: &str| headers.get(name)?.to_str().ok().map(str::to_owned);
        if let Some(client) = named("x-client") {
            let Some(sequence) = named("x-seq").and_then(|text| text.parse().ok()) else {
                return error(StatusCode::BAD_REQUEST, "`x-client` needs `x-seq`: a whole number", true);
            };
            return self.propose(Request { session: format!("client/{client}"), sequence, command }).await;
        }
        let free = self.sessions.lock().unwrap_or_else(|e| e.into_inner()).pop();
        let (session, last) = free.unwrap_or_else(|| (self.next_session.fetch_add(1, Ordering::Relaxed), 0));
        let request = Request { session: format!("{}/{session}", self.life), sequence: last + 1, command };
        let response = self.propose(request).await;
        self.sessions.lock().unwrap_or_else(|e| e.into_inner()).push((session, last + 1));
        response
    }

    async fn propose(&self, request: Request) -> Response {
        let Ok(data) = serde_json::to_string(&request) else {
            return error(StatusCode::BAD_REQUEST, "the request cannot be encoded", true);
        };
        let deadline = Instant::now() + self.time_max;
        match self.ask(|reply| Input::Write { data: data.into(), deadline, reply }).await {
            Answer::Done(Done { index, applied: Applied::Done }) => {
                (StatusCode::OK, Json(json!({ "ok": true, "index": index })))
            }
            Answer::Done(Done { applied: Applied::Mismatch(value), .. }) => {
                (StatusCode::CONFLICT, Json(json!({ "ok": false, "value": value })))
            }
            Answer::Done(Done { applied: Applied::Old, .. }) => {
                // Not 409: that would promise that nothing was changed, but this request may well have been applied before.
                error(StatusCode::GONE, "the client has gone on: a later `x-seq` was applied already", false)
            }
            Answer::NoAnswer { why, definite } => no_answer(why, definite),
            Answer::Value(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "a write was answered as a read", false),
        }
    }

    async fn ask(&self, input: impl FnOnce(oneshot::Sender<Answer>) -> Input) -> Answer {
        let (sender, receiver) = oneshot::channel();
        if self.inbox.send(input(sender)).is_err() {
            return Answer::NoAnswer { why: "the node is stopping", definite: true };
        }
        receiver.await.unwrap_or(Answer::NoAnswer { why: "the node is stopping", definite: false })
    }

    async fn status(&self) -> Option<Value> {
        let (reply, receiver) = oneshot::channel();
        self.inbox.send(Input::Status { reply }).ok()?;
        receiver.await.ok()
    }
}

fn error(code: StatusCode, what: &str, definite: bool) -> Response {
    (code, Json(json!({ "error": what, "definite": definite })))
}

fn no_answer(why: &str, definite: bool) -> Response {
    let code = if definite { StatusCode::SERVICE_UNAVAILABLE } else { StatusCode::GATEWAY_TIMEOUT };
    error(code, why, definite)
}

/// The body, whatever its content type says: a person with curl need not name one.
fn parse<T: DeserializeOwned>(body: &[u8]) -> Result<T, Response> {
    serde_json::from_slice(body)
        .map_err(|why| error(StatusCode::BAD_REQUEST, &format!("the body is no good: {why}"), true))
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct PutBody {
    value: Value,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct TransferBody {
    to: String,
}

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct CasBody {
    expected: Value,
    new: Value,
}

async fn read(State(api): State<Arc<Api>>, Path(key): Path<String>) -> Response {
    let deadline = Instant::now() + api.time_max;
    match api.ask(|reply| Input::Read { key, deadline, reply }).await {
        Answer::Value(value) => (StatusCode::OK, Json(json!({ "value": value }))),
        Answer::NoAnswer { why, .. } => no_answer(why, true),
        Answer::Done(_) => error(StatusCode::INTERNAL_SERVER_ERROR, "a read was answered as a write", true),
    }
}

async fn put(State(api): State<Arc<Api>>, Path(key): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    match parse::<PutBody>(&body) {
        Ok(PutBody { value }) => api.write(&headers, Command::Put { key, value }).await,
        Err(refusal) => refusal,
    }
}

async fn cas(State(api): State<Arc<Api>>, Path(key): Path<String>, headers: HeaderMap, body: Bytes) -> Response {
    match parse::<CasBody>(&body) {
        Ok(CasBody { expected, new }) => api.write(&headers, Command::Cas { key, expected, new }).await,
        Err(refusal) => refusal,
    }
}

async fn delete(State(api): State<Arc<Api>>, Path(key): Path<String>, headers: HeaderMap) -> Response {
    api.write(&headers, Command::Delete { key }).await
}

async fn transfer(State(api): State<Arc<Api>>, body: Bytes) -> Response {
    let to = match parse::<TransferBody>(&body) {
        Ok(TransferBody { to }) => to,
        Err(refusal) => return refusal,
    };
    let (reply, receiver) = oneshot::channel();
    let sent = api.inbox.send(Input::Transfer { to, reply });
    match (sent, receiver.await) {
        (Ok(()), Ok(Ok(()))) => (StatusCode::ACCEPTED, Json(json!({ "ok": true }))),
        (Ok(()), Ok(Err(why))) => error(StatusCode::CONFLICT, why, true),
        _ => error(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping", true),
    }
}

async fn status(State(api): State<Arc<Api>>) -> Response {
    match api.status().await {
        Some(status) => (StatusCode::OK, Json(status)),
        None => error(StatusCode::SERVICE_UNAVAILABLE, "the node is stopping", true),
    }
}

async fn metrics(State(api): State<Arc<Api>>) -> String {
    api.metrics.text()
}

async fn healthz(State(api): State<Arc<Api>>) -> StatusCode {
    match api.status().await {
        Some(status) if !status["leader"].is_null() => StatusCode::OK,
        _ => StatusCode::SERVICE_UNAVAILABLE,
    }
}

//! A client of one etcd node, and what its answers prove.
//!
//! The gateway's answers carry etcd's own gRPC code and message beside the HTTP status, which is coarser: both are looked
//! at. Names of codes are those of gRPC.

use crate::http::{Http, NoAnswer, error_word};
use async_trait::async_trait;
use base64::Engine;
use base64::engine::general_purpose::STANDARD as BASE64;
use reqwest::Method;
use serde_json::{Value as Json, json};
use squall_checkers::{Sym, Value};
use squall_harness::{Client, Op, Outcome};

/// gRPC's InvalidArgument.
const INVALID_ARGUMENT: u64 = 3;

/// Speaks the vocabulary of the register workload.
pub(super) struct RegisterClient {
    pub(super) http: Http,
    /// Read what the node has, without asking the leader.
    pub(super) serializable: bool,
}

fn encoded(text: &str) -> String {
    BASE64.encode(text)
}

#[async_trait]
impl Client for RegisterClient {
    async fn invoke(&mut self, op: &Op) -> Outcome {
        let key = encoded(&format!("register/{}", op.key));
        match (op.f.as_str(), &op.value) {
            ("read", _) => {
                let body = json!({ "key": key, "serializable": self.serializable });
                read_outcome(self.http.send(Method::POST, "/v3/kv/range", Some(&body)).await)
            }
            ("write", value) => {
                let body = json!({ "key": key, "value": encoded(&value.to_string()) });
                put_outcome(self.http.send(Method::POST, "/v3/kv/put", Some(&body)).await, value)
            }
            ("cas", Value::List(pair)) if pair.len() == 2 => {
                let body = cas_body(&key, &pair[0], &pair[1]);
                cas_outcome(self.http.send(Method::POST, "/v3/kv/txn", Some(&body)).await, &op.value)
            }
            // Nothing was sent.
            _ => Outcome::Fail(Sym::new("no such operation")),
        }
    }
}

/// A transaction that puts `new` where the value is `expected`; nil is a key that was never created.
fn cas_body(key: &str, expected: &Value, new: &Value) -> Json {
    let compare = if expected.is_nil() {
        json!({ "key": key, "target": "CREATE", "result": "EQUAL", "create_revision": "0" })
    } else {
        json!({ "key": key, "target": "VALUE", "result": "EQUAL", "value": encoded(&expected.to_string()) })
    };
    let put = json!({ "requestPut": { "key": key, "value": encoded(&new.to_string()) } });
    json!({ "compare": [compare], "success": [put] })
}

type Answer = Result<(u16, Json), NoAnswer>;

/// A read changes nothing, so without its answer it certainly had no effect: every failure is `fail`.
fn read_outcome(answer: Answer) -> Outcome {
    let body = match answer {
        Ok((200, body)) => body,
        Ok((code, body)) => return Outcome::Fail(error_word(code, &body)),
        Err(why) => return Outcome::Fail(why.word()),
    };
    if !body["header"].is_object() {
        return Outcome::Fail(Sym::new("not a range"));
    }
    // The gateway leaves out what is empty: no key, no list.
    let Some(found) = body.get("kvs") else { return Outcome::Ok(Value::Nil) };
    let value = found[0]["value"].as_str().and_then(|value| BASE64.decode(value).ok());
    let text = value.and_then(|bytes| String::from_utf8(bytes).ok());
    match text.and_then(|text| text.parse().ok()) {
        Some(number) => Outcome::Ok(Value::Int(number)),
        None => Outcome::Fail(Sym::new("value that nobody wrote")),
    }
}

fn put_outcome(answer: Answer, value: &Value) -> Outcome {
    match answer {
        // Committed and applied: every answer of etcd's own has a header.
        Ok((200, body)) if body["header"].is_object() => Outcome::Ok(value.clone()),
        other => error_outcome(other),
    }
}

fn cas_outcome(answer: Answer, value: &Value) -> Outcome {
    match answer {
        // The comparison was made by the applied transaction. The gateway leaves out `false`.
        Ok((200, body)) if body["header"].is_object() => match body["succeeded"] == true {
            true => Outcome::Ok(value.clone()),
            false => Outcome::Fail(Sym::new("mismatch")),
        },
        other => error_outcome(other),
    }
}

/// The rows that writes share. Deliberately unknown, although some would gladly be definite:
/// - Unavailable: `request timed out` and its kin and `leader changed` come after the proposal went out; `no leader` too,
///   since a proposal waits inside etcd and the message does not say where it was by then.
/// - ResourceExhausted: `database space exceeded` may come from applying, after the put was made.
/// - Unknown, Internal, anything without etcd's words: whoever said that proves nothing.
fn error_outcome(answer: Answer) -> Outcome {
    match answer {
        // Looked at and refused before it was proposed.
        Ok((code, body)) if body["code"] == INVALID_ARGUMENT => Outcome::Fail(error_word(code, &body)),
        // The same: too far behind in applying to accept more. Only this message of ResourceExhausted.
        Ok((code, body)) if body["error"] == "etcdserver: too many requests" => Outcome::Fail(error_word(code, &body)),
        Ok((code, body)) => Outcome::Info(error_word(code, &body)),
        // No connection: no byte of the request has left.
        Err(why @ NoAnswer::NotSent(_)) => Outcome::Fail(why.word()),
        // Timeout, reset, closed, cut short: carried out, perhaps.
        Err(why @ NoAnswer::MaybeSent(_)) => Outcome::Info(why.word()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn fail_only_with_proof() {
        let (one, pair) = (Value::Int(1), Value::list([Value::Int(1), Value::Int(2)]));
        let error = |code, grpc: u64, text: &str| Ok((code, json!({ "error": text, "message": text, "code": grpc })));
        let (fail, info) = (|word| Outcome::Fail(Sym::new(word)), |word| Outcome::Info(Sym::new(word)));
        let table: [(Answer, Outcome); 12] = [
            (error(400, 3, "etcdserver: key is not provided"), fail("etcdserver: key is not provided")),
            (error(400, 9, "etcdserver: not leader"), info("etcdserver: not leader")),
            (error(400, 11, "etcdserver: mvcc"), info("etcdserver: mvcc")),
            (error(429, 8, "etcdserver: too many requests"), fail("etcdserver: too many requests")),
            (
                error(429, 8, "etcdserver: mvcc: database space exceeded"),
                info("etcdserver: mvcc: database space exceeded"),
            ),
            (error(503, 14, "etcdserver: request timed out"), info("etcdserver: request timed out")),
            (error(503, 14, "etcdserver: leader changed"), info("etcdserver: leader changed")),
            (error(503, 14, "etcdserver: no leader"), info("etcdserver: no leader")),
            (Ok((404, Json::Null)), info("status 404")),
            (Ok((200, Json::Null)), info("status 200")),
            (Err(NoAnswer::NotSent("connection refused")), fail("connection refused")),
            (Err(NoAnswer::MaybeSent("timeout")), info("timeout")),
        ];
        for (answer, outcome) in table {
            assert_eq!(put_outcome(answer.clone(), &one), outcome, "{answer:?}");
            assert_eq!(cas_outcome(answer.clone(), &pair), outcome, "{answer:?}");
            assert!(matches!(read_outcome(answer.clone()), Outcome::Fail(_)), "{answer:?}");
        }
        let applied = |succeeded| Ok((200, json!({ "header": {}, "succeeded": succeeded })));
        assert_eq!(put_outcome(Ok((200, json!({ "header": {} }))), &one), Outcome::Ok(one));
        assert_eq!(cas_outcome(applied(true), &pair), Outcome::Ok(pair.clone()));
        assert_eq!(cas_outcome(applied(false), &pair), fail("mismatch"));
        assert_eq!(cas_outcome(Ok((200, json!({ "header": {} }))), &pair), fail("mismatch"));
    }

    #[test]
    fn reads_decode_what_was_written() {
        let found = |value: &str| Ok((200, json!({ "header": {}, "kvs": [ { "value": value } ] })));
        let nobody = Outcome::Fail(Sym::new("value that nobody wrote"));
        assert_eq!(read_outcome(found(&encoded("42"))), Outcome::Ok(Value::Int(42)));
        assert_eq!(read_outcome(found(&encoded("x"))), nobody);
        assert_eq!(read_outcome(found("*")), nobody);
        assert_eq!(read_outcome(Ok((200, json!({ "header": {}, "kvs": [ {} ] })))), nobody);
        assert_eq!(read_outcome(Ok((200, json!({ "header": {} })))), Outcome::Ok(Value::Nil));
    }
}

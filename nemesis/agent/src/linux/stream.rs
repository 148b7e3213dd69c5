//! Requests and answers on a blocking stream.

use crate::frame::{HEAD_LEN, encode, lengths};
use crate::protocol::{AgentError, Reply, Request};
use serde::{Deserialize, Serialize};
use std::io::{self, Read, Write};

/// A request as it came in.
#[derive(Debug, PartialEq)]
pub(crate) struct Asked {
    /// The controller's number for it.
    pub(crate) id: u64,
    /// What is asked.
    pub(crate) request: Request,
    /// Bytes that belong to it.
    pub(crate) payload: Vec<u8>,
}

#[derive(Deserialize)]
struct Question {
    id: u64,
    request: Request,
}

#[derive(Serialize)]
struct Answer<'a> {
    id: u64,
    #[serde(skip_serializing_if = "Option::is_none")]
    reply: Option<&'a Reply>,
    #[serde(skip_serializing_if = "Option::is_none")]
    error: Option<&'a AgentError>,
}

/// Reads one request; `None` at the end of the stream between two frames.
///
/// # Errors
/// When the stream breaks, or what comes is no frame of ours.
pub(crate) fn read_request(stream: &mut impl Read) -> io::Result<Option<Asked>> {
    let mut head = [0; HEAD_LEN];
    match stream.read(&mut head[..1])? {
        0 => return Ok(None),
        _ => stream.read_exact(&mut head[1..])?,
    }
    let (len, json_len) = lengths(head)?;
    // Grows with what really arrives: a lie about the length costs its teller, not our memory.
    let mut body = Vec::new();
    if stream.take(len as u64).read_to_end(&mut body)? < len {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let payload = body.split_off(json_len);
    let question: Question = serde_json::from_slice(&body).map_err(|error| {
        io::Error::new(io::ErrorKind::InvalidData, format!("a request is not JSON of ours: {error}"))
    })?;
    Ok(Some(Asked { id: question.id, request: question.request, payload }))
}

/// Writes one answer.
///
/// # Errors
/// When the stream breaks.
pub(crate) fn write_answer(
    stream: &mut impl Write,
    id: u64,
    answer: &Result<(Reply, Vec<u8>), AgentError>,
) -> io::Result<()> {
    let (reply, error, payload) = match answer {
        Ok((reply, payload)) => (Some(reply), None, payload.as_slice()),
        Err(error) => (None, Some(error), &[][..]),
    };
    let json = serde_json::to_vec(&Answer { id, reply, error })?;
    stream.write_all(&encode(&json, payload)?)?;
    stream.flush()
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn anything_is_read_without_panic(bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = read_request(&mut bytes.as_slice());
        }

        #[test]
        fn a_request_cut_anywhere_is_an_error(cut in 1usize..60) {
            let json = br#"{"id":7,"request":{"status":{"name":"etcd"}}}"#;
            let frame = encode(json, b"abc").unwrap();
            let whole = read_request(&mut frame.as_slice()).unwrap().unwrap();
            prop_assert_eq!(whole.payload, b"abc");
            prop_assert_eq!(whole.request, Request::Status { name: "etcd".to_owned() });
            prop_assume!(cut < frame.len());
            prop_assert!(read_request(&mut &frame[..cut]).is_err());
        }
    }

    #[test]
    fn the_end_between_frames_is_an_end() {
        assert_eq!(read_request(&mut [].as_slice()).unwrap(), None);
    }
}

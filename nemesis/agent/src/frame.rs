//! Frames on a blocking stream; see [`protocol`](crate::protocol) for their layout.

use crate::protocol::{AgentError, FRAME_LEN_MAX, Reply, Request};
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
    let mut head = [0; 8];
    match stream.read(&mut head[..1])? {
        0 => return Ok(None),
        _ => stream.read_exact(&mut head[1..])?,
    }
    let word = |at: usize| u32::from_le_bytes([head[at], head[at + 1], head[at + 2], head[at + 3]]) as usize;
    let (len, json_len) = (word(0), word(4));
    if !(4..=FRAME_LEN_MAX).contains(&len) || json_len > len - 4 {
        return Err(garbage(format!(
            "a frame of {len} bytes with {json_len} of JSON: this is not a squall controller"
        )));
    }
    // Grows with what really arrives: a lie about the length costs its teller, not our memory.
    let mut body = Vec::new();
    if stream.take((len - 4) as u64).read_to_end(&mut body)? < len - 4 {
        return Err(io::ErrorKind::UnexpectedEof.into());
    }
    let payload = body.split_off(json_len);
    let question: Question =
        serde_json::from_slice(&body).map_err(|error| garbage(format!("a request is not JSON of ours: {error}")))?;
    Ok(Some(Asked { id: question.id, request: question.request, payload }))
}

fn garbage(what: String) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, what)
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
    let mut frame = Vec::with_capacity(8 + json.len() + payload.len());
    frame.extend_from_slice(&((4 + json.len() + payload.len()) as u32).to_le_bytes());
    frame.extend_from_slice(&(json.len() as u32).to_le_bytes());
    frame.extend_from_slice(&json);
    frame.extend_from_slice(payload);
    stream.write_all(&frame)?;
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
            let mut frame = Vec::new();
            frame.extend_from_slice(&(4 + json.len() as u32 + 3).to_le_bytes());
            frame.extend_from_slice(&(json.len() as u32).to_le_bytes());
            frame.extend_from_slice(json);
            frame.extend_from_slice(b"abc");
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

//! The layout of a frame (see [`protocol`](crate::protocol)), for both ends of the stream.

use crate::protocol::FRAME_LEN_MAX;
use std::io;

/// Bytes before the JSON part.
pub const HEAD_LEN: usize = 8;

/// A whole frame.
///
/// # Errors
/// When it would be too long.
pub fn encode(json: &[u8], payload: &[u8]) -> io::Result<Vec<u8>> {
    let len = 4 + json.len() + payload.len();
    if len > FRAME_LEN_MAX {
        return Err(io::Error::other(format!("{len} bytes are too long for a frame")));
    }
    let mut frame = Vec::with_capacity(4 + len);
    frame.extend_from_slice(&(len as u32).to_le_bytes());
    frame.extend_from_slice(&(json.len() as u32).to_le_bytes());
    frame.extend_from_slice(json);
    frame.extend_from_slice(payload);
    Ok(frame)
}

/// How many bytes follow the head, and how many of them are JSON.
///
/// # Errors
/// When these are no lengths of a frame: the other end is none of ours.
pub fn lengths(head: [u8; HEAD_LEN]) -> io::Result<(usize, usize)> {
    let [a, b, c, d, e, f, g, h] = head;
    let (len, json_len) = (u32::from_le_bytes([a, b, c, d]) as usize, u32::from_le_bytes([e, f, g, h]) as usize);
    if !(4..=FRAME_LEN_MAX).contains(&len) || json_len > len - 4 {
        let what = format!("a frame of {len} bytes with {json_len} of JSON: the other end is not squall");
        return Err(io::Error::new(io::ErrorKind::InvalidData, what));
    }
    Ok((len - 4, json_len))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_head_says_what_follows_or_is_refused() {
        let frame = encode(b"{}", b"abc").unwrap();
        let head = |bytes: &[u8]| lengths(bytes[..HEAD_LEN].try_into().unwrap());
        assert_eq!(head(&frame).unwrap(), (5, 2));
        for bad in [[0; 8], [0xff; 8], [5, 0, 0, 0, 2, 0, 0, 0]] {
            assert!(head(&bad).is_err(), "{bad:?}");
        }
        assert!(encode(&vec![0; FRAME_LEN_MAX], b"").is_err());
    }
}

//! Reading a whole history file with all cores: frames are independent of each other.
//!
//! One thread finds the frames and puts the events together again, the others decompress and parse. Whatever is out of
//! the ordinary (damage, a line that cannot be read, indexes with a gap) ends the attempt: then one thread reads from the
//! start, and says exactly what is wrong and where.

use super::fast::{self, Vocabulary};
use super::parse_line;
use super::reader::{Found, Frame, Frames, Truncated, decompress};
use crate::{Event, History, HistoryError};
use std::collections::BTreeMap;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Mutex;
use std::sync::mpsc::{Receiver, Sender, channel};

/// Frames of unknown or greater length are left to the reader that holds one at a time (bytes).
const FRAME_LEN_MAX: u64 = 4 << 20;

/// Frames that are under way, per thread.
const FRAMES_AHEAD: u64 = 3;

/// Something is out of the ordinary.
struct Unusual;

/// Reads all frames; `None` where one thread must read them.
pub(super) fn read_all(frames: Frames) -> Option<(History, Option<Truncated>)> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from);
    let (work_sender, work) = channel::<(u64, Vec<u8>)>();
    let (parsed_sender, parsed) = channel();
    let work = Mutex::new(work);
    std::thread::scope(|scope| {
        for _ in 0..threads {
            let (work, parsed) = (&work, parsed_sender.clone());
            scope.spawn(move || parse_frames(work, &parsed));
        }
        drop(parsed_sender);
        // The work's sender goes with this call: then the threads end.
        collect(frames, work_sender, &parsed, FRAMES_AHEAD * threads as u64).ok()
    })
}

/// The number of a frame and its events.
type Parsed = (u64, Result<Chunk, Unusual>);

/// The events of one frame, as a history of their own.
#[derive(Default)]
struct Chunk {
    history: History,
    /// Index of the first one in the file.
    first_index: u64,
}

impl Chunk {
    fn push(&mut self, mut event: Event) -> Result<(), Unusual> {
        let place = self.history.len() as u64;
        if place == 0 {
            self.first_index = event.index;
        }
        if event.index != self.first_index + place {
            return Err(Unusual);
        }
        event.index = place;
        self.history.push(event).map_err(|_| Unusual)
    }
}

fn collect(
    mut frames: Frames,
    work: Sender<(u64, Vec<u8>)>,
    parsed: &Receiver<Parsed>,
    ahead_max: u64,
) -> Result<(History, Option<Truncated>), Unusual> {
    let mut history = History::new();
    let (mut sent, mut taken) = (0, 0);
    let mut waiting: BTreeMap<u64, Chunk> = BTreeMap::new();
    let mut end = None;
    loop {
        while end.is_none() && sent - taken < ahead_max {
            match frames.find().map_err(|_| Unusual)? {
                Found::Frame { len } if content_len(frames.found(len)).is_some_and(|len| len <= FRAME_LEN_MAX) => {
                    work.send((sent, frames.found(len).to_vec())).map_err(|_| Unusual)?;
                    frames.pass(len);
                    sent += 1;
                }
                Found::Frame { .. } => return Err(Unusual),
                Found::End => end = Some(None),
                Found::Broken(message) => match frames.broken(message) {
                    Ok(Frame::CutOff { offset, bytes_lost }) => end = Some(Some((offset, bytes_lost))),
                    _ => return Err(Unusual),
                },
            }
        }
        if sent == taken {
            let truncated = end.flatten().map(|(offset, bytes_lost)| {
                let events = history.len() as u64;
                Truncated { events, offset, bytes_lost }
            });
            return Ok((history, truncated));
        }
        let (number, chunk) = parsed.recv().map_err(|_| Unusual)?;
        waiting.insert(number, chunk?);
        while let Some(chunk) = waiting.remove(&taken) {
            if chunk.first_index != history.len() as u64 && !chunk.history.is_empty() {
                return Err(Unusual);
            }
            history.append(&chunk.history).map_err(|_: HistoryError| Unusual)?;
            taken += 1;
        }
    }
}

/// How long a frame says it is when decompressed (bytes).
fn content_len(frame: &[u8]) -> Option<u64> {
    zstd::zstd_safe::get_frame_content_size(frame).ok().flatten()
}

/// The life of a thread that parses.
fn parse_frames(work: &Mutex<Receiver<(u64, Vec<u8>)>>, parsed: &Sender<Parsed>) {
    let mut vocabulary = Vocabulary::new();
    let mut text = Vec::new();
    loop {
        let next = work.lock().unwrap_or_else(|e| e.into_inner()).recv();
        let Ok((number, raw)) = next else { return };
        // A thread that died would be waited for.
        let chunk = catch_unwind(AssertUnwindSafe(|| match decompress(&raw, &mut text) {
            Ok(()) => parse(&text, &mut vocabulary),
            Err(_) => Err(Unusual),
        }));
        let chunk = chunk.unwrap_or(Err(Unusual));
        if parsed.send((number, chunk)).is_err() {
            return;
        }
    }
}

/// The events of one frame; their indexes begin anywhere and are dense.
fn parse(mut text: &[u8], vocabulary: &mut Vocabulary) -> Result<Chunk, Unusual> {
    let mut chunk = Chunk::default();
    while !text.is_empty() {
        let event = if let Some((event, len)) = fast::parse(text, vocabulary) {
            text = &text[len..];
            event
        } else {
            let len = text.iter().position(|&byte| byte == b'\n').ok_or(Unusual)?;
            let (line, rest) = (&text[..len], &text[len + 1..]);
            text = rest;
            if line.trim_ascii().is_empty() {
                continue;
            }
            parse_line(line, 0, 0).map_err(|_| Unusual)?
        };
        chunk.push(event)?;
    }
    Ok(chunk)
}

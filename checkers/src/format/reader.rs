//! Reading a history file up to its last intact frame.
//!
//! A frame yields its events only after its checksum has been verified, so that no event is ever wrong. Where a frame
//! is not intact there are two cases: nothing intact follows (the writer was cut off: [`Truncated`], the rest is fine),
//! or something intact does (damage in the middle: an error that says where). Damage in the last frame looks like
//! either, depending on the bit; both say how many events are good.

use super::fast::{self, Vocabulary};
use super::parse_line;
use crate::{Event, History, HistoryError};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
use std::sync::mpsc::{Receiver, sync_channel};
use zstd::zstd_safe::find_frame_compressed_size;

/// First bytes of a zstd frame.
pub(crate) const ZSTD_MAGIC: [u8; 4] = [0x28, 0xB5, 0x2F, 0xFD];

/// A frame may not be longer than this when decompressed (bytes): a file of another origin must not exhaust memory.
const FRAME_LEN_MAX: u64 = 1 << 30;

/// How much is read at a time (bytes).
const CHUNK_LEN: usize = 1 << 20;

/// The file ends in the middle of a frame: its writer was killed, or is still at work.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Truncated {
    /// Events `0..events` are intact.
    pub events: u64,
    /// Where the first incomplete frame starts (bytes).
    pub offset: u64,
    /// What is left over after it (bytes).
    pub bytes_lost: u64,
}

impl fmt::Display for Truncated {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(
            f,
            "the file ends in the middle of a frame: {} events are intact, {} bytes from byte {} on are not",
            self.events, self.bytes_lost, self.offset
        )
    }
}

/// Streams the events of a history file.
pub struct HistoryReader {
    source: Source,
    vocabulary: Vocabulary,
    /// Text of the current frame and the place in it.
    text: Vec<u8>,
    text_at: usize,
    lines: u64,
    events: u64,
    truncated: Option<Truncated>,
    finished: bool,
}

/// Where the texts of frames come from.
enum Source {
    Here(Frames),
    /// Another thread, which is one frame ahead.
    Ahead {
        frames: Receiver<Delivery>,
        path: PathBuf,
    },
}

/// What that thread sends: what came, and its text.
type Delivery = Result<(Frame, Vec<u8>), HistoryError>;

/// While a frame longer than this is in use, no other is decompressed (bytes): there are never two of the longest.
const FRAME_LEN_SHARED_MAX: usize = 16 << 20;

impl HistoryReader {
    /// Opens a history file.
    ///
    /// # Errors
    /// When it cannot be opened.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, HistoryError> {
        let path = path.as_ref();
        let file =
            File::open(path).map_err(|source| HistoryError::Io { action: "open", path: path.to_owned(), source })?;
        Ok(Self::new(path, Box::new(file)))
    }

    /// Reads a history file from anywhere; `path` is for error messages.
    pub(crate) fn new(path: &Path, file: Box<dyn Read + Send>) -> Self {
        Self {
            source: Source::Here(Frames::new(path, file)),
            vocabulary: Vocabulary::new(),
            text: Vec::new(),
            text_at: 0,
            lines: 0,
            events: 0,
            truncated: None,
            finished: false,
        }
    }

    /// Reads all of it into memory; another thread decompresses.
    ///
    /// # Errors
    /// When the file is damaged in the middle, or cannot be read.
    pub fn read_all(mut self) -> Result<(History, Option<Truncated>), HistoryError> {
        if let Source::Here(frames) = self.source {
            let path = frames.path.clone();
            let frames = frames.decompress_ahead().map_err(|source| HistoryError::Io {
                action: "start a thread to read",
                path: path.clone(),
                source,
            })?;
            self.source = Source::Ahead { frames, path };
        }
        let mut history = History::new();
        for event in &mut self {
            history.push(event?)?;
        }
        Ok((history, self.truncated))
    }

    /// Whether the file turned out to end in the middle of a frame; known once all events have been read.
    pub fn truncated(&self) -> Option<Truncated> {
        self.truncated
    }

    /// Brings the next frame's text. `false` at the end.
    fn next_frame(&mut self) -> Result<bool, HistoryError> {
        let frame = match &mut self.source {
            Source::Here(frames) => frames.next(&mut self.text),
            Source::Ahead { frames, path } => {
                // It says so when it comes to the end: silence is no end.
                let silent = |_| {
                    let source = io::Error::other("the thread that decompresses died: this is a bug in squall");
                    Err(HistoryError::Io { action: "read", path: path.clone(), source })
                };
                frames.recv().unwrap_or_else(silent).map(|(frame, text)| {
                    self.text = text;
                    frame
                })
            }
        };
        self.text_at = 0;
        match frame {
            Ok(Frame::Text) => Ok(true),
            Ok(Frame::End) => Ok(false),
            Ok(Frame::CutOff { offset, bytes_lost }) => {
                self.truncated = Some(Truncated { events: self.events, offset, bytes_lost });
                Ok(false)
            }
            Err(HistoryError::CorruptFrame { frame, offset, message, .. }) => {
                Err(HistoryError::CorruptFrame { frame, offset, events_intact: self.events, message })
            }
            Err(other) => Err(other),
        }
    }

    fn next_event(&mut self) -> Result<Option<Event>, HistoryError> {
        loop {
            let rest = &self.text[self.text_at..];
            let event = if let Some((event, len)) = fast::parse(rest, &mut self.vocabulary) {
                self.lines += 1;
                self.text_at += len;
                event
            } else {
                let Some(len) = rest.iter().position(|&byte| byte == b'\n') else {
                    if !self.next_frame()? {
                        return Ok(None);
                    }
                    continue;
                };
                self.lines += 1;
                self.text_at += len + 1;
                if rest[..len].trim_ascii().is_empty() {
                    continue;
                }
                parse_line(&rest[..len], self.lines, self.events)?
            };
            if event.index != self.events {
                return Err(HistoryError::IndexGap { expected: self.events, found: event.index });
            }
            self.events += 1;
            return Ok(Some(event));
        }
    }
}

/// What comes next in a file.
enum Frame {
    /// The text of an intact frame.
    Text,
    /// Nothing.
    End,
    /// The beginning of a frame that was never finished.
    CutOff { offset: u64, bytes_lost: u64 },
}

/// The frames of a file, one after the other.
struct Frames {
    path: PathBuf,
    file: Box<dyn Read + Send>,
    /// Bytes of the file from `offset` on, not yet decoded.
    raw: Vec<u8>,
    at: usize,
    end_of_file: bool,
    /// Where `raw[at]` is in the file.
    offset: u64,
    frame: u64,
}

impl Frames {
    fn new(path: &Path, file: Box<dyn Read + Send>) -> Self {
        Self { path: path.to_owned(), file, raw: Vec::new(), at: 0, end_of_file: false, offset: 0, frame: 0 }
    }

    /// Hands itself to a thread that decompresses the next frame while the last one is in use.
    fn decompress_ahead(mut self) -> io::Result<Receiver<Delivery>> {
        // Without a queue: whoever sends waits until somebody takes.
        let (sender, receiver) = sync_channel(0);
        std::thread::Builder::new().spawn(move || {
            loop {
                let mut text = Vec::new();
                let frame = self.next(&mut text);
                let (is_last, is_long) = (!matches!(frame, Ok(Frame::Text)), text.len() > FRAME_LEN_SHARED_MAX);
                let is_taken = sender.send(frame.map(|frame| (frame, text))).is_ok();
                // An empty one is taken when the long one is done with.
                let is_done = is_taken && (!is_long || sender.send(Ok((Frame::Text, Vec::new()))).is_ok());
                if is_last || !is_done {
                    return;
                }
            }
        })?;
        Ok(receiver)
    }

    /// Decompresses the next frame. How many events came before a damaged one is for the caller to say.
    fn next(&mut self, text: &mut Vec<u8>) -> Result<Frame, HistoryError> {
        text.clear();
        if self.at == self.raw.len() && !self.fill()? {
            return Ok(Frame::End);
        }
        let len = loop {
            match find_frame_compressed_size(&self.raw[self.at..]) {
                Ok(len) => break len,
                Err(_) if self.may_grow() && self.fill()? => {}
                Err(_) => return self.broken("its header or the size of a block makes no sense", text),
            }
        };
        // What no writer does is damage: a bit flip must not switch the checksum off (bit 2 of the descriptor), and
        // bit 4 is unused (RFC 8878, 3.1.1.1.1).
        let descriptor = self.raw[self.at..].get(4).copied().unwrap_or_default();
        if descriptor & 0b1_0100 != 0b0_0100 {
            return self.broken("its header has no checksum flag, or an unknown one", text);
        }
        let intact = decompress(&self.raw[self.at..self.at + len], text);
        if let Err(error) = intact {
            return self.broken(&error.to_string(), text);
        }
        if !text.ends_with(b"\n") && !text.is_empty() {
            return self.broken("it ends in the middle of a line", text);
        }
        self.at += len;
        self.offset += len as u64;
        self.frame += 1;
        Ok(Frame::Text)
    }

    /// More of the file can only help while what is there starts like a frame.
    fn may_grow(&self) -> bool {
        let start = &self.raw[self.at..];
        !self.end_of_file && ZSTD_MAGIC.starts_with(&start[..start.len().min(4)])
    }

    /// Reads on. `false` when there is nothing more.
    fn fill(&mut self) -> Result<bool, HistoryError> {
        self.raw.drain(..self.at);
        self.at = 0;
        // Each frame is searched from its start again, so growing has to be geometric.
        let want = CHUNK_LEN.max(self.raw.len());
        let got = (&mut self.file).take(want as u64).read_to_end(&mut self.raw).map_err(|source| HistoryError::Io {
            action: "read",
            path: self.path.clone(),
            source,
        })?;
        self.end_of_file = got == 0;
        Ok(got > 0)
    }

    /// The frame at hand is not intact: cut off, or damaged? Nothing of it may be used.
    fn broken(&mut self, message: &str, text: &mut Vec<u8>) -> Result<Frame, HistoryError> {
        text.clear();
        while !self.end_of_file {
            self.fill()?;
        }
        let rest = &self.raw[self.at..];
        if !holds_intact_frame(rest.get(1..).unwrap_or_default()) && !is_whole(rest) {
            return Ok(Frame::CutOff { offset: self.offset, bytes_lost: rest.len() as u64 });
        }
        Err(HistoryError::CorruptFrame {
            frame: self.frame,
            offset: self.offset,
            events_intact: 0,
            message: message.to_owned(),
        })
    }
}

impl Iterator for HistoryReader {
    type Item = Result<Event, HistoryError>;

    /// The next event. After an error or the end there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let next = self.next_event().transpose();
        self.finished = !matches!(next, Some(Ok(_)));
        next
    }
}

/// Decompresses one frame and verifies its checksum.
fn decompress(frame: &[u8], text: &mut Vec<u8>) -> io::Result<()> {
    text.clear();
    let mut decoder = zstd::stream::read::Decoder::with_buffer(frame)?.single_frame();
    let len = (&mut decoder).take(FRAME_LEN_MAX + 1).read_to_end(text)? as u64;
    if len > FRAME_LEN_MAX {
        return Err(io::Error::other(format!("it is longer than {FRAME_LEN_MAX} bytes")));
    }
    Ok(())
}

/// Whether these bytes are exactly one complete frame, though perhaps a damaged one: then nothing was cut off.
fn is_whole(bytes: &[u8]) -> bool {
    find_frame_compressed_size(bytes).is_ok()
}

/// Whether an intact, non-empty frame starts anywhere in these bytes.
fn holds_intact_frame(bytes: &[u8]) -> bool {
    let mut text = Vec::new();
    bytes.windows(4).enumerate().filter(|(_, window)| *window == ZSTD_MAGIC).any(|(at, _)| {
        find_frame_compressed_size(&bytes[at..])
            .is_ok_and(|len| decompress(&bytes[at..at + len], &mut text).is_ok() && !text.is_empty())
    })
}

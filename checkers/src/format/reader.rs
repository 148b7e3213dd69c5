//! Reading a history file up to its last intact frame.
//!
//! A frame yields its events only after its checksum has been verified, so that no event is ever wrong. Where a frame
//! is not intact there are two cases: nothing intact follows (the writer was cut off: [`Truncated`], the rest is fine),
//! or something intact does (damage in the middle: an error that says where). Damage in the last frame looks like
//! either, depending on the bit; both say how many events are good.

use super::fast::{self, Vocabulary};
use super::{parallel, parse_line};
use crate::{Event, History, HistoryError};
use std::fmt;
use std::fs::File;
use std::io::{self, Read};
use std::path::{Path, PathBuf};
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
    frames: Frames,
    vocabulary: Vocabulary,
    /// Text of the current frame and the place in it.
    text: Vec<u8>,
    text_at: usize,
    lines: u64,
    events: u64,
    truncated: Option<Truncated>,
    finished: bool,
}

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
            frames: Frames::new(path, file),
            vocabulary: Vocabulary::new(),
            text: Vec::new(),
            text_at: 0,
            lines: 0,
            events: 0,
            truncated: None,
            finished: false,
        }
    }

    /// Reads a whole file into memory, with all cores.
    ///
    /// # Errors
    /// When it is damaged in the middle, or cannot be read.
    pub fn read_file(path: impl AsRef<Path>) -> Result<(History, Option<Truncated>), HistoryError> {
        match parallel::read_all(Self::open(&path)?.frames) {
            Some(read) => Ok(read),
            None => Self::open(path)?.read_all(),
        }
    }

    /// Reads all of it into memory.
    ///
    /// # Errors
    /// When the file is damaged in the middle, or cannot be read.
    pub fn read_all(mut self) -> Result<(History, Option<Truncated>), HistoryError> {
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
        let frame = self.frames.next(&mut self.text);
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

/// What stands next in a file, not looked into yet.
pub(super) enum Found {
    /// A complete frame of so many bytes.
    Frame {
        /// How many.
        len: usize,
    },
    /// Nothing.
    End,
    /// No complete frame, and why not: damaged, or cut off.
    Broken(&'static str),
}

/// What comes next in a file.
pub(super) enum Frame {
    /// The text of an intact frame.
    Text,
    /// Nothing.
    End,
    /// The beginning of a frame that was never finished.
    CutOff { offset: u64, bytes_lost: u64 },
}

/// The frames of a file, one after the other.
pub(super) struct Frames {
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

    /// Decompresses the next frame. How many events came before a damaged one is for the caller to say.
    fn next(&mut self, text: &mut Vec<u8>) -> Result<Frame, HistoryError> {
        text.clear();
        let len = match self.find()? {
            Found::Frame { len } => len,
            Found::End => return Ok(Frame::End),
            Found::Broken(message) => return self.broken(message),
        };
        let intact = decompress(self.found(len), text);
        if let Err(error) = intact {
            text.clear();
            return self.broken(&error.to_string());
        }
        if !text.ends_with(b"\n") && !text.is_empty() {
            text.clear();
            return self.broken("it ends in the middle of a line");
        }
        self.pass(len);
        Ok(Frame::Text)
    }

    /// Looks for the next frame, and does not pass it.
    pub(super) fn find(&mut self) -> Result<Found, HistoryError> {
        if self.at == self.raw.len() && !self.fill()? {
            return Ok(Found::End);
        }
        let len = loop {
            match find_frame_compressed_size(&self.raw[self.at..]) {
                Ok(len) => break len,
                Err(_) if self.may_grow() && self.fill()? => {}
                Err(_) => return Ok(Found::Broken("its header or the size of a block makes no sense")),
            }
        };
        // What no writer does is damage: a bit flip must not switch the checksum off (bit 2 of the descriptor), and
        // bit 4 is unused (RFC 8878, 3.1.1.1.1).
        let descriptor = self.raw[self.at..].get(4).copied().unwrap_or_default();
        if descriptor & 0b1_0100 != 0b0_0100 {
            return Ok(Found::Broken("its header has no checksum flag, or an unknown one"));
        }
        Ok(Found::Frame { len })
    }

    /// The bytes of the frame that was found.
    pub(super) fn found(&self, len: usize) -> &[u8] {
        &self.raw[self.at..self.at + len]
    }

    /// Goes on behind the frame that was found.
    pub(super) fn pass(&mut self, len: usize) {
        self.at += len;
        self.offset += len as u64;
        self.frame += 1;
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
    pub(super) fn broken(&mut self, message: &str) -> Result<Frame, HistoryError> {
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
pub(super) fn decompress(frame: &[u8], text: &mut Vec<u8>) -> io::Result<()> {
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

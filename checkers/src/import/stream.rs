//! Reading a history of any length, event by event, in bounded memory: our own files and JSON Lines.
//!
//! The other formats have no indexes of their own and forms that span lines; they are read whole ([`super::read_any`]),
//! and can be exported as JSON Lines.

use super::{Format, detect};
use crate::format::{HistoryReader, Truncated, Vocabulary, ZSTD_MAGIC, parse_line, parse_own_line};
use crate::{Event, HistoryError};
use std::fs::File;
use std::io::{BufRead, BufReader, Cursor, Read};
use std::path::{Path, PathBuf};

/// So much is looked at to recognise the format (bytes).
const START_LEN: u64 = 4 << 10;

/// A line may not be longer than this (bytes).
const LINE_LEN_MAX: u64 = 64 << 20;

/// The events of a file, one after the other.
pub struct EventStream {
    source: Source,
    finished: bool,
}

enum Source {
    Frames(Box<HistoryReader>),
    Lines(Lines),
}

struct Lines {
    path: PathBuf,
    text: BufReader<Box<dyn Read + Send>>,
    line: Vec<u8>,
    number: u64,
    events: u64,
    vocabulary: Box<Vocabulary>,
}

impl EventStream {
    /// Opens a file; a pipe will do.
    ///
    /// # Errors
    /// When it cannot be read, or is in a format that cannot be streamed.
    pub fn open(path: impl AsRef<Path>) -> Result<Self, HistoryError> {
        let path = path.as_ref();
        let io = |source| HistoryError::Io { action: "read", path: path.to_owned(), source };
        let mut file = File::open(path).map_err(io)?;
        let mut start = Vec::new();
        (&mut file).take(START_LEN).read_to_end(&mut start).map_err(io)?;
        // An empty file is one whose writer was killed before its first frame.
        let is_frames = start.starts_with(&ZSTD_MAGIC) || ZSTD_MAGIC.starts_with(&start);
        if !is_frames && detect(&start) != Some(Format::JsonLines) {
            return Err(HistoryError::UnknownFormat(
                "only history files and JSON Lines can be streamed (`squall export` writes them)".to_owned(),
            ));
        }
        let all: Box<dyn Read + Send> = Box::new(Cursor::new(start).chain(file));
        let source = if is_frames {
            Source::Frames(Box::new(HistoryReader::new(path, all)))
        } else {
            Source::Lines(Lines {
                path: path.to_owned(),
                text: BufReader::with_capacity(1 << 18, all),
                line: Vec::new(),
                number: 0,
                events: 0,
                vocabulary: Box::new(Vocabulary::new()),
            })
        };
        Ok(Self { source, finished: false })
    }

    /// Whether the file turned out to end in the middle of a frame; known once all events have been read.
    pub fn truncated(&self) -> Option<Truncated> {
        match &self.source {
            Source::Frames(reader) => reader.truncated(),
            Source::Lines(_) => None,
        }
    }
}

impl Iterator for EventStream {
    type Item = Result<Event, HistoryError>;

    /// The next event. After an error or the end there is nothing more.
    fn next(&mut self) -> Option<Self::Item> {
        if self.finished {
            return None;
        }
        let next = match &mut self.source {
            Source::Frames(reader) => reader.next(),
            Source::Lines(lines) => lines.next().transpose(),
        };
        self.finished = !matches!(next, Some(Ok(_)));
        next
    }
}

impl Lines {
    fn next(&mut self) -> Result<Option<Event>, HistoryError> {
        loop {
            self.line.clear();
            let got = (&mut self.text).take(LINE_LEN_MAX).read_until(b'\n', &mut self.line);
            let got = got.map_err(|source| HistoryError::Io { action: "read", path: self.path.clone(), source })?;
            if got == 0 {
                return Ok(None);
            }
            self.number += 1;
            if got as u64 == LINE_LEN_MAX {
                let message = format!("it is longer than {LINE_LEN_MAX} bytes");
                return Err(HistoryError::Syntax { line: self.number, column: LINE_LEN_MAX, message });
            }
            if self.line.trim_ascii().is_empty() {
                continue;
            }
            let event = match parse_own_line(&self.line, &mut self.vocabulary) {
                Some((event, _)) => event,
                None => parse_line(self.line.trim_ascii_end(), self.number, self.events)?,
            };
            if event.index != self.events {
                return Err(HistoryError::IndexGap { expected: self.events, found: event.index });
            }
            self.events += 1;
            return Ok(Some(event));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::history;
    use crate::{HistoryWriter, export_jsonl};

    #[test]
    fn events_come_as_when_read_whole() {
        let dir = tempfile::tempdir().unwrap();
        let history = history("p0 w1 0..3; p1 r1 1..2; p2 c1>2 4..; p3 c1>2! 5..6");
        let (frames, lines) = (dir.path().join("a.history"), dir.path().join("a.jsonl"));
        let mut writer = HistoryWriter::create(&frames).unwrap();
        history.iter().for_each(|event| writer.append(&event).unwrap());
        writer.sync().unwrap();
        let mut text = b"\n".to_vec();
        export_jsonl(&history, &mut text).unwrap();
        std::fs::write(&lines, &text).unwrap();
        for path in [frames, lines] {
            let events: Result<Vec<Event>, _> = EventStream::open(&path).unwrap().collect();
            assert_eq!(events.unwrap(), history.iter().collect::<Vec<_>>(), "{}", path.display());
        }
    }

    #[test]
    fn what_is_wrong_is_named_by_its_line() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("a.jsonl");
        let line = r#"{"index":0,"time":0,"type":"invoke","process":0,"f":"read","key":null,"value":null}"#;
        let table = [
            (format!("{line}\n\n{line}"), "event with index 0 where index 1 was expected"),
            (format!("{line}\n{{\"index\":1,\"type\":\"invoke\"}}"), "line 2"),
            (format!("{line}\n{}", &line[..20]), "line 2"),
        ];
        for (text, expected) in table {
            std::fs::write(&path, text).unwrap();
            let error = EventStream::open(&path).unwrap().find_map(Result::err).unwrap().to_string();
            assert!(error.contains(expected), "{error}");
        }
        std::fs::write(&path, "{:type :invoke}").unwrap();
        let error = EventStream::open(&path).map(|_| ()).unwrap_err().to_string();
        assert!(error.contains("can be streamed"), "{error}");
    }
}

//! Appending to a history file.

use super::{Encoder, FRAME_LEN};
use crate::{Event, HistoryError};
use std::fs::{File, OpenOptions};
use std::io::{self, Write};
use std::path::{Path, PathBuf};
use zstd::bulk::Compressor;
use zstd::zstd_safe::{CParameter, compress_bound};

/// Level 1: the fastest that still shrinks histories tenfold.
const LEVEL: i32 = 1;

/// Writes a history file, frame by frame.
///
/// An error leaves the file readable up to its last intact frame and keeps what was not written, so that a later
/// [`HistoryWriter::sync`] may succeed once there is room again. Nothing is written on drop: call `sync` at least once
/// a second and at the end.
pub struct HistoryWriter {
    path: PathBuf,
    file: File,
    /// Where the last intact frame ends (bytes).
    len: u64,
    encoder: Encoder,
    text: Vec<u8>,
    compressor: Compressor<'static>,
    frame: Vec<u8>,
    /// A failed sync may have dropped pages that the kernel then calls clean: a later success would prove nothing.
    sync_failed: bool,
}

impl HistoryWriter {
    /// Creates the file.
    ///
    /// # Errors
    /// When it exists already (a history is never overwritten), or cannot be created.
    pub fn create(path: impl AsRef<Path>) -> Result<Self, HistoryError> {
        let path = path.as_ref().to_owned();
        let io = |source| HistoryError::Io { action: "create", path: path.clone(), source };
        let file = OpenOptions::new().write(true).create_new(true).open(&path).map_err(io)?;
        let mut compressor = Compressor::new(LEVEL).map_err(io)?;
        compressor.set_parameter(CParameter::ChecksumFlag(true)).map_err(io)?;
        // The file must survive a crash, too, not only what is in it.
        if let Some(parent) = path.parent() {
            let parent = if parent.as_os_str().is_empty() { Path::new(".") } else { parent };
            File::open(parent).and_then(|dir| dir.sync_all()).map_err(io)?;
        }
        Ok(Self {
            file,
            len: 0,
            encoder: Encoder::default(),
            text: Vec::with_capacity(FRAME_LEN + FRAME_LEN / 4),
            compressor,
            frame: Vec::new(),
            sync_failed: false,
            path,
        })
    }

    /// Adds an event. It reaches the file when a frame has gathered, or with the next [`HistoryWriter::sync`].
    ///
    /// # Errors
    /// When a frame could not be written.
    pub fn append(&mut self, event: &Event) -> Result<(), HistoryError> {
        self.encoder.line(&mut self.text, event);
        if self.text.len() >= FRAME_LEN { self.flush() } else { Ok(()) }
    }

    /// Writes what has gathered as one frame, without waiting for the disk.
    ///
    /// # Errors
    /// When it could not be written, e.g. because the disk is full.
    pub fn flush(&mut self) -> Result<(), HistoryError> {
        if self.text.is_empty() {
            return Ok(());
        }
        self.write_frame().map_err(|source| self.io("append to", source))?;
        self.text.clear();
        Ok(())
    }

    fn write_frame(&mut self) -> io::Result<()> {
        self.frame.clear();
        self.frame.reserve(compress_bound(self.text.len()));
        self.compressor.compress_to_buffer(&self.text, &mut self.frame)?;
        if let Err(error) = self.file.write_all(&self.frame) {
            // Half a frame would end the readable part of the file for ever: what comes later must follow an intact
            // one. Making a file shorter needs no space; should even that fail, the reader still stops cleanly.
            self.cut_off_half_frame()?;
            return Err(error);
        }
        self.len += self.frame.len() as u64;
        Ok(())
    }

    fn cut_off_half_frame(&mut self) -> io::Result<()> {
        self.file.set_len(self.len)?;
        io::Seek::seek(&mut self.file, io::SeekFrom::Start(self.len)).map(drop)
    }

    /// Writes what has gathered and waits until the disk has it.
    ///
    /// # Errors
    /// When it could not be written or synced; once a sync has failed, every later one fails, too.
    pub fn sync(&mut self) -> Result<(), HistoryError> {
        self.flush()?;
        if self.sync_failed {
            return Err(self.io("sync", io::Error::other("an earlier sync failed, what it lost is not known")));
        }
        self.file.sync_data().map_err(|source| {
            self.sync_failed = true;
            self.io("sync", source)
        })
    }

    /// Lets tests take the disk away.
    #[cfg(test)]
    pub(super) fn replace_file(&mut self, file: File) {
        self.file = file;
    }

    fn io(&self, action: &'static str, source: io::Error) -> HistoryError {
        HistoryError::Io { action, path: self.path.clone(), source }
    }
}

//! Lines that are not yet written to the file. A write that stops halfway (a full disk) leaves the rest here,
//! and the next drain resumes at that byte: no line is torn, doubled or lost. Where the file was replaced or
//! truncated, it resumes at the start of that line. `output` decides when to drain, `file` looks after the
//! file.

use std::io::{self, Write};

use tracing::warn;
use wattrace_api::Error;

use crate::output_path::OutputPath;
use crate::rotator::Rotator;
use crate::template::LineSink;

/// Bytes that are written without waiting for more.
const ENOUGH: usize = 64 * 1024;

/// What lines are written to.
pub(crate) trait Target: Write {
    /// Follows the file to where it is now: to another one at its path, if `look_at_path` or if it is
    /// deleted; to its end, if it was truncated. `None`: there is nothing to follow. Otherwise the next line
    /// begins in a place that is new, and the value says whether it is the start of an empty file.
    fn follow(&mut self, look_at_path: bool) -> Result<Option<bool>, Error>;

    /// Leaves the file for a new one, if that is due at `now`, in nanoseconds since the Unix epoch. Returns
    /// whether it did; the next line begins an empty file then.
    fn rotate(&mut self, _rotator: &mut Rotator, _now: u64) -> Result<bool, Error> {
        Ok(false)
    }
}

pub(crate) struct LineBuffer<W> {
    file: W,
    path: OutputPath,
    header: &'static str,
    bytes: Vec<u8>,
    written: usize,
    /// Where the header ends, if it is among `bytes`.
    header_end: usize,
    trouble: Option<String>,
}

impl<W: Target> LineBuffer<W> {
    /// A buffer before `file`, which is empty if `is_new`, and begins with `header` then.
    pub(crate) fn new(file: W, path: OutputPath, header: &'static str, is_new: bool) -> Self {
        let mut buffer =
            Self { file, path, header, bytes: Vec::new(), written: 0, header_end: 0, trouble: None };
        buffer.begin(is_new);
        buffer
    }

    /// Writes out everything. Looks before whether the path still names this file, if `look_at_path`.
    ///
    /// # Errors
    /// The file's. What was not written stays.
    pub(crate) fn drain(&mut self, look_at_path: bool) -> Result<(), Error> {
        let result = self.try_drain(look_at_path);
        self.trouble = result.as_ref().err().map(ToString::to_string);
        result
    }

    fn try_drain(&mut self, look_at_path: bool) -> Result<(), Error> {
        if let Some(is_new) = self.file.follow(look_at_path)? {
            self.begin(is_new);
        }
        while self.written < self.bytes.len() {
            let error = match self.file.write(&self.bytes[self.written..]) {
                Ok(0) => io::ErrorKind::WriteZero.into(),
                Ok(n) => {
                    self.written += n;
                    continue;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => continue,
                Err(e) => e,
            };
            return Err(self.path.write_error(&error, self.waiting_lines()));
        }
        self.bytes.clear();
        (self.written, self.header_end) = (0, 0);
        Ok(())
    }

    /// Rotates the file if that is due, and if it ends with a whole line.
    ///
    /// # Errors
    /// The file's. Lines go on in the old one.
    pub(crate) fn rotate(&mut self, rotator: &mut Rotator, now: u64) -> Result<(), Error> {
        if self.written == 0 && self.file.rotate(rotator, now)? {
            self.begin(true);
        }
        Ok(())
    }

    /// What is to be written next begins with a whole line, after the header if the file is new.
    fn begin(&mut self, is_new: bool) {
        let written = &self.bytes[..self.written];
        let whole = written.iter().rposition(|&b| b == b'\n').map_or(0, |at| at + 1);
        self.bytes.drain(..whole.max(self.header_end));
        let header = if is_new { self.header } else { "" };
        self.bytes.splice(..0, header.bytes());
        (self.written, self.header_end) = (0, header.len());
    }

    /// Why the last drain failed.
    pub(crate) fn trouble(&self) -> Option<&str> {
        self.trouble.as_deref()
    }

    /// Lines of points that are not completely written.
    pub(crate) fn waiting_lines(&self) -> usize {
        self.bytes[self.written.max(self.header_end)..].iter().filter(|&&b| b == b'\n').count()
    }
}

impl<W: Target> LineSink for LineBuffer<W> {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn row_done(&mut self) {
        if self.bytes.len() >= ENOUGH && self.trouble.is_none() {
            // The row is kept either way, so the error can wait: the next batch gets it before it is taken.
            if let Err(error) = self.drain(false) {
                // It is reported here: to the runner, it is an output in trouble that has said why.
                warn!("{error}");
            }
        }
    }
}

//! Lines that are not yet written to the file. A write that stops halfway (a full disk) leaves the rest here,
//! and the next drain resumes at that byte: no line is torn, doubled or lost. `output` decides when to drain.

use std::io::{self, Write};

use crate::template::LineSink;

/// Bytes that are written without waiting for more.
const ENOUGH: usize = 64 * 1024;

pub(crate) struct LineBuffer<W> {
    file: W,
    bytes: Vec<u8>,
    written: usize,
    failed: bool,
}

impl<W: Write> LineBuffer<W> {
    /// A buffer before `file` that begins with `header`.
    pub(crate) fn new(file: W, header: &str) -> Self {
        Self { file, bytes: header.as_bytes().to_vec(), written: 0, failed: false }
    }

    /// Writes out everything.
    ///
    /// # Errors
    /// The file's. What was not written stays.
    pub(crate) fn drain(&mut self) -> io::Result<()> {
        self.failed = true;
        while self.written < self.bytes.len() {
            match self.file.write(&self.bytes[self.written..]) {
                Ok(0) => return Err(io::ErrorKind::WriteZero.into()),
                Ok(n) => self.written += n,
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        self.failed = false;
        self.bytes.clear();
        self.written = 0;
        Ok(())
    }

    /// Whether the last drain failed.
    pub(crate) fn failed(&self) -> bool {
        self.failed
    }

    /// Lines that are not completely written.
    pub(crate) fn waiting_lines(&self) -> usize {
        self.bytes[self.written..].iter().filter(|&&b| b == b'\n').count()
    }
}

impl<W: Write> LineSink for LineBuffer<W> {
    fn bytes(&mut self) -> &mut Vec<u8> {
        &mut self.bytes
    }

    fn row_done(&mut self) {
        if self.bytes.len() >= ENOUGH && !self.failed {
            // The row is kept either way, so the error can wait: the next batch gets it before it is taken.
            let _ = self.drain();
        }
    }
}

//! Lines on a socket whose other end may be slow, silent or malicious: no line is longer than said, and who
//! reads or writes sets the time. Both ends use it.

use std::io::{self, ErrorKind};

use tokio::net::UnixStream;

/// A connection that carries lines.
pub(super) struct Lines {
    stream: UnixStream,
    /// What has come of the next line, and perhaps of those after it.
    come: Vec<u8>,
    longest: usize,
}

impl Lines {
    /// Lines of at most `longest` bytes.
    pub(super) fn new(stream: UnixStream, longest: usize) -> Self {
        Self { stream, come: Vec::new(), longest }
    }

    /// The next line, without its end; `None` if the other end has closed, in the middle of a line or not.
    ///
    /// # Errors
    /// The socket's; `InvalidData` if the line is too long.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (mut chunk, mut looked_at) = ([0; 4096], 0);
        loop {
            if let Some(end) = self.come[looked_at..].iter().position(|&b| b == b'\n') {
                let rest = self.come.split_off(looked_at + end + 1);
                let mut line = std::mem::replace(&mut self.come, rest);
                line.pop();
                return if line.len() > self.longest { Err(self.too_long()) } else { Ok(Some(line)) };
            }
            looked_at = self.come.len();
            if looked_at > self.longest {
                return Err(self.too_long());
            }
            self.stream.readable().await?;
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(read) => self.come.extend_from_slice(&chunk[..read]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn too_long(&self) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, format!("a line is longer than {} bytes", self.longest))
    }

    /// Sends a line.
    ///
    /// # Errors
    /// The socket's.
    pub(super) async fn send(&mut self, line: &impl serde::Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        let mut left = &line[..];
        while !left.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(left) {
                Ok(written) => left = &left[written..],
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

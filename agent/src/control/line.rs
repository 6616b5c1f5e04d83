//! Lines on a unix socket whose peer may be slow, silent or malicious: the length of a line is limited here,
//! and the caller limits the time. Server and client both use it.

use std::io::{self, ErrorKind};

use tokio::net::UnixStream;

/// A connection that carries lines.
pub(super) struct Lines {
    stream: UnixStream,
    /// Bytes received and not returned yet: part of the next line, perhaps also later ones.
    received: Vec<u8>,
    max_length: usize,
}

impl Lines {
    /// Lines of at most `max_length` bytes.
    pub(super) fn new(stream: UnixStream, max_length: usize) -> Self {
        Self { stream, received: Vec::new(), max_length }
    }

    /// The next line, without its terminator; `None` if the peer has closed the connection, even within a
    /// line.
    ///
    /// # Errors
    /// Those of the socket; `InvalidData` if the line is too long.
    pub(super) async fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        let (mut chunk, mut searched) = ([0; 4096], 0);
        loop {
            if let Some(end) = self.received[searched..].iter().position(|&b| b == b'\n') {
                let rest = self.received.split_off(searched + end + 1);
                let mut line = std::mem::replace(&mut self.received, rest);
                line.pop();
                return if line.len() > self.max_length { Err(self.too_long()) } else { Ok(Some(line)) };
            }
            searched = self.received.len();
            if searched > self.max_length {
                return Err(self.too_long());
            }
            self.stream.readable().await?;
            match self.stream.try_read(&mut chunk) {
                Ok(0) => return Ok(None),
                Ok(read) => self.received.extend_from_slice(&chunk[..read]),
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
    }

    fn too_long(&self) -> io::Error {
        io::Error::new(ErrorKind::InvalidData, format!("a line is longer than {} bytes", self.max_length))
    }

    /// Sends a line.
    ///
    /// # Errors
    /// Those of the socket.
    pub(super) async fn send(&mut self, line: &impl serde::Serialize) -> io::Result<()> {
        let mut line = serde_json::to_vec(line)?;
        line.push(b'\n');
        let mut rest = &line[..];
        while !rest.is_empty() {
            self.stream.writable().await?;
            match self.stream.try_write(rest) {
                Ok(written) => rest = &rest[written..],
                Err(e) if matches!(e.kind(), ErrorKind::WouldBlock | ErrorKind::Interrupted) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(())
    }
}

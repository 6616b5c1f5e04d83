//! Logs what a child writes to its standard error: line by line, under the element's name, without control
//! characters, and rate-limited.

use std::io::{BufRead, BufReader, Read};
use std::time::Instant;

use tracing::warn;
use wattrace_api::text::printable as safe;
use wattrace_ingest::RateLimit;

use crate::line_splitter::LineSplitter;

/// Most bytes of a line. A longer one is mentioned, but not logged.
const MAX_LINE: usize = 4096;

/// Logs `stderr` until it ends.
pub(crate) fn log(element: &str, stderr: impl Read) {
    let mut limit = RateLimit::default();
    let mut splitter = LineSplitter::new(MAX_LINE);
    let mut log_line = |text: Option<Vec<u8>>| {
        let Some(suppressed) = limit.allow(Instant::now()) else { return };
        if suppressed > 0 {
            warn!("{element}: {suppressed} more lines on its standard error were left out");
        }
        match text {
            Some(text) => warn!("{element}: {}", printable(&text)),
            None => warn!("{element}: a line of more than {MAX_LINE} bytes on its standard error"),
        }
    };
    let mut stderr = BufReader::new(stderr);
    // A pipe with a read error has ended.
    while let Ok(bytes) = stderr.fill_buf()
        && !bytes.is_empty()
    {
        splitter.feed(bytes, |line| log_line(line.text));
        let read = bytes.len();
        stderr.consume(read);
    }
    splitter.finish(|line| log_line(line.text));
}

/// Replaces control characters, which could control the terminal.
fn printable(text: &[u8]) -> String {
    safe(String::from_utf8_lossy(text).trim_end()).into_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn control_characters_are_replaced() {
        assert_eq!(printable("hot \x1b[31m\u{202e}\r".as_bytes()), "hot ?[31m?");
    }
}

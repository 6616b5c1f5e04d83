//! What a child writes on its standard error, in the log: line by line, with its name, made harmless, and not
//! too often.

use std::io::{BufRead, BufReader, Read};
use std::time::Instant;

use tracing::warn;
use wattrace_ingest::Limit;

use crate::inbox::Splitter;

/// Most bytes of a line that are logged; a longer one is told of, not shown.
const MOST: usize = 4096;

/// Logs what comes from `stderr` until it ends.
pub(crate) fn log(element: &str, stderr: impl Read) {
    let mut limit = Limit::default();
    let mut splitter = Splitter::new(MOST);
    let mut say = |text: Option<Vec<u8>>| {
        let Some(unsaid) = limit.may_say(Instant::now()) else { return };
        if unsaid > 0 {
            warn!("{element}: {unsaid} more lines on its standard error were left out");
        }
        match text {
            Some(text) => warn!("{element}: {}", harmless(&text)),
            None => warn!("{element}: a line of more than {MOST} bytes on its standard error"),
        }
    };
    let mut stderr = BufReader::new(stderr);
    // An error on a pipe is its end.
    while let Ok(bytes) = stderr.fill_buf()
        && !bytes.is_empty()
    {
        splitter.feed(bytes, |line| say(line.text));
        let read = bytes.len();
        stderr.consume(read);
    }
    splitter.finish(|line| say(line.text));
}

/// Text that cannot steer a terminal.
fn harmless(text: &[u8]) -> String {
    String::from_utf8_lossy(text)
        .trim_end()
        .chars()
        .map(|c| if c.is_control() { '\u{fffd}' } else { c })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_is_not_steered() {
        assert_eq!(harmless(b"hot \x1b[31m\xff\r"), "hot \u{fffd}[31m\u{fffd}");
    }
}

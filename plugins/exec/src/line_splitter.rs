//! Splits a stream of bytes into lines of bounded length. `line_queue.rs` and `stderr.rs` take them.

/// A line, numbered from 1 for each child.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct RawLine {
    pub(crate) number: u64,
    /// `None`: the line was too long and is lost.
    pub(crate) text: Option<Vec<u8>>,
}

/// See the module.
#[derive(Debug)]
pub(crate) struct LineSplitter {
    max_length: usize,
    number: u64,
    partial: Vec<u8>,
    too_long: bool,
}

impl LineSplitter {
    /// Refuses lines of more than `max_length` bytes.
    pub(crate) fn new(max_length: usize) -> Self {
        Self { max_length, number: 0, partial: Vec::new(), too_long: false }
    }

    /// Adds bytes, and calls `take` with each complete line. Blank lines are numbered, but left out.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(RawLine)) {
        while let Some(at) = bytes.iter().position(|&b| b == b'\n') {
            self.extend(&bytes[..at]);
            self.finish(&mut take);
            bytes = &bytes[at + 1..];
        }
        self.extend(bytes);
    }

    /// Ends the line: the stream has ended.
    pub(crate) fn finish(&mut self, mut take: impl FnMut(RawLine)) {
        self.number += 1;
        let text = std::mem::take(&mut self.partial);
        if std::mem::take(&mut self.too_long) {
            take(RawLine { number: self.number, text: None });
        } else if !text.iter().all(u8::is_ascii_whitespace) {
            take(RawLine { number: self.number, text: Some(text) });
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.partial.len() + bytes.len() > self.max_length {
            self.too_long = true;
            self.partial = Vec::new();
        } else if !self.too_long {
            self.partial.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(number: u64, text: &str) -> RawLine {
        RawLine { number, text: Some(text.into()) }
    }

    #[test]
    fn lines_are_complete_however_the_bytes_are_chunked_and_long_ones_are_refused() {
        let stream = b"ab\n\nthis is too long\ncd\nlast";
        for chunk in 1..stream.len() {
            let (mut splitter, mut lines) = (LineSplitter::new(4), Vec::new());
            for bytes in stream.chunks(chunk) {
                splitter.feed(bytes, |line| lines.push(line));
            }
            splitter.finish(|line| lines.push(line));
            let expected = [line(1, "ab"), RawLine { number: 3, text: None }, line(4, "cd"), line(5, "last")];
            assert_eq!(lines, expected, "chunks of {chunk}");
        }
    }
}

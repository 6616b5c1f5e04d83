//! The requests that wait to be sent, oldest first. When they take more bytes than configured, the output
//! takes no more batches, so that the output's queue does what its policy says. `exporter` sends them.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use hyper::body::Bytes;

use crate::config::Settings;

/// Whole lines.
pub(crate) struct Lot<'a> {
    pub(crate) text: &'a [u8],
    pub(crate) lines: u64,
}

/// A request that waits.
pub(crate) struct Request {
    /// Lines, compressed if the configuration says so.
    pub(crate) body: Bytes,
    pub(crate) lines: u64,
}

/// The requests that wait.
pub(crate) struct Outbox {
    requests: VecDeque<Request>,
    bytes: usize,
    lines: u64,
    most_bytes: usize,
    gzip: bool,
}

impl Outbox {
    pub(crate) fn new(settings: &Settings) -> Self {
        let (most_bytes, gzip) = (settings.buffer_bytes, settings.gzip);
        Self { requests: VecDeque::new(), bytes: 0, lines: 0, most_bytes, gzip }
    }

    /// Whether nothing more should be added.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.most_bytes
    }

    /// Lines that wait.
    pub(crate) fn lines(&self) -> u64 {
        self.lines
    }

    /// The oldest request.
    pub(crate) fn first(&self) -> Option<&Request> {
        self.requests.front()
    }

    /// Adds the newest request.
    pub(crate) fn push(&mut self, lot: Lot<'_>) {
        let request = self.request(lot);
        self.count(&request);
        self.requests.push_back(request);
    }

    /// The oldest request is done with. Returns its lines.
    pub(crate) fn remove_first(&mut self) -> u64 {
        let Some(request) = self.requests.pop_front() else { return 0 };
        self.bytes -= request.body.len();
        self.lines -= request.lines;
        request.lines
    }

    /// Puts two halves in the place of the oldest request. Whether it has more than one line.
    pub(crate) fn split_first(&mut self) -> bool {
        let Some(text) = self.first().filter(|first| first.lines > 1).and_then(|first| self.text(first))
        else {
            return false;
        };
        let ends: Vec<_> =
            text.iter().enumerate().filter(|(_, c)| **c == b'\n').map(|(at, _)| at + 1).collect();
        let half = ends.len() / 2;
        let Some(&middle) = half.checked_sub(1).and_then(|before| ends.get(before)) else { return false };
        self.remove_first();
        let (one, other) = text.split_at(middle);
        for (text, lines) in [(other, ends.len() - half), (one, half)] {
            let request = self.request(Lot { text, lines: lines as u64 });
            self.count(&request);
            self.requests.push_front(request);
        }
        true
    }

    fn count(&mut self, request: &Request) {
        self.bytes += request.body.len();
        self.lines += request.lines;
    }

    fn request(&self, lot: Lot<'_>) -> Request {
        let mut encoder = GzEncoder::new(Vec::new(), Compression::fast());
        let compressed = match self.gzip {
            // Writing to memory cannot fail.
            true => encoder.write_all(lot.text).and_then(|()| encoder.finish()).ok(),
            false => None,
        };
        Request { body: compressed.unwrap_or_else(|| lot.text.to_vec()).into(), lines: lot.lines }
    }

    fn text(&self, request: &Request) -> Option<Vec<u8>> {
        if !self.gzip {
            return Some(request.body.to_vec());
        }
        let mut text = Vec::new();
        GzDecoder::new(&*request.body).read_to_end(&mut text).ok()?;
        Some(text)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::InfluxConfig;

    fn outbox(gzip: bool) -> Outbox {
        let config = InfluxConfig { database: "d".to_owned(), ..InfluxConfig::default() };
        Outbox::new(&Settings { gzip, buffer_bytes: 20, ..Settings::resolve(config).unwrap() })
    }

    #[test]
    fn halves_keep_the_order_and_the_counts() {
        for gzip in [false, true] {
            let mut outbox = outbox(gzip);
            outbox.push(Lot { text: b"a\nb\nc\n", lines: 3 });
            outbox.push(Lot { text: b"d\n", lines: 1 });
            assert!(outbox.split_first());
            let mut seen = Vec::new();
            while let Some(first) = outbox.first() {
                seen.push(String::from_utf8(outbox.text(first).unwrap()).unwrap());
                outbox.remove_first();
            }
            assert_eq!(seen, ["a\n", "b\nc\n", "d\n"]);
            assert_eq!((outbox.bytes, outbox.lines()), (0, 0));
        }
    }

    #[test]
    fn one_line_is_not_split_and_bytes_fill_it() {
        let mut outbox = outbox(false);
        outbox.push(Lot { text: b"0123456789\n", lines: 1 });
        assert!(!outbox.split_first() && !outbox.is_full());
        outbox.push(Lot { text: b"0123456789\n", lines: 1 });
        assert!(outbox.is_full());
        assert_eq!((outbox.remove_first(), outbox.is_full()), (1, false));
    }
}

//! The requests that wait to be sent, oldest first. While the server takes none they are moved into the
//! spool, a file that survives the agent; so what is in the spool is older than what is in memory. When those
//! in memory take more bytes than configured, the output takes no more batches, so that its queue does what
//! its policy says. `exporter` sends them.

use std::collections::VecDeque;
use std::io::{Read as _, Write as _};

use flate2::Compression;
use flate2::read::GzDecoder;
use flate2::write::GzEncoder;
use hyper::body::Bytes;
use wattrace_api::Clock;
use wattrace_spool::{Class, Entry, Id, Spool};

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
    spool: Option<Spool>,
    /// The oldest request in the spool, once it was looked at.
    spooled: Option<(Id, Request)>,
    most_bytes: usize,
    gzip: bool,
}

impl Outbox {
    /// With what an earlier run has left in the spool.
    pub(crate) fn new(settings: &Settings, clock: Clock) -> Self {
        Self {
            requests: VecDeque::new(),
            bytes: 0,
            lines: 0,
            spool: settings.spool.clone().map(|spool| Spool::new(spool, clock)),
            spooled: None,
            most_bytes: settings.buffer_bytes,
            gzip: settings.gzip,
        }
    }

    /// Whether nothing more should be added.
    pub(crate) fn is_full(&self) -> bool {
        self.bytes >= self.most_bytes
    }

    /// Lines that wait in memory, and end with the agent.
    pub(crate) fn lines(&self) -> u64 {
        self.lines + self.spool.as_ref().map_or(0, |spool| spool.amount_in_memory().points)
    }

    /// Lines that wait.
    pub(crate) fn all_lines(&self) -> u64 {
        self.lines + self.spool.as_ref().map_or(0, |spool| spool.amount().points)
    }

    /// The oldest request.
    pub(crate) fn first(&mut self) -> Option<&Request> {
        if self.spooled.is_none()
            && let Some(waiting) =
                self.spool.as_mut().and_then(|spool| spool.oldest(None, 1).into_iter().next())
        {
            let Entry { payload, points, .. } = waiting.entry;
            self.spooled = Some((waiting.id, self.request(Lot { text: &payload, lines: points })));
        }
        self.spooled.as_ref().map(|(_, request)| request).or(self.requests.front())
    }

    /// Adds the newest request.
    pub(crate) fn push(&mut self, lot: Lot<'_>) {
        let request = self.request(lot);
        self.count(&request);
        self.requests.push_back(request);
    }

    /// The oldest request is done with. Returns its lines.
    pub(crate) fn remove_first(&mut self) -> u64 {
        if let Some((id, request)) = self.spooled.take() {
            if let Some(spool) = &mut self.spool {
                spool.done(&[id]);
            }
            return request.lines;
        }
        let Some(request) = self.requests.pop_front() else { return 0 };
        self.bytes -= request.body.len();
        self.lines -= request.lines;
        request.lines
    }

    /// Moves what is in memory into the spool, if there is one.
    pub(crate) fn set_aside(&mut self) {
        if self.spool.is_none() || self.requests.is_empty() {
            return;
        }
        let requests = std::mem::take(&mut self.requests);
        (self.bytes, self.lines) = (0, 0);
        let entries = requests.iter().filter_map(|r| Some(entry(self.text(r)?, r.lines))).collect();
        if let Some(spool) = &mut self.spool {
            spool.push(entries);
        }
    }

    /// Puts two halves in the place of the oldest request; those of one in the spool go behind the others
    /// there. Whether it has more than one line.
    pub(crate) fn split_first(&mut self) -> bool {
        let Some(first) = self.first().filter(|first| first.lines > 1) else { return false };
        let first = Request { body: first.body.clone(), lines: first.lines };
        let Some(text) = self.text(&first) else { return false };
        let ends: Vec<_> =
            text.iter().enumerate().filter(|(_, c)| **c == b'\n').map(|(at, _)| at + 1).collect();
        let half = ends.len() / 2;
        let Some(&middle) = half.checked_sub(1).and_then(|before| ends.get(before)) else { return false };
        let (one, other) = text.split_at(middle);
        let (half, rest) = (half as u64, (ends.len() - half) as u64);
        if self.spooled.is_some() {
            let halves = vec![entry(one.to_vec(), half), entry(other.to_vec(), rest)];
            if let Some(spool) = &mut self.spool {
                spool.push(halves);
            }
            self.remove_first();
            return true;
        }
        self.remove_first();
        for (text, lines) in [(other, rest), (one, half)] {
            let request = self.request(Lot { text, lines });
            self.count(&request);
            self.requests.push_front(request);
        }
        true
    }

    /// Lines that the spool lost, by reason, since the last call.
    pub(crate) fn take_losses(&mut self) -> Vec<(&'static str, u64)> {
        self.spool.as_mut().map(Spool::take_losses).unwrap_or_default()
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

/// Each line is a row of its own, which no later one contains.
fn entry(payload: Vec<u8>, points: u64) -> Entry {
    Entry { class: Class::Last, points, payload }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use wattrace_api::Timestamp;

    use super::*;
    use crate::config::InfluxConfig;

    fn settings(gzip: bool) -> Settings {
        let config =
            InfluxConfig { database: "d".to_owned(), spool: "none".into(), ..InfluxConfig::default() };
        Settings { gzip, buffer_bytes: 20, ..Settings::resolve(config).unwrap() }
    }

    fn outbox(gzip: bool) -> Outbox {
        Outbox::new(&settings(gzip), Clock::manual(Timestamp(0)))
    }

    fn spooled(dir: &tempfile::TempDir) -> Outbox {
        let spool = wattrace_spool::Settings {
            key: "plugins.influx.spool",
            file: dir.path().join("influx.db"),
            max_size: 1 << 20,
            max_age: Duration::from_secs(3600),
            max_memory: 1 << 20,
        };
        Outbox::new(&Settings { spool: Some(spool), ..settings(true) }, Clock::manual(Timestamp(0)))
    }

    fn all(outbox: &mut Outbox) -> Vec<String> {
        let mut seen = Vec::new();
        while let Some(first) = outbox.first() {
            let first = Request { body: first.body.clone(), lines: first.lines };
            seen.push(String::from_utf8(outbox.text(&first).unwrap()).unwrap());
            outbox.remove_first();
        }
        seen
    }

    #[test]
    fn what_is_set_aside_survives_and_comes_before_what_is_newer() {
        let dir = tempfile::tempdir().unwrap();
        let mut first = spooled(&dir);
        first.push(Lot { text: b"a\nb\n", lines: 2 });
        first.push(Lot { text: b"c\n", lines: 1 });
        first.set_aside();
        assert_eq!((first.lines(), first.all_lines()), (0, 3));
        drop(first);
        let mut second = spooled(&dir);
        second.push(Lot { text: b"d\n", lines: 1 });
        assert_eq!((second.lines(), second.all_lines()), (1, 4));
        assert!(second.split_first());
        assert_eq!(all(&mut second), ["c\n", "a\n", "b\n", "d\n"]);
        assert_eq!((second.all_lines(), second.take_losses()), (0, Vec::new()));
    }

    #[test]
    fn halves_keep_the_order_and_the_counts() {
        for gzip in [false, true] {
            let mut outbox = outbox(gzip);
            outbox.push(Lot { text: b"a\nb\nc\n", lines: 3 });
            outbox.push(Lot { text: b"d\n", lines: 1 });
            assert!(outbox.split_first());
            assert_eq!(all(&mut outbox), ["a\n", "b\nc\n", "d\n"]);
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

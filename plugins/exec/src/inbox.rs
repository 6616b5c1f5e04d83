//! What a child has written on its standard output and nobody has read yet: lines, and in the end its end.
//! Bounded in bytes: when it is full the child waits, as it would with a full pipe.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// Most bytes of lines that wait.
const CAPACITY: usize = 4 * 1024 * 1024;
/// What a line costs beside its bytes, roughly.
const OVERHEAD: usize = 48;

/// A line, numbered from 1 for each child.
#[derive(Debug, PartialEq, Eq)]
pub(crate) struct Line {
    pub(crate) number: u64,
    /// `None`: it was too long and is gone.
    pub(crate) text: Option<Vec<u8>>,
}

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// In words.
    pub(crate) how: String,
    /// Whether with status 0.
    pub(crate) success: bool,
}

/// What there is to read.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A line.
    Line(Line),
    /// Nothing until the deadline.
    Nothing,
    /// Nothing any more.
    Ended(Exit),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<Line>,
    bytes: usize,
    closed: bool,
    exit: Option<Exit>,
}

impl Inbox {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line, once there is room.
    pub(crate) fn put(&self, line: Line) {
        let size = line.text.as_ref().map_or(0, Vec::len) + OVERHEAD;
        let state = self.lock();
        let full = |state: &mut State| !state.closed && state.bytes > 0 && state.bytes + size > CAPACITY;
        let mut state = self.changed.wait_while(state, full).unwrap_or_else(PoisonError::into_inner);
        if !state.closed {
            state.bytes += size;
            state.lines.push_back(line);
            self.changed.notify_all();
        }
    }

    /// The child has ended, and all it wrote has been put.
    pub(crate) fn ended(&self, exit: Exit) {
        self.lock().exit = Some(exit);
        self.changed.notify_all();
    }

    /// The next line, or the end, waited for until `deadline`.
    pub(crate) fn next(&self, deadline: Instant) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= line.text.as_ref().map_or(0, Vec::len) + OVERHEAD;
                self.changed.notify_all();
                return Next::Line(line);
            }
            if let Some(exit) = &state.exit {
                return Next::Ended(exit.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Nothing;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Nobody reads any more: what comes is thrown away, so that the child can run to its end.
    pub(crate) fn close(&self) {
        let mut state = self.lock();
        state.closed = true;
        state.lines.clear();
        state.bytes = 0;
        self.changed.notify_all();
    }

    /// How the child ended, waited for at most `time`.
    pub(crate) fn exit(&self, time: Duration) -> Option<Exit> {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, time, |state| state.exit.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.exit.clone()
    }
}

/// Cuts a stream of bytes into lines of bounded length.
#[derive(Debug)]
pub(crate) struct Splitter {
    most: usize,
    number: u64,
    part: Vec<u8>,
    too_long: bool,
}

impl Splitter {
    /// Refuses lines of more than `most` bytes.
    pub(crate) fn new(most: usize) -> Self {
        Self { most, number: 0, part: Vec::new(), too_long: false }
    }

    /// Takes bytes and hands over the lines that are complete with them; blank ones count, but are left out.
    pub(crate) fn feed(&mut self, mut bytes: &[u8], mut take: impl FnMut(Line)) {
        while let Some(at) = bytes.iter().position(|&b| b == b'\n') {
            self.extend(&bytes[..at]);
            self.finish(&mut take);
            bytes = &bytes[at + 1..];
        }
        self.extend(bytes);
    }

    /// The stream has ended: what is left is a line.
    pub(crate) fn finish(&mut self, mut take: impl FnMut(Line)) {
        self.number += 1;
        let text = std::mem::take(&mut self.part);
        if std::mem::take(&mut self.too_long) {
            take(Line { number: self.number, text: None });
        } else if !text.iter().all(u8::is_ascii_whitespace) {
            take(Line { number: self.number, text: Some(text) });
        }
    }

    fn extend(&mut self, bytes: &[u8]) {
        if self.part.len() + bytes.len() > self.most {
            self.too_long = true;
            self.part = Vec::new();
        } else if !self.too_long {
            self.part.extend_from_slice(bytes);
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn line(number: u64, text: &str) -> Line {
        Line { number, text: Some(text.into()) }
    }

    #[test]
    fn lines_are_cut_wherever_the_bytes_are_and_long_ones_refused() {
        let stream = b"ab\n\nthis is too long\ncd\nlast";
        for chunk in 1..stream.len() {
            let (mut splitter, mut lines) = (Splitter::new(4), Vec::new());
            for bytes in stream.chunks(chunk) {
                splitter.feed(bytes, |line| lines.push(line));
            }
            splitter.finish(|line| lines.push(line));
            let expected = [line(1, "ab"), Line { number: 3, text: None }, line(4, "cd"), line(5, "last")];
            assert_eq!(lines, expected, "chunks of {chunk}");
        }
    }

    #[test]
    fn a_full_inbox_makes_the_child_wait_and_a_closed_one_does_not() {
        let inbox = Arc::new(Inbox::default());
        let big = || Line { number: 1, text: Some(vec![b'x'; CAPACITY - OVERHEAD]) };
        inbox.put(big());
        let (putting, done) = (inbox.clone(), std::sync::mpsc::channel());
        let writer = std::thread::spawn(move || {
            putting.put(big());
            done.0.send(()).unwrap();
        });
        assert!(done.1.recv_timeout(Duration::from_millis(50)).is_err(), "there was no room for it");
        assert!(matches!(inbox.next(Instant::now()), Next::Line(_)));
        done.1.recv_timeout(Duration::from_secs(10)).unwrap();
        writer.join().unwrap();
        inbox.close();
        inbox.put(big());
        inbox.put(big());
        assert_eq!(inbox.next(Instant::now()), Next::Nothing);
    }

    #[test]
    fn the_end_comes_after_the_last_line() {
        let inbox = Inbox::default();
        inbox.put(line(1, "a"));
        let exit = Exit { how: "status 0".to_owned(), success: true };
        inbox.ended(exit.clone());
        assert_eq!(inbox.next(Instant::now()), Next::Line(line(1, "a")));
        assert_eq!(inbox.next(Instant::now()), Next::Ended(exit.clone()));
        assert_eq!(inbox.exit(Duration::ZERO), Some(exit));
    }
}

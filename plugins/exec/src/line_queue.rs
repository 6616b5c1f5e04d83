//! The lines of a child's standard output, until its element reads them, and then its exit. Bounded in bytes:
//! while the queue is full the child waits, as it does with a full pipe.

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use crate::line_splitter::RawLine;

/// Most bytes of lines in the queue.
const CAPACITY: usize = 4 * 1024 * 1024;
/// Memory of a line beside its bytes, roughly.
const OVERHEAD: usize = 48;

/// How a child ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Exit {
    /// `status 3` or `signal 9`.
    pub(crate) description: String,
    /// Whether its status was 0.
    pub(crate) success: bool,
}

/// The result of [`LineQueue::next`].
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// A line.
    Line(RawLine),
    /// No line came before the deadline.
    Timeout,
    /// The child has ended, and all its lines have been read.
    Ended(Exit),
}

/// See the module.
#[derive(Debug, Default)]
pub(crate) struct LineQueue {
    state: Mutex<State>,
    changed: Condvar,
}

#[derive(Debug, Default)]
struct State {
    lines: VecDeque<RawLine>,
    bytes: usize,
    discarding: bool,
    exit: Option<Exit>,
}

impl LineQueue {
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Adds a line; waits while there is no room.
    pub(crate) fn push(&self, line: RawLine) {
        let size = size(&line);
        let is_full =
            |state: &mut State| !state.discarding && state.bytes > 0 && state.bytes + size > CAPACITY;
        let state = self.lock();
        let mut state = self.changed.wait_while(state, is_full).unwrap_or_else(PoisonError::into_inner);
        if !state.discarding {
            state.bytes += size;
            state.lines.push_back(line);
            self.changed.notify_all();
        }
    }

    /// The child has ended, and all its lines have been pushed.
    pub(crate) fn close_with(&self, exit: Exit) {
        self.lock().exit = Some(exit);
        self.changed.notify_all();
    }

    /// The next line, or the exit. Waits until `deadline`.
    pub(crate) fn next(&self, deadline: Instant) -> Next {
        let mut state = self.lock();
        loop {
            if let Some(line) = state.lines.pop_front() {
                state.bytes -= size(&line);
                self.changed.notify_all();
                return Next::Line(line);
            }
            if let Some(exit) = &state.exit {
                return Next::Ended(exit.clone());
            }
            let left = deadline.saturating_duration_since(Instant::now());
            if left.is_zero() {
                return Next::Timeout;
            }
            state = self.changed.wait_timeout(state, left).unwrap_or_else(PoisonError::into_inner).0;
        }
    }

    /// Drops all lines, also those that come later, so that the child can end although its element reads no
    /// more.
    pub(crate) fn discard(&self) {
        let mut state = self.lock();
        state.discarding = true;
        state.lines.clear();
        state.bytes = 0;
        self.changed.notify_all();
    }

    /// How the child ended. Waits for at most `timeout`.
    pub(crate) fn exit(&self, timeout: Duration) -> Option<Exit> {
        let state = self.lock();
        let waited = self.changed.wait_timeout_while(state, timeout, |state| state.exit.is_none());
        waited.unwrap_or_else(PoisonError::into_inner).0.exit.clone()
    }
}

fn size(line: &RawLine) -> usize {
    line.text.as_ref().map_or(0, Vec::len) + OVERHEAD
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::*;

    fn line(number: u64, text: &str) -> RawLine {
        RawLine { number, text: Some(text.into()) }
    }

    #[test]
    fn a_full_queue_makes_the_child_wait_and_a_discarding_one_does_not() {
        let queue = Arc::new(LineQueue::default());
        let big = || RawLine { number: 1, text: Some(vec![b'x'; CAPACITY - OVERHEAD]) };
        queue.push(big());
        let (pushing, done) = (queue.clone(), std::sync::mpsc::channel());
        let writer = std::thread::spawn(move || {
            pushing.push(big());
            done.0.send(()).unwrap();
        });
        assert!(done.1.recv_timeout(Duration::from_millis(50)).is_err(), "there was no room for it");
        assert!(matches!(queue.next(Instant::now()), Next::Line(_)));
        done.1.recv_timeout(Duration::from_secs(10)).unwrap();
        writer.join().unwrap();
        queue.discard();
        queue.push(big());
        queue.push(big());
        assert_eq!(queue.next(Instant::now()), Next::Timeout);
    }

    #[test]
    fn the_exit_comes_after_the_last_line() {
        let queue = LineQueue::default();
        queue.push(line(1, "a"));
        let exit = Exit { description: "status 0".to_owned(), success: true };
        queue.close_with(exit.clone());
        assert_eq!(queue.next(Instant::now()), Next::Line(line(1, "a")));
        assert_eq!(queue.next(Instant::now()), Next::Ended(exit.clone()));
        assert_eq!(queue.exit(Duration::ZERO), Some(exit));
    }
}

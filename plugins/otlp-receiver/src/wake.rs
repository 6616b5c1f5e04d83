//! Wakes the source when points have arrived: at once if it has been idle, and at most once per interval
//! while requests keep coming, so that their points pass in one batch. Nothing is polled while nothing
//! arrives.

use std::io::{self, Read, Write};
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::runtime::Handle;
use tokio::time::sleep;

/// The source's end: readable while the source is to be polled.
#[derive(Debug)]
pub(crate) struct Wakeup(UnixStream);

/// The servers' end.
#[derive(Debug)]
pub(crate) struct Waker {
    signal: Arc<UnixStream>,
    runtime: Handle,
    interval: Duration,
    /// Whether the source has been woken, or will be, for the points that wait now.
    is_signalled: bool,
    /// The earliest time of the next wake-up.
    not_before: Instant,
}

/// Both ends, with at least `interval` between two wake-ups.
///
/// # Errors
/// No descriptors are left.
pub(crate) fn pair(interval: Duration, runtime: Handle) -> io::Result<(Waker, Wakeup)> {
    let (signal, wakeup) = UnixStream::pair()?;
    signal.set_nonblocking(true)?;
    wakeup.set_nonblocking(true)?;
    let (signal, not_before) = (Arc::new(signal), Instant::now());
    Ok((Waker { signal, runtime, interval, is_signalled: false, not_before }, Wakeup(wakeup)))
}

impl Waker {
    /// Points wait for the source.
    pub(crate) fn points_wait(&mut self) {
        if std::mem::replace(&mut self.is_signalled, true) {
            return;
        }
        let delay = self.not_before.saturating_duration_since(Instant::now());
        if delay.is_zero() {
            return signal(&self.signal);
        }
        let stream = self.signal.clone();
        self.runtime.spawn(async move {
            sleep(delay).await;
            signal(&stream);
        });
    }

    /// The source has taken all points.
    pub(crate) fn taken(&mut self) {
        self.is_signalled = false;
        self.not_before = Instant::now() + self.interval;
    }
}

fn signal(mut stream: &UnixStream) {
    // If the buffer is full, it is readable anyway. If the other end is closed, the source has ended.
    _ = stream.write(&[1]);
}

impl Wakeup {
    /// Makes it unreadable. Points that arrive after this make it readable again.
    pub(crate) fn clear(&mut self) {
        let mut signals = [0; 64];
        while self.0.read(&mut signals).is_ok_and(|n| n > 0) {}
    }
}

impl AsFd for Wakeup {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const INTERVAL: Duration = Duration::from_millis(200);

    fn is_readable_within(wakeup: &mut Wakeup, limit: Duration) -> bool {
        wakeup.0.set_nonblocking(false).unwrap();
        wakeup.0.set_read_timeout(Some(limit)).unwrap();
        let is_readable = wakeup.0.read(&mut [0]).is_ok();
        wakeup.0.set_nonblocking(true).unwrap();
        is_readable
    }

    #[test]
    fn the_first_points_wake_at_once_and_later_ones_once_per_interval() {
        let runtime = tokio::runtime::Runtime::new().unwrap();
        let (mut waker, mut wakeup) = pair(INTERVAL, runtime.handle().clone()).unwrap();
        assert!(!is_readable_within(&mut wakeup, Duration::from_millis(1)), "nothing has arrived");
        waker.points_wait();
        waker.points_wait();
        assert!(is_readable_within(&mut wakeup, Duration::from_secs(20)));
        assert!(!is_readable_within(&mut wakeup, Duration::from_millis(1)), "one signal for both");
        waker.taken();
        let taken = Instant::now();
        waker.points_wait();
        assert!(is_readable_within(&mut wakeup, Duration::from_secs(20)));
        assert!(taken.elapsed() >= INTERVAL - Duration::from_millis(20), "{:?}", taken.elapsed());
        waker.points_wait();
        wakeup.clear();
        assert!(!is_readable_within(&mut wakeup, Duration::from_millis(1)));
    }
}

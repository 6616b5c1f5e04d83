//! Ticks, from a timerfd: it keeps 1 kHz where sleeping loses ten per cent of it, and counts what was missed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::AsyncFd;
use wattrace_api::{Clock, Tick, Timestamp, Trigger};

/// Fires a [`Trigger`]'s ticks.
pub(crate) struct Timer {
    /// `None`: it never fires.
    fd: Option<AsyncFd<OwnedFd>>,
    trigger: Trigger,
    next: Timestamp,
}

impl Timer {
    /// Starts the timer: the first tick is the next one on the trigger's grid.
    ///
    /// # Errors
    /// Those of `timerfd_create` and `timerfd_settime`, and a missing runtime.
    pub(crate) fn start(trigger: Trigger, clock: Clock) -> io::Result<Self> {
        if trigger.interval.is_zero() {
            return Ok(Self { fd: None, trigger, next: Timestamp(u64::MAX) });
        }
        let next = next_on_grid(clock.now(), trigger);
        let timing = libc::itimerspec {
            it_value: timespec(Duration::from_nanos(next.0)),
            it_interval: timespec(trigger.interval),
        };
        // SAFETY: the flags are valid; the result is checked before it is owned.
        let fd = unsafe {
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, libc::TFD_NONBLOCK | libc::TFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        // SAFETY: `timing` is valid for the call; a null pointer says that the old value is not wanted.
        if unsafe {
            libc::timerfd_settime(fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &timing, std::ptr::null_mut())
        } != 0
        {
            return Err(io::Error::last_os_error());
        }
        // SAFETY: the descriptor is owned by the value that is registered, and so stays open as long as it.
        let fd =
            unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::other)?;
        Ok(Self { fd: Some(fd), trigger, next })
    }

    /// Waits for the next tick. May be dropped while waiting.
    ///
    /// # Errors
    /// Those of reading the timer; none is expected.
    pub(crate) async fn tick(&mut self) -> io::Result<Tick> {
        let Some(fd) = &self.fd else { return std::future::pending().await };
        loop {
            let mut ready = fd.readable().await?;
            let mut fired = [0u8; 8];
            let read = ready.try_io(|fd| {
                // SAFETY: `fired` has room for the eight bytes that a timer gives.
                let n = unsafe { libc::read(fd.as_raw_fd(), fired.as_mut_ptr().cast(), fired.len()) };
                if n < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
            });
            if let Ok(read) = read {
                read?;
                // Read empty: no need to try again before the next event.
                ready.clear_ready();
                let missed = u64::from_ne_bytes(fired).saturating_sub(1);
                let scheduled = self.next
                    + self.trigger.interval.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
                self.next = scheduled + self.trigger.interval;
                return Ok(Tick { scheduled, missed, last: false });
            }
        }
    }
}

/// The first multiple of the interval, plus the offset, that lies after `now`.
fn next_on_grid(now: Timestamp, trigger: Trigger) -> Timestamp {
    let interval = u64::try_from(trigger.interval.as_nanos()).unwrap_or(u64::MAX).max(1);
    let offset = u64::try_from(trigger.offset.as_nanos()).unwrap_or(0) % interval;
    let whole = now.0.saturating_sub(offset) / interval;
    Timestamp((whole + 1).saturating_mul(interval).saturating_add(offset))
}

fn timespec(d: Duration) -> libc::timespec {
    libc::timespec { tv_sec: d.as_secs() as libc::time_t, tv_nsec: d.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_intervals_fall_together_and_offsets_after_them() {
        let ms = Duration::from_millis;
        for now in [0, 1, 999_999, 1_000_000, 123_456_789] {
            let plain = next_on_grid(Timestamp(now), Trigger::every(ms(1)));
            assert!(
                plain.0 > now && plain.0 <= now + 1_000_000 && plain.0.is_multiple_of(1_000_000),
                "{now}"
            );
            let after = next_on_grid(Timestamp(now), Trigger::just_after(ms(1)));
            assert!(after.0 > now && after.0 % 1_000_000 == 100_000, "{now}: {after:?}");
        }
    }

    #[tokio::test]
    async fn ticks_come_and_missed_ones_are_counted() {
        let clock = Clock::system();
        let mut timer = Timer::start(Trigger::every(Duration::from_millis(2)), clock.clone()).unwrap();
        let first = timer.tick().await.unwrap();
        // Not a wait for something to happen: the time that passes is the test's subject.
        std::thread::sleep(Duration::from_millis(20));
        let second = timer.tick().await.unwrap();
        assert!(second.missed >= 8, "{second:?}");
        assert_eq!(second.scheduled.0 - first.scheduled.0, (second.missed + 1) * 2_000_000);
        assert!(clock.now() >= second.scheduled);
    }
}

//! Ticks, from a timerfd: it keeps 1 kHz where sleeping loses ten per cent of it, and counts what was missed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use wattrace_api::{Clock, Tick, Timestamp, Trigger};

/// Fires a [`Trigger`]'s ticks.
pub(crate) struct Timer {
    wait: Wait,
    trigger: Trigger,
    next: Timestamp,
}

/// How a tick is waited for.
enum Wait {
    /// It never comes.
    Never,
    /// With the runtime, which does other things meanwhile.
    Async(AsyncFd<OwnedFd>),
    /// By the thread, in one system call instead of two.
    Blocking(OwnedFd),
}

impl Timer {
    /// Starts the timer: the first tick is the next one on the trigger's grid. `blocking`: the thread that waits for a tick does
    /// nothing else meanwhile, not even hear that it need not wait.
    ///
    /// # Errors
    /// Those of `timerfd_create` and `timerfd_settime`, and a missing runtime.
    pub(crate) fn start(trigger: Trigger, clock: Clock, blocking: bool) -> io::Result<Self> {
        if trigger.interval.is_zero() {
            return Ok(Self { wait: Wait::Never, trigger, next: Timestamp(u64::MAX) });
        }
        let next = next_on_grid(clock.now(), trigger);
        let timing = libc::itimerspec {
            it_value: timespec(Duration::from_nanos(next.0)),
            it_interval: timespec(trigger.interval),
        };
        // SAFETY: the flags are valid; the result is checked before it is owned.
        let fd = unsafe {
            let waits = if blocking { 0 } else { libc::TFD_NONBLOCK };
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, waits | libc::TFD_CLOEXEC);
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
        if blocking {
            return Ok(Self { wait: Wait::Blocking(fd), trigger, next });
        }
        // SAFETY: the descriptor is owned by the value that is registered, and so stays open as long as it.
        let fd =
            unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) }.map_err(io::Error::other)?;
        Ok(Self { wait: Wait::Async(fd), trigger, next })
    }

    /// Whether waiting for a tick keeps the thread.
    pub(crate) fn blocks(&self) -> bool {
        matches!(self.wait, Wait::Blocking(_))
    }

    /// Waits for the next tick. May be dropped while waiting.
    ///
    /// # Errors
    /// Those of reading the timer; none is expected.
    pub(crate) async fn tick(&mut self) -> io::Result<Tick> {
        let fired = match &self.wait {
            Wait::Never => return std::future::pending().await,
            Wait::Blocking(fd) => read(fd)?,
            Wait::Async(fd) => loop {
                let mut ready = fd.readable().await?;
                if let Ok(fired) = AsyncFdReadyGuard::try_io(&mut ready, |fd| read(fd.get_ref())) {
                    // Read empty: no need to try again before the next event.
                    ready.clear_ready();
                    break fired?;
                }
            },
        };
        let missed = fired.saturating_sub(1);
        let scheduled =
            self.next + self.trigger.interval.saturating_mul(u32::try_from(missed).unwrap_or(u32::MAX));
        self.next = scheduled + self.trigger.interval;
        Ok(Tick { scheduled, missed, last: false })
    }
}

/// How often a timer has fired since it was read last; waits for the first time unless it is not to.
fn read(timer: &OwnedFd) -> io::Result<u64> {
    let mut fired = 0_u64;
    loop {
        // SAFETY: `fired` has room for the eight bytes that a timer gives.
        let n = unsafe { libc::read(timer.as_raw_fd(), (&raw mut fired).cast(), size_of::<u64>()) };
        if n >= 0 {
            return Ok(fired);
        }
        let error = io::Error::last_os_error();
        if error.kind() != io::ErrorKind::Interrupted {
            return Err(error);
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
            assert!(after.0 > now && after.0 % 1_000_000 == 600_000, "{now}: {after:?}");
        }
    }

    #[tokio::test]
    async fn ticks_come_and_missed_ones_are_counted() {
        let clock = Clock::system();
        for blocking in [false, true] {
            let trigger = Trigger::every(Duration::from_millis(2));
            let mut timer = Timer::start(trigger, clock.clone(), blocking).unwrap();
            let first = timer.tick().await.unwrap();
            // Not a wait for something to happen: the time that passes is the test's subject.
            std::thread::sleep(Duration::from_millis(20));
            let second = timer.tick().await.unwrap();
            assert!(second.missed >= 8, "{second:?}");
            assert_eq!(second.scheduled.0 - first.scheduled.0, (second.missed + 1) * 2_000_000);
            assert!(clock.now() >= second.scheduled);
        }
    }
}

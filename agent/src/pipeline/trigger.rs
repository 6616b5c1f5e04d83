//! Ticks, from timerfds: they keep 1 kHz where sleeping loses ten per cent of it, and count what was missed.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::time::Duration;

use tokio::io::Interest;
use tokio::io::unix::{AsyncFd, AsyncFdReadyGuard};
use wattrace_api::{Clock, Tick, Timestamp, Trigger};

/// Fires a [`Trigger`]'s ticks.
pub(crate) struct Timer {
    clock: Clock,
    /// `None`: no tick ever comes.
    turns: Option<Turns>,
    /// How many ticks had passed at the last one that was told.
    told: u64,
}

/// Two timers that fire by turns, each at every other tick. To read a timer is to set it anew, and to set the
/// one that is due first is to set the processor's own, which in a virtual machine takes longer than all the
/// rest of a tick. Of two, the one that is read is never the one that is due first.
struct Turns {
    timers: [Wait; 2],
    /// How often each has fired, as far as has been read.
    fired: [u64; 2],
    /// Ticks that have passed, counted from the first.
    passed: u64,
    /// When the first tick is due.
    first: Timestamp,
    interval: Duration,
    /// The CPU on which the timers fire.
    cpu: libc::c_int,
}

/// How a timer is waited for.
enum Wait {
    /// With the runtime, which does other things meanwhile.
    Async(AsyncFd<OwnedFd>),
    /// By the thread, in one system call instead of two.
    Blocking(OwnedFd),
}

impl Timer {
    /// Starts the timer: the first tick is the next one on the trigger's grid. `blocking`: the thread that
    /// waits for a tick does nothing else meanwhile, not even hear that it need not wait.
    ///
    /// # Errors
    /// Those of `timerfd_create` and `timerfd_settime`, and a missing runtime.
    pub(crate) fn start(trigger: Trigger, clock: Clock, blocking: bool) -> io::Result<Self> {
        let turns = match trigger.interval {
            Duration::ZERO => None,
            interval => Some(Turns::start(next_on_grid(clock.now(), trigger), interval, blocking)?),
        };
        Ok(Self { clock, turns, told: 0 })
    }

    /// Whether waiting for a tick keeps the thread.
    pub(crate) fn blocks(&self) -> bool {
        self.turns.as_ref().is_some_and(|turns| matches!(turns.timers, [Wait::Blocking(_), _]))
    }

    /// Waits for the next tick. May be dropped while waiting.
    ///
    /// # Errors
    /// Those of reading the timer and of setting it; none is expected.
    pub(crate) async fn tick(&mut self) -> io::Result<Tick> {
        let Some(turns) = &mut self.turns else { return std::future::pending().await };
        if turns.passed == self.told {
            turns.wait().await?;
        }
        if self.clock.now() >= turns.due(turns.passed + 1) {
            // So late that the other one has fired as well.
            turns.wait().await?;
        }
        let missed = turns.passed - self.told - 1;
        self.told = turns.passed;
        Ok(Tick { scheduled: turns.due(self.told), missed, last: false })
    }
}

impl Turns {
    fn start(first: Timestamp, interval: Duration, blocking: bool) -> io::Result<Self> {
        let timers = [Wait::new(blocking)?, Wait::new(blocking)?];
        // SAFETY: it has no preconditions.
        let cpu = unsafe { libc::sched_getcpu() };
        let turns = Self { timers, fired: [0; 2], passed: 0, first, interval, cpu };
        turns.set(0)?;
        turns.set(1)?;
        Ok(turns)
    }

    /// When a tick is due, counted from 1.
    fn due(&self, tick: u64) -> Timestamp {
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        Timestamp(self.first.0.saturating_add((tick - 1).saturating_mul(interval)))
    }

    /// Waits for the next tick, unless more than that have passed already. May be dropped while waiting.
    async fn wait(&mut self) -> io::Result<()> {
        loop {
            let turn = (self.passed % 2) as usize;
            self.fired[turn] += self.timers[turn].wait().await?;
            self.gather(1 - turn)?;
            // The first fires at ticks 1, 3, 5 and so on, the second at 2, 4, 6. What it tells of may be
            // earlier ones alone, that have passed with the other's.
            let latest = (2 * self.fired[turn] + turn as u64).saturating_sub(1);
            if latest > self.passed {
                self.passed = latest;
                return Ok(());
            }
        }
    }

    /// A timer fires on the CPU on which it was set, and wakes who waits for it there. Two of them on two
    /// CPUs would have their thread move from one to the other and back at every tick: so the `other` one
    /// follows to where this one was read.
    fn gather(&mut self, other: usize) -> io::Result<()> {
        // SAFETY: it has no preconditions.
        let here = unsafe { libc::sched_getcpu() };
        if here != self.cpu {
            self.cpu = here;
            self.set(other)?;
        }
        Ok(())
    }

    /// Sets a timer to the first of its ticks that has not been read of it. Had that one fired already, it
    /// does so again, at once.
    fn set(&self, turn: usize) -> io::Result<()> {
        let first = self.due(2 * self.fired[turn] + turn as u64 + 1);
        self.timers[turn].set(first, self.interval.saturating_mul(2))
    }
}

impl Wait {
    fn new(blocking: bool) -> io::Result<Self> {
        // SAFETY: the flags are valid; the result is checked before it is owned.
        let fd = unsafe {
            let waits = if blocking { 0 } else { libc::TFD_NONBLOCK };
            let fd = libc::timerfd_create(libc::CLOCK_MONOTONIC, waits | libc::TFD_CLOEXEC);
            if fd < 0 {
                return Err(io::Error::last_os_error());
            }
            OwnedFd::from_raw_fd(fd)
        };
        if blocking {
            return Ok(Self::Blocking(fd));
        }
        // SAFETY: the descriptor is owned by the value that is registered, and so stays open as long as it.
        let fd = unsafe { AsyncFd::register_with_interest(fd, Interest::READABLE) };
        Ok(Self::Async(fd.map_err(io::Error::other)?))
    }

    /// From now on it fires at `first` and after that at every `interval`.
    fn set(&self, first: Timestamp, interval: Duration) -> io::Result<()> {
        let fd = match self {
            Self::Blocking(fd) => fd,
            Self::Async(fd) => fd.get_ref(),
        };
        let timing = libc::itimerspec {
            it_value: timespec(Duration::from_nanos(first.0)),
            it_interval: timespec(interval),
        };
        // SAFETY: `timing` is valid for the call; a null pointer says that the old value is not wanted.
        let failed = unsafe {
            libc::timerfd_settime(fd.as_raw_fd(), libc::TFD_TIMER_ABSTIME, &timing, std::ptr::null_mut())
        };
        if failed == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    }

    /// Waits until it has fired; returns how often it has. May be dropped while waiting.
    async fn wait(&self) -> io::Result<u64> {
        match self {
            Wait::Blocking(fd) => read(fd),
            Wait::Async(fd) => loop {
                let mut ready = fd.readable().await?;
                if let Ok(fired) = AsyncFdReadyGuard::try_io(&mut ready, |fd| read(fd.get_ref())) {
                    // Read empty: no need to try again before the next event.
                    ready.clear_ready();
                    return fired;
                }
            },
        }
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
        let (clock, interval) = (Clock::system(), Duration::from_millis(2));
        for blocking in [false, true] {
            let mut timer = Timer::start(Trigger::every(interval), clock.clone(), blocking).unwrap();
            let mut told = timer.tick().await.unwrap();
            // Even and odd numbers of them, and none.
            for late in [20, 0, 23, 0, 0, 5, 3, 0] {
                // Not a wait for something to happen: the time that passes is the test's subject.
                std::thread::sleep(Duration::from_millis(late));
                let tick = timer.tick().await.unwrap();
                assert!(tick.missed + 1 >= late / 2, "after {late} ms: {tick:?}");
                assert_eq!(tick.scheduled.0 - told.scheduled.0, (tick.missed + 1) * 2_000_000);
                let now = clock.now();
                assert!(now >= tick.scheduled, "{now:?} {tick:?}");
                told = tick;
            }
        }
    }

    #[tokio::test]
    async fn a_tick_that_nobody_waited_for_to_the_end_is_told_the_next_time() {
        let (clock, interval) = (Clock::system(), Duration::from_millis(2));
        let mut timer = Timer::start(Trigger::every(interval), clock.clone(), false).unwrap();
        let first = timer.tick().await.unwrap();
        std::thread::sleep(Duration::from_millis(5));
        let mut ticks = 0;
        while clock.now() < first.scheduled + Duration::from_millis(40) {
            // Given up at its first wait, every time.
            ticks += tokio::select! {
                biased;
                tick = timer.tick() => tick.unwrap().missed + 1,
                () = tokio::task::yield_now() => 0,
            };
        }
        let last = timer.tick().await.unwrap();
        assert_eq!(last.scheduled.0 - first.scheduled.0, (ticks + last.missed + 1) * 2_000_000);
        assert!(ticks >= 10, "{ticks}");
    }

    #[tokio::test]
    async fn both_timers_follow_their_thread_and_no_tick_is_lost_on_the_way() {
        let run_on = |cpu: usize| {
            // SAFETY: a set of CPUs may be all zeros, and is valid for the calls; 0 is this thread.
            unsafe {
                let mut set: libc::cpu_set_t = std::mem::zeroed();
                libc::CPU_SET(cpu, &mut set);
                libc::sched_setaffinity(0, size_of_val(&set), &set)
            }
        };
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            return eprintln!("skipped: there is only one CPU");
        }
        let interval = Duration::from_millis(2);
        for blocking in [false, true] {
            let mut timer = Timer::start(Trigger::every(interval), Clock::system(), blocking).unwrap();
            let first = timer.tick().await.unwrap();
            let mut ticks = 1;
            for cpu in [0, 1, 1, 0, 1, 0, 0] {
                assert_eq!(run_on(cpu), 0, "{}", io::Error::last_os_error());
                // Not a wait for something to happen: both have fired before they are told to follow.
                std::thread::sleep(interval * 5 / 2);
                let tick = timer.tick().await.unwrap();
                ticks += tick.missed + 1;
                assert_eq!(tick.scheduled.0 - first.scheduled.0, (ticks - 1) * 2_000_000);
                assert_eq!(timer.turns.as_ref().unwrap().cpu, cpu as libc::c_int);
            }
        }
    }
}

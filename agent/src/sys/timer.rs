//! A source's ticks, from timerfds: they hold 1 kHz, which a loop that sleeps does not, and they count missed
//! ticks. `source.rs` waits for them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::Duration;

use rustix::io::Errno;
use rustix::thread::sched_getcpu;
use rustix::time::{
    Itimerspec, TimerfdClockId, TimerfdFlags, TimerfdTimerFlags, Timespec, timerfd_create, timerfd_settime,
};
use wattrace_api::{Clock, Tick, Timestamp, Trigger};

/// Fires the ticks of a [`Trigger`] with an interval.
///
/// Two timers take turns: each fires at every other tick. Reading a periodic timerfd re-arms it, and
/// re-arming the timer that expires next reprograms the CPU's timer; in a virtual machine that is an exit,
/// and most of what a bare tick costs. With two timers, the one that is read is never the one that expires
/// next.
pub(crate) struct Timer {
    clock: Clock,
    timers: [OwnedFd; 2],
    /// How often each timer has expired, as far as it was read.
    expired: [u64; 2],
    /// Ticks that have passed since the start.
    passed: u64,
    /// Ticks that [`Timer::take`] and [`Timer::wait`] have returned or counted as missed.
    reported: u64,
    /// When the first tick is due.
    first: Timestamp,
    interval: Duration,
    /// The CPU on which both timers expire.
    cpu: usize,
    blocking: bool,
}

impl Timer {
    /// Starts the timer: the first tick is the next one on the trigger's grid. `None` if the trigger has no
    /// interval. A `blocking` timer is for [`Timer::wait`], any other one for [`Timer::take`].
    ///
    /// # Errors
    /// Those of `timerfd_create` and `timerfd_settime`.
    pub(crate) fn start(trigger: Trigger, clock: Clock, blocking: bool) -> io::Result<Option<Self>> {
        if trigger.interval.is_zero() {
            return Ok(None);
        }
        let timer = Self {
            timers: [create(blocking)?, create(blocking)?],
            expired: [0; 2],
            passed: 0,
            reported: 0,
            first: next_on_grid(clock.now(), trigger),
            interval: trigger.interval,
            cpu: sched_getcpu(),
            blocking,
            clock,
        };
        timer.arm(0)?;
        timer.arm(1)?;
        Ok(Some(timer))
    }

    /// Whether it is for [`Timer::wait`].
    pub(crate) fn blocks(&self) -> bool {
        self.blocking
    }

    /// The descriptor that is readable when the next tick is due.
    pub(crate) fn descriptor(&self) -> BorrowedFd<'_> {
        self.timers[self.turn()].as_fd()
    }

    /// Waits for the next tick: a single system call per tick.
    ///
    /// # Errors
    /// Those of reading and arming a timer; none is expected.
    pub(crate) fn wait(&mut self) -> io::Result<Tick> {
        loop {
            if let Some(tick) = self.take()? {
                return Ok(tick);
            }
        }
    }

    /// The tick that is due; `None` if none is yet.
    ///
    /// # Errors
    /// Those of reading and arming a timer; none is expected.
    pub(crate) fn take(&mut self) -> io::Result<Option<Tick>> {
        if self.passed == self.reported {
            self.read()?;
        }
        if self.passed > self.reported && self.clock.now() >= self.due(self.passed + 1) {
            // So late that the other timer has expired as well.
            self.read()?;
        }
        if self.passed == self.reported {
            return Ok(None);
        }
        let missed = self.passed - self.reported - 1;
        self.reported = self.passed;
        Ok(Some(Tick { missed, ..Tick::at(self.due(self.passed)) }))
    }

    /// Which of the two timers expires at the next tick.
    fn turn(&self) -> usize {
        (self.passed % 2) as usize
    }

    /// When a tick is due, counted from 1.
    fn due(&self, tick: u64) -> Timestamp {
        let interval = u64::try_from(self.interval.as_nanos()).unwrap_or(u64::MAX);
        Timestamp(self.first.0.saturating_add((tick - 1).saturating_mul(interval)))
    }

    /// Reads the timer of the next tick.
    fn read(&mut self) -> io::Result<()> {
        let turn = self.turn();
        let expired = read(&self.timers[turn])?;
        if expired == 0 {
            return Ok(());
        }
        self.expired[turn] += expired;
        self.move_to_current_cpu(1 - turn)?;
        // The first timer expires at ticks 1, 3, 5 and so on, the second at 2, 4, 6. Its count may consist of
        // earlier expirations alone, whose ticks have passed with the other timer's.
        let latest = (2 * self.expired[turn] + turn as u64).saturating_sub(1);
        self.passed = self.passed.max(latest);
        Ok(())
    }

    /// A timer expires on the CPU on which it was armed, and wakes the thread there. Timers on two CPUs would
    /// make the thread migrate at every tick: so the `other` one follows to the CPU on which this one was
    /// read (and re-armed).
    fn move_to_current_cpu(&mut self, other: usize) -> io::Result<()> {
        let cpu = sched_getcpu();
        if cpu != self.cpu {
            self.cpu = cpu;
            self.arm(other)?;
        }
        Ok(())
    }

    /// Arms a timer for the first of its ticks that was not read from it. If that tick has passed, it expires
    /// at once.
    fn arm(&self, turn: usize) -> io::Result<()> {
        let first = self.due(2 * self.expired[turn] + turn as u64 + 1);
        let timing = Itimerspec {
            it_value: timespec(Duration::from_nanos(first.0)),
            it_interval: timespec(self.interval.saturating_mul(2)),
        };
        timerfd_settime(&self.timers[turn], TimerfdTimerFlags::ABSTIME, &timing)?;
        Ok(())
    }
}

fn create(blocking: bool) -> io::Result<OwnedFd> {
    let waits = if blocking { TimerfdFlags::empty() } else { TimerfdFlags::NONBLOCK };
    Ok(timerfd_create(TimerfdClockId::Monotonic, TimerfdFlags::CLOEXEC | waits)?)
}

/// How often a timer has expired since the last read. A blocking timer waits for the next expiration; another
/// one returns zero.
fn read(timer: &OwnedFd) -> io::Result<u64> {
    let mut expired = [0; size_of::<u64>()];
    loop {
        match rustix::io::read(timer, &mut expired) {
            Ok(_) => return Ok(u64::from_ne_bytes(expired)),
            Err(Errno::INTR) => {}
            Err(Errno::AGAIN) => return Ok(0),
            Err(e) => return Err(e.into()),
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

fn timespec(d: Duration) -> Timespec {
    Timespec { tv_sec: d.as_secs() as i64, tv_nsec: d.subsec_nanos().into() }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn start(interval: Duration, blocking: bool) -> Timer {
        Timer::start(Trigger::every(interval), Clock::system(), blocking).unwrap().unwrap()
    }

    /// The next tick, in the way the source loop waits for it.
    fn next(timer: &mut Timer, blocking: bool) -> Tick {
        if blocking {
            return timer.wait().unwrap();
        }
        loop {
            let polled = crate::sys::poll::readable([timer.descriptor()], Some(Duration::from_secs(20)));
            assert_eq!(polled.unwrap(), [true], "no tick");
            if let Some(tick) = timer.take().unwrap() {
                return tick;
            }
        }
    }

    #[test]
    fn equal_intervals_tick_together_and_offsets_after_them() {
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

    #[test]
    fn without_an_interval_there_is_no_timer() {
        assert!(Timer::start(Trigger::MANUAL, Clock::system(), false).unwrap().is_none());
    }

    #[test]
    fn ticks_come_and_missed_ones_are_counted() {
        for blocking in [false, true] {
            let mut timer = start(Duration::from_millis(2), blocking);
            let mut last = next(&mut timer, blocking);
            // Even and odd numbers of missed ticks, and none.
            for late in [20, 0, 23, 0, 0, 5, 3, 0] {
                // Not a wait for an event: the time that passes is what is tested.
                std::thread::sleep(Duration::from_millis(late));
                let tick = next(&mut timer, blocking);
                assert!(tick.missed + 1 >= late / 2, "after {late} ms: {tick:?}");
                assert_eq!(tick.scheduled.0 - last.scheduled.0, (tick.missed + 1) * 2_000_000);
                let now = timer.clock.now();
                assert!(now >= tick.scheduled, "{now:?} {tick:?}");
                last = tick;
            }
        }
    }

    #[test]
    fn a_timer_that_does_not_block_has_no_tick_before_one_is_due() {
        let mut timer = start(Duration::from_secs(3600), false);
        assert!(timer.take().unwrap().is_none() && timer.take().unwrap().is_none());
    }

    #[test]
    fn both_timers_follow_their_thread_and_no_tick_is_lost() {
        let run_on = |cpu: usize| {
            let mut set = rustix::thread::CpuSet::new();
            set.set(cpu);
            rustix::thread::sched_setaffinity(None, &set).unwrap();
        };
        if std::thread::available_parallelism().map_or(1, usize::from) < 2 {
            return eprintln!("skipped: there is only one CPU");
        }
        let interval = Duration::from_millis(2);
        for blocking in [false, true] {
            let mut timer = start(interval, blocking);
            let first = next(&mut timer, blocking);
            let mut ticks = 1;
            for cpu in [0, 1, 1, 0, 1, 0, 0] {
                run_on(cpu);
                // Not a wait for an event: both timers have expired before they follow.
                std::thread::sleep(interval * 5 / 2);
                let tick = next(&mut timer, blocking);
                ticks += tick.missed + 1;
                assert_eq!(tick.scheduled.0 - first.scheduled.0, (ticks - 1) * 2_000_000);
                assert_eq!(timer.cpu, cpu);
            }
        }
    }
}

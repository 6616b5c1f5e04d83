//! When the machine itself was late: threads of the highest priority that do nothing but wait for a timer,
//! one on each CPU. What keeps them waiting (a hypervisor that runs somebody else, interrupts) keeps
//! everybody waiting, and no pipeline is to blame.

use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::sync::{Arc, Mutex};
use std::thread::JoinHandle;
use std::time::Duration;

use crate::machine;

/// How often they look.
const PERIOD: Duration = Duration::from_micros(500);
/// A wake-up that is later than this is noted.
const LATE: u64 = 200_000;
/// Above all that the agent runs.
const PRIORITY: libc::c_int = 50;

/// Spans of monotonic time, in nanoseconds.
pub(crate) type Spans = Arc<Mutex<Vec<(u64, u64)>>>;

/// Watches the machine for as long as it lives.
pub(crate) struct Watch {
    ended: Arc<AtomicBool>,
    threads: Vec<JoinHandle<()>>,
    spans: Spans,
}

impl Watch {
    /// `None` if real-time priority is not to be had: then nobody knows.
    pub(crate) fn start() -> Option<Self> {
        let (ended, spans) = (Arc::new(AtomicBool::new(false)), Spans::default());
        let cpus = std::thread::available_parallelism().map_or(1, usize::from);
        let threads = (0..cpus).map(|cpu| {
            let (ended, spans) = (ended.clone(), spans.clone());
            std::thread::spawn(move || watch(cpu, &ended, &spans))
        });
        let threads = threads.collect();
        let parameters = libc::sched_param { sched_priority: PRIORITY };
        // SAFETY: `parameters` is valid for the call; 0 is the calling thread, which keeps what it had
        // before.
        let permitted = unsafe {
            let before = libc::sched_getscheduler(0);
            let ok = libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters) == 0;
            let none = libc::sched_param { sched_priority: 0 };
            libc::sched_setscheduler(0, before, &none);
            ok
        };
        let watch = Self { ended, threads, spans };
        permitted.then_some(watch)
    }

    /// How many times the machine was late, and for how long all in all.
    pub(crate) fn lateness(&self) -> (usize, Duration) {
        let spans = self.spans.lock().expect("nobody panics with it");
        let sum = spans.iter().map(|(from, to)| to - from).sum();
        (spans.len(), Duration::from_nanos(sum))
    }

    /// Whether it was at some time from `from` to `to`.
    pub(crate) fn was_late(&self, (from, to): (u64, u64)) -> bool {
        let spans = self.spans.lock().expect("nobody panics with it");
        spans.iter().any(|&(begin, end)| begin < to && from < end)
    }
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.ended.store(true, Relaxed);
        self.threads.drain(..).for_each(|thread| thread.join().expect("it only waits"));
    }
}

fn watch(cpu: usize, ended: &AtomicBool, spans: &Mutex<Vec<(u64, u64)>>) {
    let parameters = libc::sched_param { sched_priority: PRIORITY };
    // SAFETY: the set is plain data; both calls only read what they are given, and concern the calling
    // thread.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set);
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &parameters);
    }
    let period = PERIOD.as_nanos() as u64;
    let mut next = machine::clock(libc::CLOCK_MONOTONIC) / period * period;
    while !ended.load(Relaxed) {
        next += period;
        let until = libc::timespec {
            tv_sec: (next / 1_000_000_000) as libc::time_t,
            tv_nsec: (next % 1_000_000_000) as libc::c_long,
        };
        // SAFETY: `until` is valid for the call; what is left of the time is not wanted.
        unsafe {
            libc::clock_nanosleep(libc::CLOCK_MONOTONIC, libc::TIMER_ABSTIME, &until, std::ptr::null_mut());
        }
        let now = machine::clock(libc::CLOCK_MONOTONIC);
        if now > next + LATE {
            spans.lock().expect("nobody panics with it").push((next, now));
            next = now / period * period;
        }
    }
}

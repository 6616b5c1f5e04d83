//! Two threads that do nothing but switch on one CPU.

use std::io::{self, PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::sync::Barrier;
use std::sync::atomic::{AtomicBool, Ordering::Relaxed};
use std::time::{Duration, Instant};

/// Calls of `sched_yield` that are timed together: two switches each.
const BATCH: u32 = 16;
/// Calls before the first one that is timed.
const WARM_UP: u32 = 100;

/// What a switch costs, ns: two real-time threads on `cpu` yield to each other for the given time, which
/// nothing but interrupts can disturb. The 10 % quantile of all batches, which leaves interrupts out.
pub(crate) fn yielding(cpu: usize, time: Duration) -> io::Result<f64> {
    let (is_over, start) = (AtomicBool::new(false), Barrier::new(2));
    // Both are set up before either one occupies the CPU.
    let set_up = || {
        let result = bind_to(cpu).and_then(|()| become_realtime());
        start.wait();
        result
    };
    std::thread::scope(|scope| {
        let other = scope.spawn(|| {
            let result = set_up();
            while !is_over.load(Relaxed) {
                yield_cpu();
            }
            result
        });
        let this = scope.spawn(|| {
            let result = set_up();
            (0..WARM_UP).for_each(|_| yield_cpu());
            let (begun, mut batches) = (Instant::now(), Vec::new());
            while begun.elapsed() < time {
                let batch = Instant::now();
                (0..BATCH).for_each(|_| yield_cpu());
                batches.push(batch.elapsed().as_nanos() as f64 / f64::from(2 * BATCH));
            }
            is_over.store(true, Relaxed);
            batches.sort_by(f64::total_cmp);
            result.map(|()| batches[batches.len() / 10])
        });
        let cost = join(this)?;
        join(other)?;
        Ok(cost)
    })
}

/// What a switch costs end to end, ns: two ordinary threads on `cpu` send a byte to and fro through
/// pipes, `trips` times. The mean, interrupts and other threads included.
pub(crate) fn ping_pong(cpu: usize, trips: u32) -> io::Result<f64> {
    let (here_in, there_out) = pipe()?;
    let (there_in, here_out) = pipe()?;
    std::thread::scope(|scope| {
        let there = scope.spawn(move || trip(cpu, trips, (there_in, there_out), false));
        let here = scope.spawn(move || trip(cpu, trips, (here_in, here_out), true));
        join(there)?;
        Ok(join(here)? / f64::from(2 * trips))
    })
}

fn trip(cpu: usize, trips: u32, pipes: (PipeReader, PipeWriter), is_first: bool) -> io::Result<f64> {
    let (mut from, mut to) = pipes;
    bind_to(cpu)?;
    let mut byte = [0];
    let start = Instant::now();
    for _ in 0..trips {
        if is_first {
            to.write_all(&byte)?;
        }
        from.read_exact(&mut byte)?;
        if !is_first {
            to.write_all(&byte)?;
        }
    }
    Ok(start.elapsed().as_nanos() as f64)
}

fn join<T>(thread: std::thread::ScopedJoinHandle<'_, io::Result<T>>) -> io::Result<T> {
    thread.join().unwrap_or_else(|_| Err(io::Error::other("a thread panicked")))
}

fn yield_cpu() {
    // SAFETY: it has no preconditions.
    unsafe { libc::sched_yield() };
}

fn bind_to(cpu: usize) -> io::Result<()> {
    // SAFETY: the set is plain data, initialised by the macros; the call only reads it.
    let result = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(cpu, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set)
    };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

fn become_realtime() -> io::Result<()> {
    let lowest = libc::sched_param { sched_priority: 1 };
    // SAFETY: `lowest` is valid for the call.
    let result = unsafe { libc::sched_setscheduler(0, libc::SCHED_FIFO, &lowest) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

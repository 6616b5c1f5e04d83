//! What accounting costs a context switch: two threads on one CPU hand a byte to and fro through pipes, with no program,
//! an empty program and the accounting program attached, in interleaved rounds. Reports medians and differences.
//!
//! `sudo cargo bench -p wattrace-sched`, or as a part of `cargo xtask bench`.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::time::Instant;

use wattrace_sched::kernel::{Flush, Kernel, attach_empty};
use wattrace_sched::topology::Topology;

const ROUNDS: usize = 9;
const TRIPS: u32 = 200_000;

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if std::env::args().any(|a| a == "--list") {
        return Ok(());
    }
    let cpus = Topology::read("/sys".as_ref())?.package_of.len();
    let mut nanos: [Vec<f64>; 3] = Default::default();
    ping_pong(TRIPS / 10)?;
    for _ in 0..ROUNDS {
        nanos[0].push(ping_pong(TRIPS)?);
        let empty = attach_empty()?;
        nanos[1].push(ping_pong(TRIPS)?);
        drop(empty);
        let kernel = Kernel::load(cpus, 32)?;
        let accounted = (0..cpus).filter(|&cpu| matches!(kernel.flush(cpu), Ok(Flush::Closed))).count();
        assert!(accounted > 0, "no CPU is accounted for");
        nanos[2].push(ping_pong(TRIPS)?);
        assert!(kernel.switches() >= 2 * u64::from(TRIPS), "the switches were not accounted for");
    }
    let [none, empty, accounting] = nanos.map(|mut rounds| {
        rounds.sort_by(f64::total_cmp);
        rounds[rounds.len() / 2]
    });
    println!("context switch, ns, median of {ROUNDS} interleaved rounds of {} switches", 2 * TRIPS);
    println!("  no program          {none:8.1}");
    println!("  empty program       {empty:8.1}   {:+6.1}", empty - none);
    println!("  accounting          {accounting:8.1}   {:+6.1}", accounting - none);
    println!(
        "  accounting / empty  {:8.2}   (target: at most +40 ns where an empty program costs +17)",
        (accounting - none) / (empty - none)
    );
    Ok(())
}

/// Nanoseconds a switch, over `trips` round trips.
fn ping_pong(trips: u32) -> std::io::Result<f64> {
    let (here_in, there_out) = pipe()?;
    let (there_in, here_out) = pipe()?;
    std::thread::scope(|scope| {
        let there = scope.spawn(move || trip(trips, there_in, there_out, false));
        let here = trip(trips, here_in, here_out, true)?;
        there.join().unwrap_or_else(|_| Err(std::io::Error::other("the other thread panicked")))?;
        Ok(here / f64::from(2 * trips))
    })
}

fn trip(trips: u32, mut from: PipeReader, mut to: PipeWriter, begins: bool) -> std::io::Result<f64> {
    pin_to_first_cpu()?;
    let mut byte = [0];
    let start = Instant::now();
    for _ in 0..trips {
        if begins {
            to.write_all(&byte)?;
        }
        from.read_exact(&mut byte)?;
        if !begins {
            to.write_all(&byte)?;
        }
    }
    Ok(start.elapsed().as_nanos() as f64)
}

fn pin_to_first_cpu() -> std::io::Result<()> {
    // SAFETY: the set is plain data, initialised by the macros; the call only reads it.
    let failed = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(0, &mut set);
        libc::sched_setaffinity(0, size_of_val(&set), &set) != 0
    };
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

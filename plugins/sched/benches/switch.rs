//! What accounting costs a context switch: two threads on one CPU hand a byte to and fro through pipes, with no program, an
//! empty program, and accounting of each kind attached, in interleaved rounds. Reports medians and differences.
//!
//! `sudo cargo bench -p wattrace-sched`, or as a part of `cargo xtask bench`.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::time::Instant;

use wattrace_sched::Counter;
use wattrace_sched::kernel::{Flush, Kernel, Options, attach_empty};
use wattrace_sched::topology::Topology;

const ROUNDS: usize = 11;
const TRIPS: u32 = 100_000;

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    if std::env::args().any(|a| a == "--list") {
        return Ok(());
    }
    let cpus = Topology::read("/sys".as_ref())?.package_of.len();
    let time = Options::of_cpus(cpus);
    let mut kinds = vec![
        ("time", time.clone()),
        ("time, without BTF", Options { typed: false, ..time.clone() }),
        ("time, interrupts apart", Options { separate_irq: true, ..time.clone() }),
    ];
    if cpus > 1 {
        let mut siblings = time.siblings.clone();
        (siblings[0], siblings[1]) = (Some(1), Some(0));
        kinds.push(("time, cores shared", Options { siblings, ..time.clone() }));
    }
    let counters = vec![Counter::Cycles, Counter::Instructions];
    let mut counting = Options { counters, ..time.clone() };
    if let Err(e) = Kernel::load(&counting) {
        println!("counters are simulated (perf's clock): {e}");
        counting.simulated_counters = true;
    }
    let read_ns = Kernel::load(&counting)?.counter_cost()?;
    kinds.push(("time, 2 counters", counting));

    let (mut none, mut empty) = (Vec::new(), Vec::new());
    let mut accounting = vec![Vec::new(); kinds.len()];
    ping_pong(TRIPS)?;
    for _ in 0..ROUNDS {
        none.push(ping_pong(TRIPS)?);
        let program = attach_empty()?;
        empty.push(ping_pong(TRIPS)?);
        drop(program);
        for ((_, options), nanos) in kinds.iter().zip(&mut accounting) {
            let kernel = Kernel::load(options)?;
            let accounted = (0..cpus).filter(|&cpu| matches!(kernel.flush(cpu), Ok(Flush::Closed))).count();
            assert!(accounted > 0, "no CPU is accounted for");
            nanos.push(ping_pong(TRIPS)?);
            assert!(kernel.switches() >= 2 * u64::from(TRIPS), "the switches were not accounted for");
        }
    }
    println!("context switch, ns, medians of {ROUNDS} interleaved rounds of {} switches", 2 * TRIPS);
    let (none, empty) = (median(none), median(empty));
    println!("  {:<24} {none:8.1}", "no program");
    println!("  {:<24} {empty:8.1}   {:+7.1}", "empty program", empty - none);
    let cost = |nanos: f64| (nanos - none, (nanos - none) / (empty - none));
    let medians: Vec<_> =
        kinds.iter().zip(accounting).map(|((kind, _), nanos)| (kind, median(nanos))).collect();
    for (kind, nanos) in &medians {
        let (more, ratio) = cost(*nanos);
        println!("  {kind:<24} {nanos:8.1}   {more:+7.1}   {ratio:6.2} times the empty program");
    }
    println!("  target for time: at most 40 ns, and at most 2 times the empty program");
    if let Some((_, counting)) = medians.iter().find(|(kind, _)| kind.contains("counters")) {
        let beyond = counting - medians[0].1 - 2.0 * read_ns as f64;
        println!(
            "  two bare readings of a counter: {read_ns} ns each; beyond these and time: {beyond:+.1} (target: 30)"
        );
    }
    Ok(())
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
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

//! What accounting costs a context switch: two threads on one CPU hand a byte to and fro through pipes, with
//! no program, an empty program, one that only reads counters, and accounting of each kind attached, in
//! interleaved rounds. Reports medians of each round's differences.
//!
//! `sudo cargo bench -p wattrace-sched`, or as a part of `cargo xtask bench`.

use std::io::{PipeReader, PipeWriter, Read as _, Write as _, pipe};
use std::time::Instant;

use wattrace_sched::Counter;
use wattrace_sched::kernel::{Baseline, Flush, Kernel, Options};
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
    let back_to_back = Kernel::load(&counting)?.counter_cost()?;
    kinds.push(("time, 2 counters", counting.clone()));

    let (mut none, mut empty, mut readings) = (Vec::new(), Vec::new(), Vec::new());
    let mut accounting = vec![Vec::new(); kinds.len()];
    ping_pong(TRIPS)?;
    for _ in 0..ROUNDS {
        let nothing = ping_pong(TRIPS)?;
        none.push(nothing);
        let program = Baseline::empty()?;
        empty.push(ping_pong(TRIPS)? - nothing);
        drop(program);
        let program = Baseline::readings(&counting)?;
        readings.push(ping_pong(TRIPS)? - nothing);
        drop(program);
        for ((_, options), more) in kinds.iter().zip(&mut accounting) {
            let kernel = Kernel::load(options)?;
            let accounted = (0..cpus).filter(|&cpu| matches!(kernel.flush(cpu), Ok(Flush::Closed))).count();
            assert!(accounted > 0, "no CPU is accounted for");
            more.push(ping_pong(TRIPS)? - nothing);
            assert!(kernel.switches() >= 2 * u64::from(TRIPS), "the switches were not accounted for");
        }
    }
    println!("context switch, ns, medians of {ROUNDS} interleaved rounds of {} switches", 2 * TRIPS);
    println!("  {:<24} {:8.1}", "no program", median(none));
    let bare = median(empty);
    println!("  {:<24} {bare:+8.1}", "empty program");
    let bare_readings = median(readings);
    println!("  {:<24} {bare_readings:+8.1}", "2 bare readings");
    let costs: Vec<_> = accounting.into_iter().map(median).collect();
    for ((kind, _), cost) in kinds.iter().zip(&costs) {
        println!("  {kind:<24} {cost:+8.1}   {:6.2} times the empty program", cost / bare);
    }
    println!("  target for time: at most 40 ns, and at most 2 times the empty program");
    if let Some(counting) = costs.last() {
        println!(
            "  two counters beyond two bare readings: {:+.1} (target: 30); back to back, a reading costs {back_to_back}",
            counting - bare_readings
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

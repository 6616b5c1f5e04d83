//! A simulated meter whose power depends on this machine's CPUs in a known way.

use std::fs;
use std::sync::atomic::{AtomicU64, Ordering::Relaxed};
use std::time::Instant;

use wattrace_rapl_simulator::Zone;

/// Power at no load, in watts.
pub(crate) const IDLE: f64 = 10.0;
/// Further power of each busy CPU, in watts.
pub(crate) const PER_CPU: f64 = 20.0;

/// The idle time of all CPUs since boot, in nanoseconds, as the kernel counts it where ticks stop on idle
/// CPUs.
fn idle_nanos() -> u64 {
    let stat = fs::read_to_string("/proc/stat").unwrap();
    let mut numbers = stat.lines().next().unwrap().split_ascii_whitespace().skip(4);
    // Idle and iowait, in hundredths of a second.
    let hundredths: u64 = numbers.by_ref().take(2).map(|n| n.parse::<u64>().unwrap()).sum();
    hundredths * 10_000_000
}

/// A package of [`IDLE`] watts, and [`PER_CPU`] for each busy CPU.
pub(crate) fn zone_of_the_cpus() -> Zone {
    let cpus = std::thread::available_parallelism().unwrap().get() as f64;
    let (began, idle_before) = (Instant::now(), idle_nanos());
    let highest = AtomicU64::new(0);
    Zone::new("intel-rapl:0", "package-0", 0.0).along(move |_| {
        let idle = (idle_nanos() - idle_before) as f64 * 1e-9;
        let elapsed = began.elapsed().as_secs_f64();
        let busy = (elapsed * cpus - idle).max(0.0);
        let microjoules = ((IDLE * elapsed + PER_CPU * busy) * 1e6) as u64;
        // Idle time advances in steps of 10 ms; the meter must not go backwards because of that.
        highest.fetch_max(microjoules, Relaxed).max(microjoules)
    })
}

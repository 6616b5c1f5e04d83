//! What accounting costs a whole program that does little but switch: hackbench, with nothing attached, with accounting, and
//! with bpftrace counting the same nanoseconds per process, in interleaved rounds. Reports medians and ratios.
//!
//! `sudo cargo bench -p wattrace-sched --bench hackbench`, or as a part of `cargo xtask bench`. Needs hackbench (Debian's
//! rt-tests); without bpftrace the comparison is left out.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use wattrace_sched::kernel::{Flush, Kernel, Options};
use wattrace_sched::topology::Topology;

const ROUNDS: usize = 9;
const HACKBENCH: [&str; 6] = ["hackbench", "--groups", "2", "--loops", "3000", "--pipe"];
/// The same accounting in the shortest script: time on CPU by process.
const SCRIPT: &str = "tracepoint:sched:sched_switch { \
    if (@since[cpu]) { @ns[args->prev_pid] = sum(nsecs - @since[cpu]); } @since[cpu] = nsecs; }";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let cpus = Topology::read("/sys".as_ref())?.package_of.len();
    let (mut none, mut accounting, mut script) = (Vec::new(), Vec::new(), Vec::new());
    hackbench()?;
    for _ in 0..ROUNDS {
        none.push(hackbench()?);
        let kernel = Kernel::load(&Options::of_cpus(cpus))?;
        let accounted = (0..cpus).filter(|&cpu| matches!(kernel.flush(cpu), Ok(Flush::Closed))).count();
        assert!(accounted > 0, "no CPU is accounted for");
        accounting.push(hackbench()?);
        drop(kernel);
        if let Some(bpftrace) = Bpftrace::start() {
            script.push(hackbench()?);
            drop(bpftrace);
        }
    }
    println!("{}, seconds, medians of {ROUNDS} interleaved rounds", HACKBENCH.join(" "));
    let base = median(none);
    println!("  {:<24} {base:7.3}", "nothing attached");
    let line = |name: &str, seconds: f64| {
        println!("  {name:<24} {seconds:7.3}   {:+6.2} %", 100.0 * (seconds / base - 1.0));
    };
    line("accounting", median(accounting));
    if script.is_empty() {
        println!("  bpftrace is left out: it is not installed, or /sys/kernel/tracing is not mounted");
    } else {
        line("bpftrace, time by pid", median(script));
    }
    println!("  target: accounting slows it by less than 1 %");
    Ok(())
}

fn median(mut rounds: Vec<f64>) -> f64 {
    rounds.sort_by(f64::total_cmp);
    rounds[rounds.len() / 2]
}

fn hackbench() -> Result<f64, Failure> {
    let begun = Instant::now();
    let status = Command::new(HACKBENCH[0])
        .args(&HACKBENCH[1..])
        .stdout(Stdio::null())
        .status()
        .map_err(|e| format!("hackbench does not start ({e}): install rt-tests"))?;
    if status.success() {
        Ok(begun.elapsed().as_secs_f64())
    } else {
        Err(format!("hackbench: {status}").into())
    }
}

/// A running script.
struct Bpftrace(Child);

impl Bpftrace {
    /// Attached when this returns.
    fn start() -> Option<Self> {
        let mut child = Command::new("bpftrace")
            .args([
                "-q",
                "-e",
                &format!("BEGIN {{ printf(\"on\\n\"); }} {SCRIPT} END {{ clear(@ns); clear(@since); }}"),
            ])
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn()
            .ok()?;
        let mut line = String::new();
        let mut output = std::io::BufReader::new(child.stdout.take()?);
        let read = std::io::BufRead::read_line(&mut output, &mut line);
        if read.is_ok_and(|bytes| bytes > 0) {
            return Some(Self(child));
        }
        let _ = child.wait();
        None
    }
}

impl Drop for Bpftrace {
    fn drop(&mut self) {
        // SAFETY: it has no preconditions; the child is not reaped yet, so its pid is its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGINT) };
        let _ = self.0.wait();
    }
}

//! What accounting costs a whole program that does little but switch: hackbench, with nothing attached, with accounting, and
//! with bpftrace counting the same nanoseconds per process. A machine's speed wanders by more than what is to be seen, so each
//! round is compared with its own neighbours: nothing, accounting, accounting, nothing. Reports the mean of the rounds' ratios
//! with its 95 % interval, of the time that passed and of CPU time.
//!
//! `sudo cargo bench -p wattrace-sched --bench hackbench`, or as a part of `cargo xtask bench`. Needs hackbench (Debian's
//! rt-tests); without bpftrace the comparison is left out.

use std::process::{Child, Command, Stdio};
use std::time::Instant;

use wattrace_sched::kernel::{Flush, Kernel, Options};
use wattrace_sched::topology::Topology;

const ROUNDS: usize = 30;
const HACKBENCH: [&str; 6] = ["hackbench", "--groups", "2", "--loops", "1500", "--pipe"];
/// The same accounting in the shortest script: time on CPU by process.
const SCRIPT: &str = "tracepoint:sched:sched_switch { \
    if (@since[cpu]) { @ns[args->prev_pid] = sum(nsecs - @since[cpu]); } @since[cpu] = nsecs; }";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let cpus = Topology::read("/sys".as_ref())?.package_of.len();
    let (mut accounting, mut script) = (Vec::new(), Vec::new());
    hackbench()?;
    for _ in 0..ROUNDS {
        let before = hackbench()?;
        let kernel = Kernel::load(&Options::of_cpus(cpus))?;
        let accounted = (0..cpus).filter(|&cpu| matches!(kernel.flush(cpu), Ok(Flush::Closed))).count();
        assert!(accounted > 0, "no CPU is accounted for");
        let attached = [hackbench()?, hackbench()?];
        drop(kernel);
        let after = hackbench()?;
        accounting.push(ratio(attached, [before, after]));
        if let Some(bpftrace) = Bpftrace::start() {
            let attached = [hackbench()?, hackbench()?];
            drop(bpftrace);
            script.push(ratio(attached, [after, hackbench()?]));
        }
    }
    println!("{}, {ROUNDS} rounds, against nothing attached", HACKBENCH.join(" "));
    tell("accounting", &accounting);
    if script.is_empty() {
        println!("  bpftrace is left out: it is not installed, or /sys/kernel/tracing is not mounted");
    } else {
        tell("bpftrace, time by pid", &script);
    }
    println!("  target: accounting slows it by less than 1 %");
    Ok(())
}

/// Seconds that passed, and seconds of CPU time.
type Times = [f64; 2];

fn ratio(attached: [Times; 2], neighbours: [Times; 2]) -> Times {
    [0, 1].map(|which| {
        (attached[0][which] + attached[1][which]) / (neighbours[0][which] + neighbours[1][which])
    })
}

fn tell(name: &str, ratios: &[Times]) {
    for (which, what) in ["time", "CPU time"].into_iter().enumerate() {
        let logs: Vec<f64> = ratios.iter().map(|r| r[which].ln()).collect();
        let n = logs.len() as f64;
        let mean = logs.iter().sum::<f64>() / n;
        let variance = logs.iter().map(|l| (l - mean).powi(2)).sum::<f64>() / (n - 1.0).max(1.0);
        let (percent, half) = (100.0 * (mean.exp() - 1.0), 100.0 * 1.96 * (variance / n).sqrt());
        println!(
            "  {name:<24} {what:<9} {percent:+6.2} % (95 %: {:+.2} to {:+.2} %)",
            percent - half,
            percent + half
        );
    }
}

fn hackbench() -> Result<Times, Failure> {
    let (begun, cpu_before) = (Instant::now(), cpu_time_of_children());
    let status = Command::new(HACKBENCH[0])
        .args(&HACKBENCH[1..])
        .stdout(Stdio::null())
        .status()
        .map_err(|e| format!("hackbench does not start ({e}): install rt-tests"))?;
    if status.success() {
        Ok([begun.elapsed().as_secs_f64(), cpu_time_of_children() - cpu_before])
    } else {
        Err(format!("hackbench: {status}").into())
    }
}

/// Seconds of all children that have ended.
fn cpu_time_of_children() -> f64 {
    // SAFETY: rusage is plain data, which the call fills in.
    let used = unsafe {
        let mut used: libc::rusage = std::mem::zeroed();
        libc::getrusage(libc::RUSAGE_CHILDREN, &raw mut used);
        used
    };
    let seconds = |t: libc::timeval| t.tv_sec as f64 + t.tv_usec as f64 * 1e-6;
    seconds(used.ru_utime) + seconds(used.ru_stime)
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

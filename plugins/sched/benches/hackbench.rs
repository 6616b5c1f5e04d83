//! What accounting costs a whole program that does little but switch: hackbench, with nothing attached, with
//! accounting, and less often with an empty program, and with bpftrace counting the same nanoseconds per
//! process.
//!
//! Two runs of hackbench differ by several per cent whatever is attached, and long ones as much as short
//! ones: so there must be many, and short ones. Each CPU has its own, bound to it, all at the same time. A
//! round is ten of them with nothing attached, twenty with something, and ten with nothing, so that a machine
//! that gets slower or faster meanwhile does no harm. Reports the mean of the rounds' ratios with its 95 %
//! interval. They run threads, since a switch between these is the cheapest there is, and so what accounting
//! adds the largest part.
//!
//! `sudo cargo bench -p wattrace-sched --bench hackbench [-- --rounds=200]`, or as a part of `cargo xtask
//! bench`. Needs hackbench (Debian's rt-tests); without bpftrace the comparison is left out. A round takes
//! three seconds.

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use wattrace_sched::kernel::{Baseline, Flush, Kernel, Options};
use wattrace_sched::topology::Topology;

const ROUNDS: usize = 60;
/// Rounds to one in which others are compared as well.
const ROUNDS_TO_OTHERS: usize = 5;
const HACKBENCH: [&str; 7] = ["hackbench", "--groups", "1", "--loops", "200", "--pipe", "--threads"];
/// Of these, one after another.
const RUNS: usize = 10;
/// The same accounting in the shortest script: time on CPU by process.
const SCRIPT: &str = "tracepoint:sched:sched_switch { \
    if (@since[cpu]) { @ns[args->prev_pid] = sum(nsecs - @since[cpu]); } @since[cpu] = nsecs; }";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let given = std::env::args().find_map(|a| a.strip_prefix("--rounds=").and_then(|n| n.parse().ok()));
    let rounds = given.unwrap_or(ROUNDS);
    let cpus = Topology::read("/sys".as_ref())?.package_of.len();
    let (mut accounted, mut emptied, mut scripted) = (Vec::new(), Vec::new(), Vec::new());
    let (mut switches, mut seconds) = (0, 0.0);
    let has_bpftrace = Bpftrace::start().is_some();
    pace(cpus)?;
    for round in 0..rounds {
        accounted.push(slowdown(cpus, || {
            let kernel = Kernel::load(&Options::of_cpus(cpus))?;
            let accounted = (0..cpus).filter(|&cpu| matches!(kernel.flush(cpu), Ok(Flush::Closed))).count();
            assert!(accounted > 0, "no CPU is accounted for");
            let (before, began) = (kernel.switches(), Instant::now());
            let pace = pace(cpus)?;
            switches += kernel.switches() - before;
            seconds += began.elapsed().as_secs_f64() * cpus as f64;
            Ok(pace)
        })?);
        if round % ROUNDS_TO_OTHERS == 0 {
            emptied.push(slowdown(cpus, || {
                let _program = Baseline::empty()?;
                pace(cpus)
            })?);
            if has_bpftrace {
                scripted.push(slowdown(cpus, || {
                    let _script = Bpftrace::start().ok_or("bpftrace does not start again")?;
                    pace(cpus)
                })?);
            }
        }
    }
    println!("{}, on each of {cpus} CPUs: how much longer than with nothing attached", HACKBENCH.join(" "));
    println!("  {rounds} rounds, {:.0} switches per second and CPU", switches as f64 / seconds);
    tell("accounting", &accounted);
    tell("empty program", &emptied);
    if scripted.is_empty() {
        println!("  bpftrace is left out: it is not installed, or /sys/kernel/tracing is not mounted");
    } else {
        tell("bpftrace, time by pid", &scripted);
    }
    println!("  target: accounting slows it by less than 1 %");
    Ok(())
}

/// A round: how much longer it takes with something attached, which `attached` does twice, %.
fn slowdown(cpus: usize, mut attached: impl FnMut() -> Result<f64, Failure>) -> Result<f64, Failure> {
    let before = pace(cpus)?;
    let with = attached()? + attached()?;
    let without = before + pace(cpus)?;
    Ok(100.0 * (with / without - 1.0))
}

/// How long it takes, in seconds and in the mean.
fn pace(cpus: usize) -> Result<f64, Failure> {
    let mut sum = 0.0;
    for _ in 0..RUNS {
        sum += run(cpus)?;
    }
    Ok(sum / RUNS as f64)
}

/// How long a hackbench on each CPU takes, all at the same time.
fn run(cpus: usize) -> Result<f64, Failure> {
    let began = Instant::now();
    let running: Vec<Child> = (0..cpus).map(hackbench).collect::<Result<_, _>>()?;
    // Each is waited for by a thread: whichever ends first.
    let took = |mut child: Child| -> std::io::Result<f64> {
        let status = child.wait()?;
        let took = began.elapsed().as_secs_f64();
        if status.success() { Ok(took) } else { Err(std::io::Error::other(format!("hackbench: {status}"))) }
    };
    let times = std::thread::scope(|scope| {
        let threads: Vec<_> = running.into_iter().map(|child| scope.spawn(move || took(child))).collect();
        let join = |thread: std::thread::ScopedJoinHandle<'_, std::io::Result<f64>>| {
            thread.join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
        };
        threads.into_iter().map(join).collect::<std::io::Result<Vec<f64>>>()
    })?;
    Ok(times.iter().sum::<f64>() / cpus as f64)
}

fn tell(name: &str, percent: &[f64]) {
    let count = percent.len() as f64;
    let mean = percent.iter().sum::<f64>() / count;
    let squares: f64 = percent.iter().map(|value| (value - mean).powi(2)).sum();
    // Twice the standard error, which is 95 % of a normal distribution.
    let error = 1.96 * (squares / (count - 1.0).max(1.0) / count).sqrt();
    println!(
        "  {name:<24} {mean:+6.2} % (95 %: {:+.2} to {:+.2} %), {count} rounds",
        mean - error,
        mean + error
    );
}

fn hackbench(cpu: usize) -> Result<Child, Failure> {
    let mut command = Command::new(HACKBENCH[0]);
    command.args(&HACKBENCH[1..]).stdout(Stdio::null());
    let bind = move || {
        // SAFETY: the set is plain data, initialised by the macros; the call only reads it.
        let failed = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            // Where this benchmark is killed, so is it.
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0
                || libc::sched_setaffinity(0, size_of_val(&set), &set) != 0
        };
        if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: two system calls, which are allowed between fork and exec.
    unsafe { command.pre_exec(bind) };
    let child = command.spawn();
    child.map_err(|e| format!("hackbench does not start ({e}): install rt-tests").into())
}

/// A running script.
struct Bpftrace(Child);

impl Bpftrace {
    /// Attached when this returns.
    fn start() -> Option<Self> {
        let mut child = Command::new("bpftrace")
            .args(["-q", "-e", &format!("BEGIN {{ printf(\"on\\n\"); }} {SCRIPT}")])
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
        // Not SIGINT: one that comes too early is lost on it, and what it has counted is of no interest.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

//! Measures what accounting costs a whole program that does little but switch: hackbench with nothing
//! attached and with accounting, and in some rounds with an empty program, and with bpftrace counting the
//! same nanoseconds per process.
//!
//! Two runs of hackbench differ by several per cent whatever is attached, long ones as much as short ones. So
//! the benchmark uses many short runs. Each CPU runs its own, bound to it, all at the same time. A round is
//! ten runs with nothing attached, twenty with a program, and ten with nothing, so that a machine that
//! becomes slower or faster during the round has no effect. It reports the mean of the rounds' ratios with
//! its 95 % interval. hackbench uses threads: a switch between threads is the cheapest, so the part that
//! accounting adds is the largest.
//!
//! `sudo cargo bench -p wattrace-sched --bench hackbench [-- --rounds=200]`, or as a part of `cargo xtask
//! bench`. Needs hackbench (Debian's rt-tests); without bpftrace the comparison is left out. A round takes
//! three seconds.

mod support;

use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::time::Instant;

use support::{Baseline, Failure, Probe as _, begin_accounting, cpus};
use wattrace_sched::kernel::{Kernel, Options};

const ROUNDS: usize = 60;
/// Every how many rounds the other programs are measured too.
const OTHERS_EVERY: usize = 5;
const HACKBENCH: [&str; 7] = ["hackbench", "--groups", "1", "--loops", "200", "--pipe", "--threads"];
/// Runs whose times are averaged.
const RUNS: usize = 10;
/// The same accounting as a bpftrace script: CPU time by process.
const SCRIPT: &str = "tracepoint:sched:sched_switch { \
    if (@since[cpu]) { @ns[args->prev_pid] = sum(nsecs - @since[cpu]); } @since[cpu] = nsecs; }";

fn main() -> Result<(), Failure> {
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let given = std::env::args().find_map(|a| a.strip_prefix("--rounds=").and_then(|n| n.parse().ok()));
    let rounds = given.unwrap_or(ROUNDS);
    let cpus = cpus()?;
    let (mut accounted, mut emptied, mut scripted) = (Vec::new(), Vec::new(), Vec::new());
    let (mut switches, mut seconds) = (0, 0.0);
    let has_bpftrace = Bpftrace::start().is_some();
    pace(cpus)?;
    for round in 0..rounds {
        accounted.push(slowdown(cpus, || {
            let kernel = Kernel::load(&Options::of_cpus(cpus))?;
            begin_accounting(&kernel, cpus);
            let (before, began) = (kernel.switches(), Instant::now());
            let pace = pace(cpus)?;
            switches += kernel.switches() - before;
            seconds += began.elapsed().as_secs_f64() * cpus as f64;
            Ok(pace)
        })?);
        if round % OTHERS_EVERY == 0 {
            emptied.push(slowdown(cpus, || {
                let mut program = Baseline::empty()?;
                program.attach()?;
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
    println!(
        "{}, on each of {cpus} CPUs: how much longer it takes than with nothing attached",
        HACKBENCH.join(" ")
    );
    println!("  {rounds} rounds, {:.0} switches per second and CPU", switches as f64 / seconds);
    report("accounting", &accounted);
    report("empty program", &emptied);
    if scripted.is_empty() {
        println!("  bpftrace is left out: it is not installed, or /sys/kernel/tracing is not mounted");
    } else {
        report("bpftrace, time by pid", &scripted);
    }
    println!("  target: accounting slows it by less than 1 %");
    Ok(())
}

/// A round: by how many per cent a run takes longer in `attached`, which is called twice.
fn slowdown(cpus: usize, mut attached: impl FnMut() -> Result<f64, Failure>) -> Result<f64, Failure> {
    let before = pace(cpus)?;
    let with = attached()? + attached()?;
    let without = before + pace(cpus)?;
    Ok(100.0 * (with / without - 1.0))
}

/// The mean time of a run, s.
fn pace(cpus: usize) -> Result<f64, Failure> {
    let mut sum = 0.0;
    for _ in 0..RUNS {
        sum += run(cpus)?;
    }
    Ok(sum / RUNS as f64)
}

/// Runs a hackbench on each CPU, all at the same time. Returns their mean time, s.
fn run(cpus: usize) -> Result<f64, Failure> {
    let began = Instant::now();
    let running: Vec<Child> = (0..cpus).map(hackbench).collect::<Result<_, _>>()?;
    // One thread waits for each, because any may end first.
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

fn report(name: &str, percent: &[f64]) {
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
            // It is killed together with this benchmark.
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

/// A running bpftrace script.
struct Bpftrace(Child);

impl Bpftrace {
    /// Starts it. It is attached when this returns.
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
        // Not SIGINT, which bpftrace ignores early on. Its counts are not needed.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

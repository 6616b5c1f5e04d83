//! What accounting costs a whole program that does little but switch: hackbench, with nothing attached, with an empty program,
//! with accounting, and with bpftrace counting the same nanoseconds per process.
//!
//! Two runs of hackbench differ by several per cent whatever is attached, so runs cannot be compared. Instead each CPU has one
//! hackbench, bound to it, that goes on all the time, while programs come and go: its pace is the messages that its tasks write in a
//! second, which the kernel counts. Each stretch with something attached is compared with the stretches before and after it, with
//! nothing. Reports the median of these ratios with its 95 % interval.
//!
//! `sudo cargo bench -p wattrace-sched --bench hackbench`, or as a part of `cargo xtask bench`. Needs hackbench (Debian's
//! rt-tests); without bpftrace the comparison is left out. It takes three minutes.

use std::fs;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use wattrace_sched::kernel::{Baseline, Flush, Kernel, Options};
use wattrace_sched::topology::Topology;

const ROUNDS: usize = 60;
const STRETCH: Duration = Duration::from_millis(400);
/// Rounds to one that is compared with bpftrace, too, which takes long to start.
const ROUNDS_TO_A_SCRIPT: usize = 4;
const HACKBENCH: [&str; 6] = ["hackbench", "--groups", "1", "--loops", "100000000", "--pipe"];
/// The same accounting in the shortest script: time on CPU by process.
const SCRIPT: &str = "tracepoint:sched:sched_switch { \
    if (@since[cpu]) { @ns[args->prev_pid] = sum(nsecs - @since[cpu]); } @since[cpu] = nsecs; }";

type Failure = Box<dyn std::error::Error>;

fn main() -> Result<(), Failure> {
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let cpus = Topology::read("/sys".as_ref())?.package_of.len();
    go_before_all_others()?;
    let race = Race::start(cpus)?;
    let (mut empty, mut accounting, mut script) = (Vec::new(), Vec::new(), Vec::new());
    let mut switches = Vec::new();
    let mut before = race.pace()?;
    for round in 0..ROUNDS {
        let mut compare = |attached: f64| -> Result<f64, Failure> {
            let after = race.pace()?;
            // Less is slower.
            let slower = (before + after) / 2.0 / attached - 1.0;
            before = after;
            Ok(100.0 * slower)
        };
        let program = Baseline::empty()?;
        let pace = race.pace()?;
        drop(program);
        empty.push(compare(pace)?);

        let kernel = Kernel::load(&Options::of_cpus(cpus))?;
        let accounted = (0..cpus).filter(|&cpu| matches!(kernel.flush(cpu), Ok(Flush::Closed))).count();
        assert!(accounted > 0, "no CPU is accounted for");
        let switched = (kernel.switches(), Instant::now());
        let pace = race.pace()?;
        switches.push((kernel.switches() - switched.0) as f64 / switched.1.elapsed().as_secs_f64());
        drop(kernel);
        accounting.push(compare(pace)?);

        if round % ROUNDS_TO_A_SCRIPT == 0
            && let Some(bpftrace) = Bpftrace::start()
        {
            let pace = race.pace()?;
            drop(bpftrace);
            script.push(compare(pace)?);
        }
    }
    println!(
        "{}, one on each of {cpus} CPUs: how much slower than with nothing attached",
        HACKBENCH.join(" ")
    );
    println!("  {ROUNDS} rounds of {STRETCH:?}, {:.0} switches a second", median(&mut switches));
    tell("empty program", empty);
    tell("accounting", accounting);
    if script.is_empty() {
        println!("  bpftrace is left out: it is not installed, or /sys/kernel/tracing is not mounted");
    } else {
        tell("bpftrace, time by pid", script);
    }
    println!("  target: accounting slows it by less than 1 %");
    Ok(())
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

fn tell(name: &str, mut percent: Vec<f64>) {
    let median = median(&mut percent);
    // It lies between these two of the sorted values in 95 % of all cases, whatever their distribution.
    let (middle, half) = (percent.len() as f64 / 2.0, 0.98 * (percent.len() as f64).sqrt());
    let at = |place: f64| percent[(place.max(0.0) as usize).min(percent.len() - 1)];
    let (least, most) = (at(middle - half), at((middle + half).ceil()));
    println!("  {name:<24} {median:+6.2} % (95 %: {least:+.2} to {most:+.2} %)");
}

/// Gives this thread real-time priority: it is to load programs and look at clocks while every CPU has forty tasks to run. Those
/// that it starts have none.
fn go_before_all_others() -> std::io::Result<()> {
    let priority = libc::sched_param { sched_priority: 1 };
    let policy = libc::SCHED_FIFO | libc::SCHED_RESET_ON_FORK;
    // SAFETY: `priority` is valid for the call.
    let failed = unsafe { libc::sched_setscheduler(0, policy, &priority) } != 0;
    if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
}

/// A hackbench on every CPU; ended when dropped.
struct Race {
    groups: Vec<Child>,
    /// The `io` of all tasks.
    counters: Vec<String>,
}

impl Race {
    fn start(cpus: usize) -> Result<Self, Failure> {
        let groups: Vec<Child> = (0..cpus).map(hackbench).collect::<Result<_, _>>()?;
        let mut race = Self { groups, counters: Vec::new() };
        // All tasks write once they are all there.
        let deadline = Instant::now() + Duration::from_secs(20);
        while race.counters.len() < 40 * cpus || race.messages()? == 0 {
            if Instant::now() > deadline {
                return Err("hackbench's tasks do not write".into());
            }
            sleep(Duration::from_millis(100));
            race.find_tasks()?;
        }
        Ok(race)
    }

    fn find_tasks(&mut self) -> Result<(), Failure> {
        self.counters.clear();
        for group in &self.groups {
            let pid = group.id();
            let children = fs::read_to_string(format!("/proc/{pid}/task/{pid}/children"))?;
            self.counters.extend(children.split_whitespace().map(|child| format!("/proc/{child}/io")));
        }
        Ok(())
    }

    /// Messages written so far.
    fn messages(&self) -> Result<u64, Failure> {
        let mut sum = 0;
        for counter in &self.counters {
            let text = fs::read_to_string(counter)?;
            let writes = text.lines().find_map(|line| line.strip_prefix("syscw: "));
            sum += writes
                .ok_or("the kernel does not count system calls (CONFIG_TASK_IO_ACCOUNTING)")?
                .parse::<u64>()?;
        }
        Ok(sum)
    }

    /// Messages a second, over a stretch.
    fn pace(&self) -> Result<f64, Failure> {
        let (begun, before) = (Instant::now(), self.messages()?);
        sleep(STRETCH);
        // Read in the same order, so that every task has had about the same time.
        let elapsed = begun.elapsed();
        Ok((self.messages()? - before) as f64 / elapsed.as_secs_f64())
    }
}

impl Drop for Race {
    fn drop(&mut self) {
        for group in &mut self.groups {
            // SAFETY: it has no preconditions; the group leader is not reaped yet, so the group is its own.
            unsafe { libc::kill(-(group.id() as libc::pid_t), libc::SIGKILL) };
            let _ = group.wait();
        }
    }
}

fn hackbench(cpu: usize) -> Result<Child, Failure> {
    let mut command = Command::new(HACKBENCH[0]);
    command.args(&HACKBENCH[1..]).stdout(Stdio::null()).process_group(0);
    let bind = move || {
        // SAFETY: the set is plain data, initialised by the macros; the call only reads it.
        let failed = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            libc::CPU_SET(cpu, &mut set);
            libc::sched_setaffinity(0, size_of_val(&set), &set) != 0
        };
        if failed { Err(std::io::Error::last_os_error()) } else { Ok(()) }
    };
    // SAFETY: one system call, which is allowed between fork and exec.
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

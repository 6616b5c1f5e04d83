//! What the agent itself costs while processes sleep: CPU time per tick, memory and descriptors beside 100, 1,000 and
//! 10,000 of them, in interleaved rounds. What a context switch costs is `plugins/sched/benches/switch.rs`' business.
//!
//! `sudo cargo bench -p wattrace --bench idle`, or as a part of `cargo xtask bench`.

use std::error::Error;
use std::fs;
use std::io;
use std::os::unix::process::CommandExt as _;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::Duration;

type Result<T> = std::result::Result<T, Box<dyn Error>>;

const COUNTS: [usize; 3] = [100, 1_000, 10_000];
const ROUNDS: usize = 3;
/// Seconds that the agent gets to start and settle in, and those that are measured then.
const SETTLE: u64 = 3;
const SPAN: u64 = 10;

/// What was measured in one span.
#[derive(Clone, Copy)]
struct Cost {
    cpu_ns: f64,
    wall_ns: f64,
    rss_mb: f64,
    anonymous_mb: f64,
    descriptors: f64,
}

fn main() -> Result<()> {
    // `cargo test --all-targets` runs benchmarks without this argument; there they have nothing to say.
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let mut costs: [Vec<Cost>; COUNTS.len()] = Default::default();
    for _ in 0..ROUNDS {
        for (costs, count) in costs.iter_mut().zip(COUNTS) {
            let idle = Sleepers::spawn(count)?;
            costs.push(measure()?);
            drop(idle);
        }
    }
    report(&costs);
    Ok(())
}

fn report(costs: &[Vec<Cost>; COUNTS.len()]) {
    println!(
        "the agent beside idle processes, medians of {ROUNDS} interleaved rounds of {SPAN} s, a tick a second"
    );
    println!(
        "  processes   CPU µs/tick (min … max)   vs {}   % of a core   RSS MB   anon MB   fds",
        COUNTS[0]
    );
    let per_tick = |c: &Cost| c.cpu_ns / 1e3 / SPAN as f64;
    let share = |c: &Cost| 100.0 * c.cpu_ns / c.wall_ns;
    let first = median(&costs[0], per_tick);
    for (count, costs) in COUNTS.iter().zip(costs) {
        let (least, most) = (sorted(costs, per_tick)[0], sorted(costs, per_tick)[ROUNDS - 1]);
        println!(
            "  {count:9}   {:8.0} ({least:6.0} … {most:6.0})   {:6.2}   {:11.3}   {:6.1}   {:7.1}   {:3.0}",
            median(costs, per_tick),
            median(costs, per_tick) / first,
            median(costs, share),
            median(costs, |c| c.rss_mb),
            median(costs, |c| c.anonymous_mb),
            median(costs, |c| c.descriptors),
        );
    }
    let target = |what: &str, is: f64, at_most: f64| {
        let verdict = if is <= at_most { "met" } else { "missed" };
        println!("  {what}: {is:.3}, target at most {at_most}: {verdict}");
    };
    target(
        "CPU time beside 10,000, as a multiple of that beside 100",
        median(&costs[2], per_tick) / first,
        1.3,
    );
    target("% of a core beside 1,000", median(&costs[1], share), 0.3);
    target("RSS beside 1,000, MB", median(&costs[1], |c| c.rss_mb), 25.0);
}

fn sorted(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> Vec<f64> {
    let mut values: Vec<f64> = costs.iter().map(of).collect();
    values.sort_by(f64::total_cmp);
    values
}

fn median(costs: &[Cost], of: impl Fn(&Cost) -> f64) -> f64 {
    sorted(costs, of)[costs.len() / 2]
}

/// Runs the agent and measures it once it has settled.
fn measure() -> Result<Cost> {
    let mut agent = Agent::start()?;
    // Half-way between two ticks, so that a span of whole seconds holds as many ticks.
    let begin = clock(libc::CLOCK_MONOTONIC)? / 1_000_000_000 + SETTLE;
    let at = |second: u64| second * 1_000_000_000 + 500_000_000;
    sleep_until(at(begin))?;
    let (cpu, wall) = (agent.cpu_time()?, clock(libc::CLOCK_MONOTONIC)?);
    sleep_until(at(begin + SPAN))?;
    let cost = Cost {
        cpu_ns: (agent.cpu_time()? - cpu) as f64,
        wall_ns: (clock(libc::CLOCK_MONOTONIC)? - wall) as f64,
        rss_mb: agent.memory("VmRSS:")?,
        anonymous_mb: agent.memory("RssAnon:")?,
        descriptors: fs::read_dir(format!("/proc/{}/fd", agent.0.id()))?.count() as f64,
    };
    agent.stop()?;
    Ok(cost)
}

/// The running agent.
struct Agent(Child);

impl Agent {
    fn start() -> Result<Self> {
        let mut command = Command::new(env!("CARGO_BIN_EXE_wattrace"));
        command.args(["run", "--plugins", "sched,estimate,attribution,jsonl", "--duration", "1min"]);
        command.args(["--set", "plugins.jsonl.path=/dev/null"]);
        command.env("WATTRACE_LOG", "error").stdin(Stdio::null());
        // SAFETY: the closure makes one async-signal-safe call.
        unsafe { command.pre_exec(die_with_parent) };
        Ok(Self(command.spawn()?))
    }

    /// Nanoseconds that all its threads, those that ended too, have spent on CPUs: exact, unlike /proc's ticks.
    fn cpu_time(&self) -> Result<u64> {
        let mut id = 0;
        // SAFETY: `id` is a valid place to write to.
        let failed = unsafe { libc::clock_getcpuclockid(self.0.id() as libc::pid_t, &mut id) };
        if failed != 0 {
            return Err(io::Error::from_raw_os_error(failed).into());
        }
        clock(id)
    }

    /// A line of its `status`, in MB.
    fn memory(&self, key: &str) -> Result<f64> {
        let status = fs::read_to_string(format!("/proc/{}/status", self.0.id()))?;
        let line = status.lines().find_map(|line| line.strip_prefix(key)).ok_or(key)?;
        let kib: f64 = line.trim().trim_end_matches(" kB").parse()?;
        Ok(kib * 1024.0 / 1e6)
    }

    fn stop(&mut self) -> Result<()> {
        // SAFETY: it has no preconditions; the child is not reaped yet, so its pid is its own.
        unsafe { libc::kill(self.0.id() as libc::pid_t, libc::SIGTERM) };
        let status = self.0.wait()?;
        if status.success() { Ok(()) } else { Err(format!("the agent ended with {status}").into()) }
    }
}

impl Drop for Agent {
    fn drop(&mut self) {
        // Both fail when it has ended already.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Processes that do nothing. They end with this value, and with this process.
struct Sleepers(Vec<libc::pid_t>);

impl Sleepers {
    fn spawn(count: usize) -> Result<Self> {
        let mut sleepers = Self(Vec::with_capacity(count));
        for _ in 0..count {
            // SAFETY: this process has one thread, so that its copy may do anything.
            match unsafe { libc::fork() } {
                -1 => {
                    let e = io::Error::last_os_error();
                    let had = sleepers.0.len();
                    return Err(format!("no more than {had} processes can be started here: {e}").into());
                }
                0 => do_nothing(),
                pid => sleepers.0.push(pid),
            }
        }
        Ok(sleepers)
    }
}

impl Drop for Sleepers {
    fn drop(&mut self) {
        for &pid in &self.0 {
            // SAFETY: it has no preconditions; none is reaped yet, so that each pid is still its own.
            unsafe { libc::kill(pid, libc::SIGKILL) };
        }
        for &pid in &self.0 {
            // SAFETY: a null pointer says that the status is not wanted.
            unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
        }
    }
}

fn do_nothing() -> ! {
    if die_with_parent().is_ok() {
        loop {
            // SAFETY: it has no preconditions.
            unsafe { libc::pause() };
        }
    }
    // SAFETY: it has no preconditions.
    unsafe { libc::_exit(1) }
}

/// In a child: asks to be killed when its parent ends. Fails if that has happened already.
fn die_with_parent() -> io::Result<()> {
    // SAFETY: plain numbers.
    unsafe {
        if libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL) != 0 {
            return Err(io::Error::last_os_error());
        }
        if libc::getppid() == 1 { Err(io::ErrorKind::NotFound.into()) } else { Ok(()) }
    }
}

/// Nanoseconds on a clock.
fn clock(id: libc::clockid_t) -> Result<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is a valid place to write to.
    if unsafe { libc::clock_gettime(id, &mut time) } != 0 {
        return Err(io::Error::last_os_error().into());
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

fn sleep_until(monotonic_ns: u64) -> Result<()> {
    sleep(Duration::from_nanos(monotonic_ns.saturating_sub(clock(libc::CLOCK_MONOTONIC)?)));
    Ok(())
}

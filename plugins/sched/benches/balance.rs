//! Whether the books of every CPU close to the nanosecond under everything that makes a scheduler sweat:
//! messages, forks, clones, execs, migrations, and CPUs that go offline and come back. Reads at odd
//! intervals, from one millisecond up.
//!
//! `sudo cargo bench -p wattrace-sched --bench balance`, or as a part of `cargo xtask bench`. Needs hackbench
//! (Debian's rt-tests) and stress-ng. `WATTRACE_SOAK_SWITCHES=144000000` is four hours of a server that
//! switches 10,000 times a second.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wattrace_sched::kernel::{Flush, Kernel, Options};
use wattrace_sched::topology::Topology;

/// Context switches to account for, unless the environment says otherwise.
const SWITCHES: u64 = 10_000_000;
/// What each kind of work gets before the next has its turn.
const TURN: Duration = Duration::from_secs(5);
/// Time between readings, one after the other.
const PAUSES_MS: [u64; 6] = [1, 7, 1, 50, 3, 200];

const WORK: [(&str, &[&str]); 8] = [
    ("messages", &["hackbench", "--groups", "4", "--loops", "1000000"]),
    ("switch", &["stress-ng", "--quiet", "--switch", "4", "--timeout", "60"]),
    ("fork", &["stress-ng", "--quiet", "--fork", "4", "--timeout", "60"]),
    ("clone", &["stress-ng", "--quiet", "--clone", "2", "--timeout", "60"]),
    ("exec", &["stress-ng", "--quiet", "--exec", "2", "--timeout", "60"]),
    ("threads", &["stress-ng", "--quiet", "--pthread", "2", "--timeout", "60"]),
    ("migration", &["stress-ng", "--quiet", "--affinity", "4", "--timeout", "60"]),
    (
        "CPUs on and off",
        &["stress-ng", "--quiet", "--pathological", "--cpu-online", "1", "--switch", "2", "--timeout", "60"],
    ),
];

fn main() -> Result<(), Box<dyn std::error::Error>> {
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let wanted = match std::env::var("WATTRACE_SOAK_SWITCHES") {
        Ok(number) => number.parse()?,
        Err(_) => SWITCHES,
    };
    let topology = Topology::read("/sys".as_ref())?;
    let mut options = Options::of_cpus(topology.package_of.len());
    options.siblings = topology.sibling_of;
    let mut books = Books::open(Kernel::load(&options)?, options.siblings.len())?;
    let begun = Instant::now();
    'all: loop {
        for (name, command) in WORK {
            let before = books.kernel.switches();
            let Some(work) = Work::start(command) else {
                println!("  {name} is left out: {} does not start", command[0]);
                continue;
            };
            let turn = Instant::now();
            for pause in PAUSES_MS.iter().cycle() {
                std::thread::sleep(Duration::from_millis(*pause));
                books.read()?;
                if turn.elapsed() > TURN {
                    break;
                }
            }
            drop(work);
            books.turns.push((name, books.kernel.switches() - before));
            if books.kernel.switches() >= wanted {
                break 'all;
            }
        }
        if books.turns.is_empty() {
            return Err("nothing to do: install rt-tests and stress-ng".into());
        }
    }
    books.report(begun.elapsed());
    if books.imbalance > 0 { Err("the books do not close".into()) } else { Ok(()) }
}

/// A load, until it is dropped.
struct Work(Child);

impl Work {
    fn start(command: &[&str]) -> Option<Self> {
        let mut work = Command::new(command[0]);
        work.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // A group of its own, so that what it started ends with it.
        std::os::unix::process::CommandExt::process_group(&mut work, 0);
        work.spawn().ok().map(Self)
    }
}

impl Drop for Work {
    fn drop(&mut self) {
        // SAFETY: it has no preconditions; the child is not reaped yet, so its group is its own.
        unsafe { libc::kill(-(self.0.id() as libc::pid_t), libc::SIGTERM) };
        // It has ended already if this fails.
        let _ = self.0.wait();
    }
}

/// Every CPU's books.
struct Books {
    kernel: Kernel,
    /// Until when each CPU is accounted for.
    ends: Vec<Option<u64>>,
    turns: Vec<(&'static str, u64)>,
    readings: u64,
    pages: u64,
    entries: u64,
    offline: u64,
    /// Nanoseconds charged too much or too little, or between two pages.
    imbalance: u64,
    overflow_ns: u64,
    charged_ns: u64,
}

impl Books {
    fn open(mut kernel: Kernel, cpus: usize) -> Result<Self, Box<dyn std::error::Error>> {
        let mut ends = vec![None; cpus];
        for (cpu, end) in ends.iter_mut().enumerate() {
            if kernel.flush(cpu)? == Flush::Closed {
                *end = Some(kernel.closed_page(cpu).page.end_ns);
            }
        }
        let (turns, zero) = (Vec::new(), 0);
        Ok(Self {
            kernel,
            ends,
            turns,
            readings: zero,
            pages: zero,
            entries: zero,
            offline: zero,
            imbalance: zero,
            overflow_ns: zero,
            charged_ns: zero,
        })
    }

    fn read(&mut self) -> Result<(), Box<dyn std::error::Error>> {
        self.readings += 1;
        for cpu in 0..self.ends.len() {
            if self.kernel.flush(cpu)? == Flush::Offline {
                self.offline += 1;
                continue;
            }
            let reading = self.kernel.closed_page(cpu);
            let page = reading.page;
            let used: u64 = reading.entries.iter().map(|entry| entry.ns).sum();
            let charged = used + page.idle_ns + page.irq_ns + page.overflow_ns;
            let gap = self.ends[cpu].map_or(0, |end| page.start_ns.abs_diff(end));
            self.imbalance += charged.abs_diff(page.end_ns - page.start_ns) + gap;
            self.ends[cpu] = Some(page.end_ns);
            self.pages += 1;
            self.entries += reading.entries.len() as u64;
            self.overflow_ns += page.overflow_ns;
            self.charged_ns += charged;
        }
        // What is told of processes has to be taken as well, or it overflows and hides what it costs.
        self.kernel.take_wake();
        self.kernel.drain_log(0, |_| {});
        Ok(())
    }

    fn report(&self, took: Duration) {
        println!("balance: {} context switches in {:.0} s", self.kernel.switches(), took.as_secs_f64());
        for (name, _) in WORK {
            let turns = || self.turns.iter().filter(|(turn, _)| *turn == name).map(|(_, switches)| switches);
            if turns().count() > 0 {
                println!("  {name:<16} {:>12} in {} turns", turns().sum::<u64>(), turns().count());
            }
        }
        println!(
            "  {} readings, {} pages ({} times a CPU was offline), {} entries, {:.1} s charged, {:.3} s of it to overflow",
            self.readings,
            self.pages,
            self.offline,
            self.entries,
            self.charged_ns as f64 * 1e-9,
            self.overflow_ns as f64 * 1e-9,
        );
        println!("  out of balance: {} ns (target: 0)", self.imbalance);
    }
}

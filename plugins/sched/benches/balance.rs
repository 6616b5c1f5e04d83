//! Checks that the ledger of every CPU balances to the nanosecond under loads that stress the scheduler:
//! messages, forks, clones, execs, migrations, and CPUs that go offline and come back. It reads at varying
//! intervals, from one millisecond up.
//!
//! `sudo cargo bench -p wattrace-sched --bench balance`, or as a part of `cargo xtask bench`. Needs hackbench
//! (Debian's rt-tests) and stress-ng. `WATTRACE_SOAK_SWITCHES=144000000` corresponds to four hours of a
//! server with 10,000 switches a second.

use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use wattrace_sched::kernel::{Flush, Kernel, Options};
use wattrace_topology::Topology;

/// Context switches to account for, unless `WATTRACE_SOAK_SWITCHES` is set.
const SWITCHES: u64 = 10_000_000;
/// How long each kind of work runs before the next one.
const TURN: Duration = Duration::from_secs(5);
/// Times between readings, used in turn.
const PAUSES_MS: [u64; 6] = [1, 7, 1, 50, 3, 200];

const LOADS: [(&str, &[&str]); 8] = [
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
    let mut balance = Balance::open(Kernel::load(&options)?, options.siblings.len())?;
    let begun = Instant::now();
    'all: loop {
        for (name, command) in LOADS {
            let before = balance.kernel.switches();
            let Some(work) = Load::start(command) else {
                println!("  {name} is left out: {} does not start", command[0]);
                continue;
            };
            let turn = Instant::now();
            for pause in PAUSES_MS.iter().cycle() {
                std::thread::sleep(Duration::from_millis(*pause));
                balance.read()?;
                if turn.elapsed() > TURN {
                    break;
                }
            }
            drop(work);
            balance.turns.push((name, balance.kernel.switches() - before));
            if balance.kernel.switches() >= wanted {
                break 'all;
            }
        }
        if balance.turns.is_empty() {
            return Err("nothing to do: install rt-tests and stress-ng".into());
        }
    }
    balance.report(begun.elapsed());
    if balance.imbalance > 0 { Err("the ledger does not balance".into()) } else { Ok(()) }
}

/// A load, which runs until it is dropped.
struct Load(Child);

impl Load {
    fn start(command: &[&str]) -> Option<Self> {
        let mut work = Command::new(command[0]);
        work.args(&command[1..]).stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::null());
        // Its own process group, so that its children are killed with it.
        std::os::unix::process::CommandExt::process_group(&mut work, 0);
        work.spawn().ok().map(Self)
    }
}

impl Drop for Load {
    fn drop(&mut self) {
        // SAFETY: it has no preconditions. The child is not reaped yet, so the group is still its own.
        unsafe { libc::kill(-(self.0.id() as libc::pid_t), libc::SIGTERM) };
        // This fails if it has ended already.
        let _ = self.0.wait();
    }
}

/// The sums over all CPUs.
struct Balance {
    kernel: Kernel,
    /// The end of the last page of each CPU.
    ends: Vec<Option<u64>>,
    turns: Vec<(&'static str, u64)>,
    readings: u64,
    pages: u64,
    entries: u64,
    offline: u64,
    /// Nanoseconds that were charged too much or too little, or that lie between two pages.
    imbalance: u64,
    overflow_ns: u64,
    charged_ns: u64,
}

impl Balance {
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
            let view = self.kernel.closed_page(cpu);
            let page = view.page;
            let used: u64 = view.entries.iter().map(|entry| entry.ns).sum();
            let charged = used + page.idle_ns + page.irq_ns + page.overflow_ns;
            let gap = self.ends[cpu].map_or(0, |end| page.start_ns.abs_diff(end));
            self.imbalance += charged.abs_diff(page.end_ns - page.start_ns) + gap;
            self.ends[cpu] = Some(page.end_ns);
            self.pages += 1;
            self.entries += view.entries.len() as u64;
            self.overflow_ns += page.overflow_ns;
            self.charged_ns += charged;
        }
        // The log has to be read too, or it would overflow and its cost would not show.
        self.kernel.take_wakeup();
        self.kernel.drain_log(0, |_| {});
        Ok(())
    }

    fn report(&self, took: Duration) {
        println!("balance: {} context switches in {:.0} s", self.kernel.switches(), took.as_secs_f64());
        for (name, _) in LOADS {
            let turns = || self.turns.iter().filter(|(turn, _)| *turn == name).map(|(_, switches)| switches);
            if turns().count() > 0 {
                println!("  {name:<16} {:>12} in {} turns", turns().sum::<u64>(), turns().count());
            }
        }
        println!(
            "  {} readings, {} pages ({} times a CPU was offline), {} entries, {:.1} s charged, {:.3} s \
             of it to overflow",
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

//! The machines, and what runs on them. A warm-up precedes each scenario on its machine: some seconds of
//! nothing, then a mixture of everything; or, where it matters how little of the machine was ever used, other
//! processes like the scenario's. All methods see it.

use std::time::Duration;

use wattrace_simulator::machine::{Machine, MeterShape, Part};
use wattrace_simulator::mix::Mix;
use wattrace_simulator::physics::Physics;
use wattrace_simulator::random::Random;
use wattrace_simulator::schedule::{Phase, Process, Schedule, Thread};
use wattrace_simulator::update_interval::UpdateInterval;

/// What is evaluated.
pub(crate) struct Scenario {
    pub(crate) name: &'static str,
    pub(crate) about: &'static str,
    pub(crate) machine: Machine,
    /// What methods learn from.
    learning: Learning,
    processes: Vec<Process>,
}

/// What runs before a scenario is evaluated.
#[derive(Clone, Copy)]
enum Learning {
    /// A mixture of everything.
    Mixture,
    /// Processes like the scenario's, and nothing else.
    Likewise,
}

/// How long methods can learn, and how long they are evaluated.
pub(crate) const WARM_UP: Duration = Duration::from_secs(120);
pub(crate) const EVALUATED: Duration = Duration::from_secs(40);
/// How long nothing runs at the start of the warm-up.
const QUIET: Duration = Duration::from_secs(10);
/// When what ran in the warm-up ends. The scenario's processes start after it.
const WARM_UP_END: Duration = WARM_UP.saturating_sub(Duration::from_millis(500));

/// The scenario that is repeated with other kinds of code.
pub(crate) const MIXED_CODE: &str = "mixed instruction intensity";

impl Scenario {
    /// The whole script: a warm-up that depends on `seed`, and the scenario.
    pub(crate) fn schedule(&self, seed: u64) -> Schedule {
        let mut processes = match self.learning {
            Learning::Mixture => warm_up(&self.machine, seed),
            Learning::Likewise => {
                let processes = self.processes.iter().cloned();
                processes.map(|process| process.from_to(Duration::ZERO, WARM_UP_END)).collect()
            }
        };
        processes.extend(self.processes.iter().cloned().map(|mut process| {
            process.threads.iter_mut().for_each(|thread| thread.start += WARM_UP);
            process
        }));
        Schedule { processes }
    }
}

/// A mixture of everything: processes that run and sleep, with random kinds of code and random durations.
fn warm_up(machine: &Machine, seed: u64) -> Vec<Process> {
    let mut random = Random::new(seed.rotate_left(32));
    let process = |number: usize| {
        let mut phase = || {
            let mix = Mix::ALL[(random.bits() % 6) as usize];
            let run = Duration::from_secs_f64(random.between(0.02, 0.8));
            let sleep = Duration::from_secs_f64(random.between(0.1, 2.5));
            Phase::new(mix, run, sleep).varying(0.8)
        };
        let phases = vec![phase(), phase(), phase()];
        Process::new(format!("warm-up-{number}"), phases).from_to(QUIET, WARM_UP_END)
    };
    (0..machine.all_cpus()).map(process).collect()
}

fn machine() -> Machine {
    Machine {
        meters: vec![Part::Package, Part::Dram],
        meter: MeterShape {
            dram_unit: 15.258_789_062_5,
            update_interval: UpdateInterval::Broadwell,
            noise: 0.01,
            ..MeterShape::default()
        },
        ..Machine::default()
    }
}

fn ms(n: u64) -> Duration {
    Duration::from_millis(n)
}

fn duty(name: &str, mix: Mix, part: f64) -> Process {
    Process::new(name, vec![Phase::duty(mix, part).varying(0.1)])
}

fn burst(name: &str, mix: Mix, run: u64, sleep: u64, jitter: f64) -> Process {
    Process::new(name, vec![Phase::new(mix, ms(run), ms(sleep)).varying(jitter)])
}

fn with_threads(process: Process, count: usize) -> Process {
    let thread = process.threads.first().cloned().unwrap_or_default();
    Process { threads: vec![thread; count], ..process }
}

/// `count` processes that each run once, for `run`: one starts in every `every`, at a random moment, so that
/// starts are not aligned with windows.
fn swarm(name: &str, mixes: &[Mix], run: Duration, every: Duration, count: u32) -> Vec<Process> {
    let mut random = Random::new(u64::from(count));
    let mut process = |n: u32| {
        let start = every * n + every.mul_f64(random.unit());
        let phase = Phase::new(mixes[n as usize % mixes.len()], run, Duration::ZERO).varying(0.3);
        let thread = Thread { start, rounds: 1, phases: vec![phase], ..Thread::default() };
        Process { name: format!("{name}-{n}"), threads: vec![thread] }
    };
    (0..count).map(&mut process).collect()
}

/// All scenarios.
pub(crate) fn all() -> Vec<Scenario> {
    vec![
        steady(),
        bursts(),
        short_lived(),
        two_sockets(),
        smt_pairs(),
        mixed_frequencies(),
        mixed_code(),
        all_at_once(),
        large_and_quiet(),
        turbo_and_sleep(),
        filtered_meter(),
    ]
}

fn steady() -> Scenario {
    Scenario {
        name: "steady mixes",
        about: "4 cores; loads of 100, 60, 30 and 10 % of a CPU",
        machine: machine(),
        learning: Learning::Mixture,
        processes: vec![
            duty("full", Mix::Integer, 1.0),
            duty("sixty", Mix::Integer, 0.6),
            duty("thirty", Mix::Float, 0.3),
            duty("ten", Mix::Branchy, 0.1),
        ],
    }
}

fn bursts() -> Scenario {
    Scenario {
        name: "bursts",
        about: "4 cores; five programs that come and go within 50 ms to 5 s, one of them with four threads",
        machine: machine(),
        learning: Learning::Mixture,
        processes: vec![
            burst("web", Mix::Integer, 200, 600, 0.5),
            burst("batch", Mix::Float, 2000, 3000, 0.2),
            burst("editor", Mix::Branchy, 5, 45, 0.9),
            burst("backup", Mix::Stream, 800, 1200, 0.3),
            with_threads(burst("build", Mix::Branchy, 300, 500, 0.8), 4),
        ],
    }
}

fn short_lived() -> Scenario {
    let mixes = [Mix::Integer, Mix::Branchy, Mix::Float];
    let mut processes = vec![duty("server", Mix::Integer, 0.6)];
    processes.extend(swarm("job", &mixes, ms(20), ms(130), 300));
    processes.extend(swarm("script", &mixes, ms(2), ms(20), 1990));
    Scenario {
        name: "short-lived swarms",
        about: "4 cores; 300 processes of 20 ms, 1990 of 2 ms, and a server at 60 %",
        machine: machine(),
        learning: Learning::Mixture,
        processes,
    }
}

fn two_sockets() -> Scenario {
    let ghz = [[3.2; 4], [2.2; 4]].concat();
    Scenario {
        name: "two sockets",
        about: "2 packages of 4 cores at 3.2 and 2.2 GHz; pinned loads on each, and one that roams",
        machine: Machine { packages: 2, ghz, ..machine() },
        learning: Learning::Mixture,
        processes: vec![
            duty("left-1", Mix::Integer, 1.0).on(&[0]),
            duty("left-2", Mix::Float, 0.8).on(&[1]),
            duty("left-3", Mix::Stream, 0.6).on(&[2]),
            duty("right-1", Mix::Integer, 0.5).on(&[4]),
            duty("right-2", Mix::Branchy, 0.3).on(&[5]),
            burst("roams", Mix::Float, 150, 250, 0.6),
        ],
    }
}

fn smt_pairs() -> Scenario {
    Scenario {
        name: "SMT pairs",
        about: "4 cores of 2 threads; two cores shared all the time, one alone, one shared now and then",
        machine: Machine { threads: 2, ..machine() },
        learning: Learning::Mixture,
        processes: vec![
            duty("pair-1", Mix::Integer, 1.0).on(&[0]),
            duty("pair-2", Mix::Integer, 1.0).on(&[4]),
            duty("mixed-1", Mix::Stream, 1.0).on(&[1]),
            duty("mixed-2", Mix::Float, 1.0).on(&[5]),
            duty("alone", Mix::Integer, 1.0).on(&[2]),
            duty("half-1", Mix::Branchy, 0.6).on(&[3]),
            duty("half-2", Mix::Integer, 0.4).on(&[7]),
        ],
    }
}

fn mixed_frequencies() -> Scenario {
    Scenario {
        name: "mixed frequencies",
        about: "6 cores at 1.6, 2.4 and 3.2 GHz, rotating every 4 s; pinned loads and one that roams",
        machine: Machine { cores: 6, ghz: vec![1.6, 2.4, 3.2], shift: ms(4000), ..machine() },
        learning: Learning::Mixture,
        processes: vec![
            duty("a", Mix::Integer, 0.9).on(&[0]),
            duty("b", Mix::Integer, 0.9).on(&[1]),
            duty("c", Mix::Float, 0.7).on(&[2]),
            duty("d", Mix::Branchy, 0.5).on(&[3]),
            duty("e", Mix::Stream, 0.6).on(&[4]),
            burst("roams", Mix::Integer, 100, 200, 0.5),
        ],
    }
}

fn mixed_code() -> Scenario {
    let parts = [0.9, 0.7, 0.5, 0.8, 0.6, 0.4];
    let names = ["integer", "branchy", "float", "vector", "stream", "chase"];
    let process = |((name, mix), part): ((&str, Mix), f64)| duty(name, mix, part);
    Scenario {
        name: MIXED_CODE,
        about: "6 cores; one program of each kind of code, from 0.5 to 2.2 instructions per cycle",
        machine: Machine { cores: 6, ..machine() },
        learning: Learning::Mixture,
        processes: names.into_iter().zip(Mix::ALL).zip(parts).map(process).collect(),
    }
}

fn all_at_once() -> Scenario {
    let mut processes = vec![
        with_threads(duty("database", Mix::Chase, 0.5), 4),
        with_threads(burst("build", Mix::Branchy, 300, 400, 0.8), 3),
        burst("solver", Mix::Vector, 3000, 1000, 0.3),
        burst("backup", Mix::Stream, 700, 1500, 0.5),
        duty("server", Mix::Integer, 0.7),
        duty("pinned", Mix::Float, 1.0).on(&[5]),
        burst("editor", Mix::Branchy, 5, 45, 0.9),
    ];
    processes.extend(swarm("job", &[Mix::Integer, Mix::Vector, Mix::Branchy], ms(20), ms(200), 195));
    let ghz = vec![2.0, 2.6, 3.2];
    Scenario {
        name: "all at once",
        about: "2 packages of 4 cores of 2 threads, 2.0, 2.6, 3.2 GHz, rotating every 7 s; all of the above",
        machine: Machine { packages: 2, threads: 2, ghz, shift: ms(7000), ..machine() },
        learning: Learning::Mixture,
        processes,
    }
}

/// What the trace of a real machine shows: voltage that rises steeply with the clock, and packages that sleep
/// while nothing runs on them.
fn turbo_and_sleep() -> Scenario {
    let physics = Physics { volts: 0.45, volts_per_ghz: 0.2, awake_watts: 10.0, ..Physics::default() };
    let ghz = vec![2.0, 2.8, 3.4];
    Scenario {
        name: "turbo and sleep",
        about: "2 packages of 4 cores at 2.0, 2.8, 3.4 GHz, rotating every 5 s, with steep voltage; \
                each draws 10 W more while anything runs there, caused alike by all that run",
        machine: Machine { packages: 2, ghz, shift: ms(5000), physics, ..machine() },
        learning: Learning::Mixture,
        processes: vec![
            burst("left", Mix::Float, 2000, 2500, 0.3).on(&[0]),
            with_threads(burst("left-pool", Mix::Integer, 1500, 3000, 0.4), 3).on(&[1, 2, 3]),
            burst("right", Mix::Branchy, 700, 900, 0.5).on(&[4]),
            burst("right-stream", Mix::Stream, 900, 1800, 0.4).on(&[5, 6]),
            duty("roams", Mix::Integer, 0.2),
        ],
    }
}

fn filtered_meter() -> Scenario {
    let meter = MeterShape { update_interval: UpdateInterval::IceLake, filter: 20_000.0, ..machine().meter };
    Scenario {
        name: "filtered meter",
        about: "4 cores; bursts; the meter is updated as on Ice Lake, and energy filtering adds up to 20 mJ \
                to what it shows",
        machine: Machine { meter, ..machine() },
        learning: Learning::Mixture,
        processes: vec![
            burst("web", Mix::Integer, 200, 600, 0.5),
            burst("batch", Mix::Float, 2000, 3000, 0.2),
            burst("backup", Mix::Stream, 800, 1200, 0.3),
            duty("sixty", Mix::Branchy, 0.6),
        ],
    }
}

fn large_and_quiet() -> Scenario {
    Scenario {
        name: "large and quiet",
        about: "64 cores, of which one thread uses one for 2 s in every 4 s; before it another such thread, \
                and nothing else ever runs there",
        machine: Machine { cores: 64, ..machine() },
        learning: Learning::Likewise,
        processes: vec![burst("one", Mix::Integer, 2000, 2000, 0.2)],
    }
}

//! What a tool that polls can see at a reading: meters, /proc with its ticks of 10 ms, hardware counters. It
//! sees processes that are alive at that moment, and no others.

use std::collections::BTreeMap;

use wattrace_simulator::machine::Part;
use wattrace_simulator::simulation::Simulation;
use wattrace_simulator::truth::{Entry, Place, Use};

/// Length of a tick of /proc, ns.
const TICK: u64 = 10_000_000;

/// A reading. All that is counted is cumulative.
#[derive(Clone)]
pub(crate) struct Sample {
    /// When what the meters show was so, s: half an update before they were read.
    pub(crate) at: f64,
    /// When usage was read, s.
    pub(crate) usage_at: f64,
    /// Joules by part (package, memory) and package.
    pub(crate) joules: Vec<[f64; 2]>,
    /// Ticks that all CPUs were busy.
    pub(crate) busy_ticks: u64,
    /// Number of CPUs.
    pub(crate) cpus: f64,
    /// The living, by their number in the script.
    pub(crate) processes: BTreeMap<usize, View>,
    /// By package and part: what nobody caused until the meters were read. This, and the next, only the limit
    /// knows.
    pub(crate) idle: Vec<[f64; 2]>,
    /// By package and part: what each process caused until usage was read.
    pub(crate) caused: BTreeMap<usize, Vec<[f64; 2]>>,
    /// All that ran, the dead included: what counting in the kernel sees.
    pub(crate) ran: BTreeMap<usize, View>,
}

/// What is seen of a process.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Ticks that it ran.
    pub(crate) ticks: u64,
    /// What hardware counters say of it, by package.
    pub(crate) counted: Vec<Use>,
}

impl Sample {
    /// What can be seen of `simulation` now, without the meters.
    pub(crate) fn of_usage(simulation: &Simulation) -> Self {
        let machine = simulation.machine();
        let (mut processes, mut ran) = (BTreeMap::new(), BTreeMap::new());
        let mut caused = BTreeMap::new();
        let mut busy = 0;
        for (number, process) in simulation.processes().iter().enumerate() {
            let Some(life) = simulation.life(process) else { continue };
            let places = (0..machine.packages as usize).map(Place::Package);
            let entries: Vec<_> = places.map(|place| simulation.of_process(process, place)).collect();
            let counted: Vec<Use> = entries.iter().map(|entry| entry.used).collect();
            let joules = |entry: &Entry| PARTS.map(|part| entry.energy.seen_by(part) as f64 * 1e-9);
            caused.insert(number, entries.iter().map(joules).collect());
            let time: u64 = counted.iter().map(|used| used.time).sum();
            busy += time;
            let view = View { ticks: time / TICK, counted };
            if life.end.is_none() {
                processes.insert(number, view.clone());
            }
            ran.insert(number, view);
        }
        Self {
            at: 0.0,
            usage_at: simulation.now().as_secs_f64(),
            joules: Vec::new(),
            busy_ticks: busy / TICK,
            cpus: machine.all_cpus() as f64,
            processes,
            idle: Vec::new(),
            caused,
            ran,
        }
    }

    /// Joules of all packages together, by part.
    pub(crate) fn total(&self) -> [f64; 2] {
        self.joules.iter().fold([0.0; 2], |sum, part| [sum[0] + part[0], sum[1] + part[1]])
    }
}

/// The meters that are judged, in the order of [`Sample::joules`].
pub(crate) const PARTS: [Part; 2] = [Part::Package, Part::Dram];

/// What was used between two readings.
pub(crate) fn used(before: &Use, now: &Use) -> Use {
    Use {
        time: now.time - before.time,
        shared: now.shared - before.shared,
        cycles: now.cycles - before.cycles,
        instructions: now.instructions - before.instructions,
        misses: now.misses - before.misses,
    }
}

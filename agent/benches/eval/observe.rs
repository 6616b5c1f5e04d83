//! What a polling tool can see at one moment: meters, /proc with its ticks of 10 ms, hardware counters. It
//! sees only processes that live at that moment.

use std::collections::BTreeMap;

use wattrace_simulator::machine::Part;
use wattrace_simulator::simulation::Simulation;
use wattrace_simulator::truth::{Counts, Entry, Location};

/// Length of a tick of /proc, ns.
const TICK: u64 = 10_000_000;

/// What can be seen at one moment. All counts are cumulative.
#[derive(Clone)]
pub(crate) struct Sample {
    /// The time to which the meters' values belong, s: half an update before they were read.
    pub(crate) at: f64,
    /// When usage was read, s.
    pub(crate) usage_at: f64,
    /// Joules by part (package, memory) and package.
    pub(crate) joules: Vec<[f64; 2]>,
    /// Ticks in which CPUs were busy, summed over CPUs.
    pub(crate) busy_ticks: u64,
    /// Number of CPUs.
    pub(crate) cpus: f64,
    /// The living processes, by their number in the script.
    pub(crate) processes: BTreeMap<usize, View>,
    /// By package and part: the static energy when the meters were read. Only the limit uses this and the
    /// next field.
    pub(crate) idle: Vec<[f64; 2]>,
    /// What each process had caused when usage was read, by package and part.
    pub(crate) caused: BTreeMap<usize, Vec<[f64; 2]>>,
    /// All processes that ever ran, as counting in the kernel sees them.
    pub(crate) ran: BTreeMap<usize, View>,
}

/// What can be seen of a process.
#[derive(Clone, Debug)]
pub(crate) struct View {
    /// Ticks that it ran.
    pub(crate) ticks: u64,
    /// Its hardware counters, by package.
    pub(crate) counted: Vec<Counts>,
}

impl Sample {
    /// What can be seen of `simulation` now, except for the meters.
    pub(crate) fn of_usage(simulation: &Simulation) -> Self {
        let machine = simulation.machine();
        let (mut processes, mut ran) = (BTreeMap::new(), BTreeMap::new());
        let mut caused = BTreeMap::new();
        let mut busy = 0;
        for (number, process) in simulation.processes().iter().enumerate() {
            let Some(life) = simulation.life(process) else { continue };
            let locations = (0..machine.packages as usize).map(Location::Package);
            let entries: Vec<_> = locations.map(|place| simulation.of_process(process, place)).collect();
            let counted: Vec<Counts> = entries.iter().map(|entry| entry.used).collect();
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

/// The meters that are evaluated, in the order of [`Sample::joules`].
pub(crate) const PARTS: [Part; 2] = [Part::Package, Part::Dram];

/// The counts between two samples.
pub(crate) fn used(before: &Counts, now: &Counts) -> Counts {
    Counts {
        time: now.time - before.time,
        shared: now.shared - before.shared,
        cycles: now.cycles - before.cycles,
        instructions: now.instructions - before.instructions,
        misses: now.misses - before.misses,
        weighted_cycles: now.weighted_cycles - before.weighted_cycles,
    }
}

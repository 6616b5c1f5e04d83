//! Measures what accounting adds to a context switch, compared with an empty program.
//!
//! The speed of a machine varies by more than a program costs: with its neighbours, its frequency and its
//! caches. So a round measures each kind of program once, in slots of a few milliseconds in random order, and
//! only the differences to the slots of the same round with nothing attached are used. Programs stay loaded,
//! and are attached and detached between slots. What a program costs also depends on its address, so all are
//! loaded again for each set of rounds. In a slot two real-time threads yield to each other, and a low
//! quantile is taken, which leaves interrupts out. The figures are interquartile means over all rounds, with
//! 95 % intervals.
//!
//! The end-to-end figures are of ordinary threads that send a byte through pipes, with everything that
//! happens.
//!
//! `sudo cargo bench -p wattrace-sched --bench switch`, or as a part of `cargo xtask bench`. Takes about two
//! minutes.

mod support;

use std::time::Duration;

use support::estimate::{Estimate, Random, midmean};
use support::workload::{ping_pong, yielding};
use support::{Baseline, Failure, Probe, begin_accounting, cpus};
use wattrace_sched::Counter;
use wattrace_sched::kernel::{Kernel, Options, PerfEvent};

/// Sets of rounds, and rounds of a set, that compare accounting with the empty program. Programs are loaded
/// again for each set.
const MAIN: (usize, usize) = (32, 24);
/// The same for all kinds of programs, and end to end.
const OTHERS: (usize, usize) = (4, 12);
/// How long a kind of program is measured in a round.
const SLOT: Duration = Duration::from_millis(5);
/// Round trips through pipes, for the end-to-end figures.
const TRIPS: u32 = 4_000;
/// How many times the cost of the empty program accounting may cost.
const GOAL: f64 = 1.3;
/// perf's clock, for machines without hardware counters.
const CPU_CLOCK: PerfEvent = PerfEvent { kind: 1, config: [0; 3] };

/// The kinds of programs. The first two are the same: their difference is the noise of the method.
const NAMES: [&str; 9] = [
    "nothing",
    "nothing again",
    "empty program",
    "time",
    "2 counter reads",
    "time, 2 counters",
    "time, without BTF",
    "time, interrupts apart",
    "time, cores shared",
];
const NOTHING: [usize; 2] = [0, 1];
const EMPTY: usize = 2;
const TIME: usize = 3;
const READS: usize = 4;
const COUNTERS: usize = 5;

fn main() -> Result<(), Failure> {
    if !std::env::args().any(|a| a == "--bench") {
        return Ok(());
    }
    let cpus = cpus()?;
    let options = Accounting::new(cpus);
    let mut main_kinds = Costs::of(TIME + 1, MAIN.1);
    for _ in 0..MAIN.0 {
        main_kinds.measure_set(&mut load_main(cpus)?, || yielding(cpus - 1, SLOT))?;
    }
    let (mut all_kinds, mut pipes) = (Costs::of(NAMES.len(), OTHERS.1), Costs::of(TIME + 1, OTHERS.1));
    let mut counter_cost = 0;
    for _ in 0..OTHERS.0 {
        let (mut programs, cost) = options.load(cpus)?;
        counter_cost = cost;
        all_kinds.measure_set(&mut programs, || yielding(cpus - 1, SLOT))?;
        pipes.measure_set(&mut programs, || ping_pong(cpus - 1, TRIPS))?;
    }
    println!("a context switch on CPU {}: ns beyond one with nothing attached (95 % interval)", cpus - 1);
    main_kinds.report("two real-time threads that yield");
    main_kinds.report_ratio(TIME);
    all_kinds.report("the same, other kinds of accounting");
    let extra = all_kinds.estimate(|cost| cost[COUNTERS] - cost[READS]);
    println!("  two counters beyond two counter reads: {extra} (goal: 30); a read costs {counter_cost}");
    if options.simulated {
        println!("  perf's clock simulates the counters: this machine has none");
    }
    pipes.report("end to end: two ordinary threads, a byte through pipes");
    Ok(())
}

/// What the kinds of accounting are loaded with.
struct Accounting {
    simulated: bool,
    counting: Options,
}

/// Programs in the order of [`NAMES`], loaded but not attached.
type Programs = Vec<Option<Box<dyn Probe>>>;

/// Those up to [`TIME`].
fn load_main(cpus: usize) -> Result<Programs, Failure> {
    let empty = Box::new(Baseline::empty()?) as Box<dyn Probe>;
    Ok(vec![None, None, Some(empty), Some(accounting(Kernel::load(&Options::of_cpus(cpus))?, cpus))])
}

impl Accounting {
    fn new(cpus: usize) -> Self {
        let counting = |event: fn(Counter) -> PerfEvent| Options {
            counters: [Counter::Cycles, Counter::Instructions]
                .map(|counter| (counter, event(counter)))
                .to_vec(),
            ..Options::of_cpus(cpus)
        };
        let simulated = Kernel::load(&counting(Counter::event)).is_err();
        Self {
            simulated,
            counting: if simulated { counting(|_| CPU_CLOCK) } else { counting(Counter::event) },
        }
    }

    /// Loads all of them. Also returns what reading a counter costs, ns.
    fn load(&self, cpus: usize) -> Result<(Programs, u64), Failure> {
        let time = Options::of_cpus(cpus);
        let mut shared = time.siblings.clone();
        if cpus > 1 {
            (shared[0], shared[cpus - 1]) = (Some(cpus - 1), Some(0));
        }
        let mut counting = Kernel::load(&self.counting)?;
        let counter_cost = counting.counter_cost()?;
        let mut all = load_main(cpus)?;
        all.extend([
            Some(Box::new(Baseline::counter_reads(&self.counting.counters, cpus)?) as Box<dyn Probe>),
            Some(accounting(counting, cpus)),
            Some(accounting(Kernel::load(&Options { typed: false, ..time.clone() })?, cpus)),
            Some(accounting(Kernel::load(&Options { separate_irq: true, ..time.clone() })?, cpus)),
            Some(accounting(Kernel::load(&Options { siblings: shared, ..time })?, cpus)),
        ]);
        Ok((all, counter_cost))
    }
}

/// A kernel that accounts, detached for now.
fn accounting(mut kernel: Kernel, cpus: usize) -> Box<dyn Probe> {
    begin_accounting(&kernel, cpus);
    kernel.detach();
    Box::new(kernel)
}

/// What a switch cost with the first kinds of programs, round by round.
struct Costs {
    kinds: usize,
    rounds_per_set: usize,
    rounds: Vec<Vec<f64>>,
    random: Random,
}

impl Costs {
    fn of(kinds: usize, rounds_per_set: usize) -> Self {
        Self { kinds, rounds_per_set, rounds: Vec::new(), random: Random::default() }
    }

    fn measure_set(
        &mut self,
        programs: &mut Programs,
        mut slot: impl FnMut() -> std::io::Result<f64>,
    ) -> Result<(), Failure> {
        let mut order: Vec<usize> = (0..self.kinds).collect();
        for _ in 0..self.rounds_per_set {
            let mut costs = vec![0.0; self.kinds];
            // So that no program always follows the same one.
            self.random.shuffle(&mut order);
            for &kind in &order {
                if let Some(program) = &mut programs[kind] {
                    program.attach()?;
                }
                costs[kind] = slot()?;
                if let Some(program) = &mut programs[kind] {
                    program.detach();
                }
            }
            self.rounds.push(costs);
        }
        Ok(())
    }

    fn report(&self, workload: &str) {
        println!("{workload}, {} rounds", self.rounds.len());
        println!(
            "  {:<24} {:8.1}",
            NAMES[0],
            midmean(self.rounds.iter().map(|costs| nothing(costs)).collect())
        );
        let noise = self.estimate(|costs| costs[1] - costs[0]);
        println!("  {:<24} {noise}", NAMES[1]);
        for kind in EMPTY..self.kinds {
            println!("  {:<24} {}", NAMES[kind], self.estimate(|costs| costs[kind]));
        }
    }

    fn report_ratio(&self, kind: usize) {
        let costs = self.beyond_nothing();
        let mean_of =
            |kind: usize, rounds: &[usize]| midmean(rounds.iter().map(|&round| costs[round][kind]).collect());
        let ratio = Estimate::of(&self.sets(), |rounds| mean_of(kind, rounds) / mean_of(EMPTY, rounds));
        let Estimate { value, low, high } = ratio;
        let name = NAMES[kind];
        println!(
            "  {name}: {value:.2} ({low:.2} to {high:.2}) times the empty program (goal: at most {GOAL})"
        );
    }

    /// `figure` of the costs beyond nothing.
    fn estimate(&self, figure: impl Fn(&[f64]) -> f64) -> Estimate {
        let figures: Vec<f64> = self.beyond_nothing().iter().map(|costs| figure(costs)).collect();
        Estimate::of(&self.sets(), |rounds| midmean(rounds.iter().map(|&round| figures[round]).collect()))
    }

    fn beyond_nothing(&self) -> Vec<Vec<f64>> {
        let beyond = |costs: &Vec<f64>| costs.iter().map(|cost| cost - nothing(costs)).collect();
        self.rounds.iter().map(beyond).collect()
    }

    fn sets(&self) -> Vec<Vec<usize>> {
        let rounds: Vec<usize> = (0..self.rounds.len()).collect();
        rounds.chunks(self.rounds_per_set).map(<[usize]>::to_vec).collect()
    }
}

fn nothing(costs: &[f64]) -> f64 {
    NOTHING.map(|kind| costs[kind]).iter().sum::<f64>() / 2.0
}

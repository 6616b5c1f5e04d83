//! Runs a scenario once, and gives every method what it would see. Ours gets the points of the simulator's
//! sources: energy half an update of the meter after each tick, and usage shortly after that, as in the
//! agent. The others get what they can poll at those moments.

use std::time::Duration;

use wattrace_api::{Batch, Clock, Registry, ResultExt, Source, Tick, Timestamp, Trigger};
use wattrace_simulator::random::Random;
use wattrace_simulator::shared::SharedSimulation;
use wattrace_simulator::simulation::Simulation;
use wattrace_simulator::truth::Location;
use wattrace_simulator::{EnergySource, UsageSource};

use crate::Result;
use crate::coverage::Coverage;
use crate::methods::{self, Attributed, Method};
use crate::observe::{PARTS, Sample};
use crate::ours::Ours;
use crate::scenarios::{EVALUATED, Scenario, WARM_UP};
use crate::score::{Score, Truth};

/// What a run is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Judged {
    /// All methods.
    Methods,
    /// The intervals of our best mode alone.
    Intervals,
}

/// The scores of a scenario, with one seed or as the mean over several.
pub(crate) struct Run {
    pub(crate) scenario: &'static str,
    pub(crate) about: &'static str,
    pub(crate) window: Duration,
    pub(crate) ours: Vec<Score>,
    pub(crate) others: Vec<Score>,
    pub(crate) coverage: Coverage,
}

impl Run {
    /// The mean of runs that differ only in the seed. There must be at least one.
    pub(crate) fn mean(runs: &[Run]) -> Self {
        let mean = |of: fn(&Run) -> &[Score]| {
            let scores = |at: usize| runs.iter().map(move |run| &of(run)[at]);
            (0..of(&runs[0]).len()).map(|at| Score::mean(scores(at))).collect()
        };
        let &Run { scenario, about, window, .. } = &runs[0];
        let (ours, others) = (mean(|run| &run.ours), mean(|run| &run.others));
        Run {
            scenario,
            about,
            window,
            ours,
            others,
            coverage: Coverage::sum(runs.iter().map(|run| &run.coverage)),
        }
    }
}

/// How much packages differ in how far and in how fast they warm up: the standard deviation, as a part. One
/// real machine was measured (`PACKAGE_WARMTH` in `plugins/attribution`), so this is an assumption.
const HEATING_SPREAD: f64 = 0.3;

/// Runs `scenario` with samples `window` apart. Kinds of code differ `hidden` times as much as they normally
/// do in what no counter shows. Which of them has which difference, and how far and how fast packages warm
/// up, is another matter with each seed.
pub(crate) fn run(
    scenario: &Scenario,
    window: Duration,
    hidden: f64,
    seed: u64,
    judged: Judged,
) -> Result<Run> {
    let mut machine = scenario.machine.clone();
    machine.physics.hidden = hidden;
    fastrand::Rng::with_seed(seed).shuffle(&mut machine.physics.hidden_of);
    let differs = |rotation: u32| 1.0 + HEATING_SPREAD * Random::new(seed.rotate_left(rotation)).normal();
    machine.physics.heating *= differs(16).max(0.0);
    machine.physics.heating_s *= differs(24).max(0.1);
    let simulation = Simulation::new(machine, &scenario.schedule(seed), seed).or_fatal()?;
    let mut harness = Harness::new(simulation, window, seed, judged)?;
    let ticks = |span: Duration| span.as_nanos() / window.as_nanos();
    let mut tick = Duration::ZERO;
    harness.sample(tick)?;
    for _ in 0..ticks(WARM_UP) {
        tick += window;
        harness.sample(tick)?;
    }
    let (truth, before) = (harness.truth.clone(), harness.attributed());
    for _ in 0..ticks(EVALUATED) {
        tick += window;
        harness.sample(tick)?;
    }
    let caused = harness.truth.processes.clone();
    let truth = since(&truth, &harness.truth);
    let after = harness.attributed();
    let pairs = after.iter().zip(&before);
    let mut scores: Vec<Score> =
        pairs.map(|((name, after), (_, before))| Score::of(name, &truth, before, after)).collect();
    let others = scores.split_off(harness.ours.len());
    for (ours, score) in harness.ours.iter_mut().zip(&mut scores) {
        // Ours must conserve energy over the whole run, in whole microjoules.
        ours.finish()?;
        score.conservation = Some(ours.residual());
    }
    // Those that ran during the evaluation, over their whole lives: what is published is cumulative.
    let evaluated = caused.iter().zip(&truth.processes).map(|(&all, &now)| if now > 0.0 { all } else { 0.0 });
    let evaluated: Vec<f64> = evaluated.collect();
    let best = harness.ours.last().map(|best| (best.attributed().processes, best.half_widths()));
    let coverage = best.map(|(given, half_widths)| Coverage::of(&evaluated, &given, &half_widths));
    let coverage = coverage.unwrap_or_default();
    Ok(Run { scenario: scenario.name, about: scenario.about, window, ours: scores, others, coverage })
}

/// A simulation, its sources, and the methods under evaluation.
struct Harness {
    shared: SharedSimulation,
    clock: Clock,
    energy: EnergySource,
    usage: UsageSource,
    ours: Vec<Ours>,
    others: Vec<Box<dyn Method>>,
    random: Random,
    /// Mean age of what the meters show.
    age: Duration,
    /// Number of processes in the script.
    processes: usize,
    /// As of the last sample.
    truth: Truth,
    /// By meter: the counter's last value, and the counts so far.
    meters: Vec<(u64, u64)>,
}

impl Harness {
    fn new(simulation: Simulation, window: Duration, seed: u64, judged: Judged) -> Result<Self> {
        let registry = Registry::new();
        let clock = Clock::manual(Timestamp(0));
        let meters = simulation.meters().iter().map(|meter| (meter.shown(), 0)).collect();
        let (age, processes) = (simulation.machine().meter.age(), simulation.processes().len());
        let shared = SharedSimulation::new(simulation);
        let energy = EnergySource::open(shared.clone(), &registry, clock.clone())?;
        let usage = UsageSource::open(shared.clone(), registry.clone(), clock.clone(), true)?;
        let (ours, others) = match judged {
            Judged::Methods => (Ours::all(&registry)?, methods::all(window)),
            Judged::Intervals => (Ours::best(&registry)?, Vec::new()),
        };
        Ok(Self {
            shared,
            clock,
            energy,
            usage,
            ours,
            others,
            random: Random::new(!seed),
            age,
            processes,
            truth: Truth::default(),
            meters,
        })
    }

    /// Takes a sample as the agent's triggers do: the meters after `tick` by the mean age of what they show,
    /// and usage shortly after that. Both come some microseconds late. The other methods get the same, and
    /// also the time to which it belongs.
    fn sample(&mut self, tick: Duration) -> Result<()> {
        let mut late = |trigger: Trigger| {
            tick + trigger.offset + Duration::from_secs_f64(self.random.between(0.0, 50e-6))
        };
        let usage_at = late(Trigger::just_after(Duration::ZERO));
        let meters_at = late(Trigger::after(Duration::ZERO, self.age));

        let batch = self.poll(meters_at, |harness| &mut harness.energy)?;
        self.ours.iter_mut().try_for_each(|ours| ours.take(batch.clone()))?;
        let (joules, idle) = self.read_meters(meters_at);

        let batch = self.poll(usage_at, |harness| &mut harness.usage)?;
        let usage = Sample::of_usage(&self.shared.at(self.clock.now()));
        self.ours.iter_mut().try_for_each(|ours| ours.take(batch.clone()))?;
        let caused = |number| usage.caused.get(&number).map_or(0.0, |caused| caused.iter().flatten().sum());
        self.truth = Truth {
            processes: (0..self.processes).map(caused).collect(),
            measured: joules.iter().flatten().sum(),
            idle: idle.iter().flatten().sum(),
        };
        let at = meters_at.saturating_sub(self.age).as_secs_f64();
        let sample = Sample { at, joules, idle, ..usage };
        self.others.iter_mut().for_each(|other| other.take(sample.clone()));
        Ok(())
    }

    fn poll<S: Source>(&mut self, at: Duration, source: impl Fn(&mut Self) -> &mut S) -> Result<Batch> {
        let now = Timestamp(at.as_nanos() as u64);
        self.clock.set(now);
        let mut batch = Batch::default();
        source(self).poll(&Tick::at(now), &mut batch)?;
        Ok(batch)
    }

    /// By package and part: the meters as the other methods read them, and the true static energy.
    fn read_meters(&mut self, at: Duration) -> (Vec<[f64; 2]>, Vec<[f64; 2]>) {
        let simulation = self.shared.at(Timestamp(at.as_nanos() as u64));
        let packages = simulation.machine().packages as usize;
        let (mut joules, mut idle) = (vec![[0.0; 2]; packages], vec![[0.0; 2]; packages]);
        for (meter, (last, counts)) in simulation.meters().iter().zip(&mut self.meters) {
            let shown = meter.shown();
            *counts += meter.between(std::mem::replace(last, shown), shown);
            if let (Some(part), Location::Package(package)) =
                (PARTS.iter().position(|part| *part == meter.part), meter.location)
            {
                joules[package][part] = meter.microjoules(*counts) as f64 * 1e-6;
                idle[package][part] = simulation.truth().idle(meter.part, meter.location) as f64 * 1e-9;
            }
        }
        (joules, idle)
    }

    /// What each method has attributed so far, ours first.
    fn attributed(&self) -> Vec<(String, Attributed)> {
        let ours = self.ours.iter().map(|ours| (format!("ours, {}", ours.mode), ours.attributed()));
        let others = self.others.iter().map(|other| (other.name().to_owned(), other.attributed().clone()));
        ours.chain(others).collect()
    }
}

fn since(before: &Truth, after: &Truth) -> Truth {
    let processes = after.processes.iter().zip(&before.processes);
    Truth {
        processes: processes.map(|(after, before)| after - before).collect(),
        idle: after.idle - before.idle,
        measured: after.measured - before.measured,
    }
}

//! Runs a scenario once, and shows it to every method as each would see it: ours gets the points of the
//! simulator's sources, energy half an update of the meter after each tick and usage a moment later, as in
//! the agent; the others get what they can poll at those moments.

use std::time::Duration;

use wattrace_api::{Batch, Clock, Registry, ResultExt, Source, Tick, Timestamp, Trigger};
use wattrace_simulator::live::Live;
use wattrace_simulator::random::Random;
use wattrace_simulator::simulation::Simulation;
use wattrace_simulator::truth::Place;
use wattrace_simulator::{EnergySource, UsageSource};

use crate::Result;
use crate::judge::{Truth, Verdict};
use crate::methods::{self, Books, Method};
use crate::observe::{PARTS, Sample};
use crate::ours::Ours;
use crate::scenarios::{JUDGED, Scenario, WARM_UP};

/// What came out of a scenario: with one seed, or in the mean over several.
pub(crate) struct Run {
    pub(crate) scenario: &'static str,
    pub(crate) about: &'static str,
    pub(crate) window: Duration,
    pub(crate) ours: Vec<Verdict>,
    pub(crate) others: Vec<Verdict>,
}

impl Run {
    /// The mean of runs that differ in nothing but the seed; there must be one.
    pub(crate) fn mean(runs: &[Run]) -> Self {
        let mean = |of: fn(&Run) -> &[Verdict]| {
            let verdicts = |at: usize| runs.iter().map(move |run| &of(run)[at]);
            (0..of(&runs[0]).len()).map(|at| Verdict::mean(verdicts(at))).collect()
        };
        let &Run { scenario, about, window, .. } = &runs[0];
        Run { scenario, about, window, ours: mean(|run| &run.ours), others: mean(|run| &run.others) }
    }
}

/// Runs `scenario` in readings `window` apart, with kinds of code that differ `hidden` times as much as they
/// do in what no counter tells.
pub(crate) fn run(scenario: &Scenario, window: Duration, hidden: f64, seed: u64) -> Result<Run> {
    let mut machine = scenario.machine.clone();
    machine.physics.hidden = hidden;
    let mut stage =
        Stage::new(Simulation::new(machine, &scenario.schedule(seed), seed).or_fatal()?, window, seed)?;
    let ticks = |span: Duration| span.as_nanos() / window.as_nanos();
    let mut tick = Duration::ZERO;
    stage.read(tick)?;
    for _ in 0..ticks(WARM_UP) {
        tick += window;
        stage.read(tick)?;
    }
    let (truth, books) = (stage.truth.clone(), stage.books());
    for _ in 0..ticks(JUDGED) {
        tick += window;
        stage.read(tick)?;
    }
    let truth = since(&truth, &stage.truth);
    let judge = |(name, before, after): (&str, &Books, &Books)| Verdict::of(name, &truth, before, after);
    let after = stage.books();
    let mut verdicts: Vec<Verdict> =
        after.iter().zip(&books).map(|((name, after), (_, before))| judge((name, before, after))).collect();
    let others = verdicts.split_off(stage.ours.len());
    for (ours, verdict) in stage.ours.iter_mut().zip(&mut verdicts) {
        // The same at the end, and in whole microjoules.
        ours.finish()?;
        verdict.conservation = Some(ours.residual());
    }
    Ok(Run { scenario: scenario.name, about: scenario.about, window, ours: verdicts, others })
}

/// A simulation, the sources that read it, and the methods that look on.
struct Stage {
    live: Live,
    clock: Clock,
    energy: EnergySource,
    usage: UsageSource,
    ours: Vec<Ours>,
    others: Vec<Box<dyn Method>>,
    random: Random,
    /// How old what the meters show is, in the mean.
    age: Duration,
    /// How many processes the script has.
    processes: usize,
    /// As of the last reading.
    truth: Truth,
    /// By package and part, what the meters were at, in counts, and have counted.
    meters: Vec<(u64, u64)>,
}

impl Stage {
    fn new(simulation: Simulation, window: Duration, seed: u64) -> Result<Self> {
        let registry = Registry::new();
        let clock = Clock::manual(Timestamp(0));
        let meters = simulation.meters().iter().map(|meter| (meter.shown(), 0)).collect();
        let (age, processes) = (simulation.machine().meter.age(), simulation.processes().len());
        let live = Live::new(simulation);
        let energy = EnergySource::open(live.clone(), &registry, clock.clone())?;
        let usage = UsageSource::open(live.clone(), registry.clone(), clock.clone(), true)?;
        let ours = Ours::all(&registry)?;
        Ok(Self {
            live,
            clock,
            energy,
            usage,
            ours,
            others: methods::all(window),
            random: Random::new(!seed),
            age,
            processes,
            truth: Truth::default(),
            meters,
        })
    }

    /// A reading, as the agent's triggers have it: the meters so long after `tick` as what they show is old,
    /// and usage a moment later. Both come some microseconds late. Others get what ours do, and are told as
    /// well to when it belongs.
    fn read(&mut self, tick: Duration) -> Result<()> {
        let mut late = |trigger: Trigger| {
            tick + trigger.offset + Duration::from_secs_f64(self.random.between(0.0, 50e-6))
        };
        let usage_at = late(Trigger::just_after(Duration::ZERO));
        let meters_at = late(Trigger::after(Duration::ZERO, self.age));

        let batch = self.poll(meters_at, |stage| &mut stage.energy)?;
        self.ours.iter_mut().try_for_each(|ours| ours.take(batch.clone()))?;
        let (joules, idle) = self.look(meters_at);

        let batch = self.poll(usage_at, |stage| &mut stage.usage)?;
        let usage = Sample::of_usage(&self.live.at(self.clock.now()));
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

    /// By package and part, the meters as others read them, and what is static of it.
    fn look(&mut self, at: Duration) -> (Vec<[f64; 2]>, Vec<[f64; 2]>) {
        let simulation = self.live.at(Timestamp(at.as_nanos() as u64));
        let packages = simulation.machine().packages as usize;
        let (mut joules, mut idle) = (vec![[0.0; 2]; packages], vec![[0.0; 2]; packages]);
        for (meter, (last, counts)) in simulation.meters().iter().zip(&mut self.meters) {
            let shown = meter.shown();
            *counts += meter.between(std::mem::replace(last, shown), shown);
            if let (Some(part), Place::Package(package)) =
                (PARTS.iter().position(|part| *part == meter.part), meter.place)
            {
                joules[package][part] = meter.microjoules(*counts) as f64 * 1e-6;
                idle[package][part] = simulation.truth().idle(meter.part, meter.place) as f64 * 1e-9;
            }
        }
        (joules, idle)
    }

    /// What each method has attributed so far, ours first.
    fn books(&self) -> Vec<(String, Books)> {
        let ours = self.ours.iter().map(|ours| (format!("ours, {}", ours.mode), ours.books()));
        let others = self.others.iter().map(|other| (other.name().to_owned(), other.books().clone()));
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

//! The `simulator` plugin: a machine whose every thread's energy is known, so that attribution has a truth to
//! be judged by. All that it gives is labelled `simulated`.
//!
//! | module | holds |
//! | --- | --- |
//! | [`machine`], [`physics`] | the machine's shape; what running on it costs |
//! | [`mix`], [`schedule`] | what threads execute; the script of what runs |
//! | `scheduler` | who gets a CPU when |
//! | [`simulation`], [`truth`] | time passing; who used and caused what, in whole nanojoules |
//! | [`meter`] | meters that see the truth as hardware would: late, in steps, noisy, wrapping |
//! | [`live`], `energy`, `usage` | the simulation as sources of the pipeline |
//! | [`sysfs`] | the same as a tree of files |
//! | `real` | a constant meter for the processes of a real machine |
//! | `config`, [`random`] | the keys of `[plugins.simulator]`; randomness from a seed |
//!
//! ```
//! use std::time::Duration;
//! use wattrace_simulator::machine::{Machine, Part};
//! use wattrace_simulator::mix::Mix;
//! use wattrace_simulator::schedule::{Phase, Process, Schedule};
//! use wattrace_simulator::simulation::Simulation;
//! use wattrace_simulator::truth::Place;
//!
//! let processes = vec![Process::new("half", vec![Phase::duty(Mix::Integer, 0.5)])];
//! let mut simulation = Simulation::new(Machine::default(), &Schedule { processes }, 1)?;
//! simulation.advance(Duration::from_secs(10));
//! let (truth, process) = (simulation.truth(), &simulation.processes()[0]);
//! let of_process = simulation.of_process(process, Place::Everywhere);
//! assert_eq!(of_process.used.time, 5_000_000_000);
//! let (all, idle) =
//!     (truth.measured(Part::Package, Place::Everywhere), truth.idle(Part::Package, Place::Everywhere));
//! assert_eq!(of_process.energy.seen_by(Part::Package) + idle, all);
//! # Ok::<(), String>(())
//! ```

mod config;
mod energy;
pub mod live;
pub mod machine;
pub mod meter;
pub mod mix;
pub mod physics;
pub mod random;
mod real;
pub mod schedule;
mod scheduler;
pub mod simulation;
pub mod sysfs;
pub mod truth;
mod usage;

use std::time::Duration;

use wattrace_api::{Batch, Clock, Error, Plugin, Setup, Source, Tick, Trigger};

pub use config::{SimulatorConfig, ThreadConfig, What};
pub use energy::EnergySource;
pub use usage::UsageSource;

use live::Live;
use simulation::Simulation;

/// The plugin.
#[derive(Debug)]
pub struct Simulator;

impl Plugin for Simulator {
    const NAME: &'static str = "simulator";
    const DESCRIPTION: &'static str =
        "a machine whose every thread's energy is known, to judge attribution by";
    type Config = SimulatorConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: SimulatorConfig, setup: &mut Setup) -> Result<(), Error> {
        let schedule = config.script()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        if config.schedule == What::Real {
            let (idle, busy) = (config.idle_watts, config.busy_watts);
            setup.transform("meter", move || real::RealMeter::open(idle, busy, registry.clone()));
            return Ok(());
        }
        let simulation = Simulation::new(config.machine, &schedule, config.seed)
            .map_err(|message| Error::fatal(format!("plugins.simulator: {message}")))?;
        let every = Trigger::after(config.interval, simulation.machine().meter.age());
        let live = Live::new(simulation);
        let (energy, energy_registry, energy_clock) = (live.clone(), registry.clone(), clock.clone());
        setup.source("energy", every, move || {
            EnergySource::open(energy.clone(), &energy_registry, energy_clock.clone())
        });
        let (usage, usage_clock) = (live.clone(), clock.clone());
        setup.source("cpu", Trigger::just_after(config.interval), move || {
            UsageSource::open(usage.clone(), registry.clone(), usage_clock.clone(), config.counters)
        });
        if !config.sysfs.as_os_str().is_empty() {
            let path = config.sysfs;
            setup.source("sysfs", Trigger::every(Duration::from_millis(1)), move || {
                let tree = sysfs::Tree::create(&path, &live.at(clock.now())).map_err(|e| {
                    Error::fatal(format!(
                        "plugins.simulator.sysfs: {}: {e}; may it be written?",
                        path.display()
                    ))
                })?;
                Ok(TreeSource { tree, live: live.clone(), clock: clock.clone() })
            });
        }
        Ok(())
    }
}

/// Keeps the tree of files up to date; it has no points.
struct TreeSource {
    tree: sysfs::Tree,
    live: Live,
    clock: Clock,
}

impl Source for TreeSource {
    fn poll(&mut self, _tick: &Tick, _out: &mut Batch) -> Result<(), Error> {
        let simulation = self.live.at(self.clock.now());
        self.tree.write(&simulation).map_err(|e| Error::retry(format!("plugins.simulator.sysfs: {e}")))
    }
}

#[cfg(test)]
mod tests;

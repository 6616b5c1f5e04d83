//! The `simulator` plugin: a simulated machine on which the energy of every thread is known, so that
//! attribution can be compared with the truth. All its values are labelled `simulated`.
//!
//! | module | holds |
//! | --- | --- |
//! | [`machine`], [`physics`] | the machine's shape; what running on it costs |
//! | [`mix`], [`schedule`] | kinds of code; the script of what runs |
//! | `scheduler` | which thread runs on which CPU |
//! | [`simulation`], [`truth`] | time; what each thread used and caused, in whole nanojoules |
//! | [`meter`], [`update_interval`] | meters with the errors of hardware: late, in steps, noisy, wrapping |
//! | [`shared`], `energy`, `usage` | the simulation as sources of the pipeline |
//! | [`sysfs`] | the simulation as a tree of files |
//! | `constant_power` | a meter of constant powers for the processes of a real machine |
//! | `config`, [`random`] | the keys of `[plugins.simulator]`; random numbers from a seed |
//!
//! ```
//! use std::time::Duration;
//! use wattrace_simulator::machine::{Machine, Part};
//! use wattrace_simulator::mix::Mix;
//! use wattrace_simulator::schedule::{Phase, Process, Schedule};
//! use wattrace_simulator::simulation::Simulation;
//! use wattrace_simulator::truth::Location;
//!
//! let processes = vec![Process::new("half", vec![Phase::duty(Mix::Integer, 0.5)])];
//! let mut simulation = Simulation::new(Machine::default(), &Schedule { processes }, 1)?;
//! simulation.advance(Duration::from_secs(10));
//! let (truth, process) = (simulation.truth(), &simulation.processes()[0]);
//! let of_process = simulation.of_process(process, Location::Everywhere);
//! assert_eq!(of_process.used.time, 5_000_000_000);
//! let all = truth.measured(Part::Package, Location::Everywhere);
//! let idle = truth.idle(Part::Package, Location::Everywhere);
//! assert_eq!(of_process.energy.seen_by(Part::Package) + idle, all);
//! # Ok::<(), String>(())
//! ```

mod config;
mod constant_power;
mod energy;
pub mod machine;
pub mod meter;
pub mod mix;
pub mod physics;
pub mod random;
pub mod schedule;
mod scheduler;
pub mod shared;
pub mod simulation;
pub mod sysfs;
pub mod truth;
pub mod update_interval;
mod usage;

use std::time::Duration;

use wattrace_api::{Batch, Clock, Error, Plugin, Setup, Source, Tick, Trigger};

pub use config::{ScheduleKind, SimulatorConfig, ThreadConfig};
pub use energy::EnergySource;
pub use usage::UsageSource;

use shared::SharedSimulation;
use simulation::Simulation;

/// The plugin.
#[derive(Debug)]
pub struct Simulator;

impl Plugin for Simulator {
    const NAME: &'static str = "simulator";
    const DESCRIPTION: &'static str = "a simulated machine on which the energy of every thread is known";
    type Config = SimulatorConfig;

    fn on_by_default() -> bool {
        false
    }

    fn start(config: SimulatorConfig, setup: &mut Setup) -> Result<(), Error> {
        let schedule = config.script()?;
        let (registry, clock) = (setup.registry(), setup.clock());
        if config.schedule == ScheduleKind::Real {
            let (idle, busy) = (config.idle_watts, config.busy_watts);
            setup.transform("meter", move || {
                constant_power::ConstantPower::open(idle, busy, registry.clone())
            });
            return Ok(());
        }
        let simulation = Simulation::new(config.machine, &schedule, config.seed)
            .map_err(|message| Error::fatal(format!("plugins.simulator: {message}")))?;
        let every = Trigger::after(config.interval, simulation.machine().meter.age());
        let simulation = SharedSimulation::new(simulation);
        let (energy, energy_registry, energy_clock) = (simulation.clone(), registry.clone(), clock.clone());
        setup.source("energy", every, move || {
            EnergySource::open(energy.clone(), &energy_registry, energy_clock.clone())
        });
        let (usage, usage_clock) = (simulation.clone(), clock.clone());
        setup.source("cpu", Trigger::just_after(config.interval), move || {
            UsageSource::open(usage.clone(), registry.clone(), usage_clock.clone(), config.counters)
        });
        if !config.sysfs.as_os_str().is_empty() {
            let path = config.sysfs;
            setup.source("sysfs", Trigger::every(Duration::from_millis(1)), move || {
                let tree = sysfs::SysfsTree::create(&path, &simulation.at(clock.now())).map_err(|e| {
                    Error::fatal(format!(
                        "plugins.simulator.sysfs: {}: {e}; name a directory that can be written",
                        path.display()
                    ))
                })?;
                Ok(TreeSource { tree, simulation: simulation.clone(), clock: clock.clone() })
            });
        }
        Ok(())
    }
}

/// Keeps the tree of files up to date. It has no points.
struct TreeSource {
    tree: sysfs::SysfsTree,
    simulation: SharedSimulation,
    clock: Clock,
}

impl Source for TreeSource {
    fn poll(&mut self, _tick: &Tick, _out: &mut Batch) -> Result<(), Error> {
        let simulation = self.simulation.at(self.clock.now());
        self.tree.write(&simulation).map_err(|e| Error::retry(format!("plugins.simulator.sysfs: {e}")))
    }
}

#[cfg(test)]
mod tests;

//! A simulation on the agent's clock, shared by the sources that read it. It starts when one of them first
//! reads it.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use wattrace_api::Timestamp;

use crate::simulation::Simulation;

/// A simulation whose time is the agent's clock.
#[derive(Clone, Debug)]
pub struct SharedSimulation(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    simulation: Mutex<Simulation>,
    started: OnceLock<Timestamp>,
}

impl SharedSimulation {
    /// Shares a simulation that has not started.
    pub fn new(simulation: Simulation) -> Self {
        Self(Arc::new(Shared { simulation: Mutex::new(simulation), started: OnceLock::new() }))
    }

    /// When it started. Starts it at `now` if it has not.
    pub fn started(&self, now: Timestamp) -> Timestamp {
        *self.0.started.get_or_init(|| now)
    }

    /// The simulation, advanced to `now`. If it is further already, it stays there.
    pub fn at(&self, now: Timestamp) -> MutexGuard<'_, Simulation> {
        let mut simulation = self.0.simulation.lock().unwrap_or_else(PoisonError::into_inner);
        simulation.advance(now.since(self.started(now)));
        simulation
    }
}

//! A simulation on the agent's clock, shared by the sources that read it. It begins when one of them first
//! looks.

use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

use wattrace_api::Timestamp;

use crate::simulation::Simulation;

/// A simulation whose time is the agent's.
#[derive(Clone, Debug)]
pub struct Live(Arc<Shared>);

#[derive(Debug)]
struct Shared {
    simulation: Mutex<Simulation>,
    began: OnceLock<Timestamp>,
}

impl Live {
    /// A simulation that is to begin.
    pub fn new(simulation: Simulation) -> Self {
        Self(Arc::new(Shared { simulation: Mutex::new(simulation), began: OnceLock::new() }))
    }

    /// When it began; `now` if it has not.
    pub fn began(&self, now: Timestamp) -> Timestamp {
        *self.0.began.get_or_init(|| now)
    }

    /// The simulation as it is at `now`, or as it was left if it is further already.
    pub fn at(&self, now: Timestamp) -> MutexGuard<'_, Simulation> {
        let mut simulation = self.0.simulation.lock().unwrap_or_else(PoisonError::into_inner);
        simulation.advance(now.since(self.began(now)));
        simulation
    }
}

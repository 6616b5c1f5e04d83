//! Devices that sleep and have not been read yet: the library knows them by UUID only, and asking it would
//! wake them. Until they wake they are GPUs by their address that use nothing. `sleep.rs` says which sleep.

use std::collections::BTreeMap;
use std::sync::Arc;

use wattrace_api::{Batch, Clock, Error, Origin, Registry, Resource, SeriesId, Timestamp, Value, Window};
use wattrace_meter::sysfs;

use crate::config::{LIBRARY, NvidiaConfig};
use crate::gpu::open_energy;
use crate::sleep::PciBus;

/// Devices that the present session has left alone, by address.
pub(crate) struct Sleepers {
    registry: Arc<Registry>,
    all: BTreeMap<String, Option<Unknown>>,
}

/// A device that has no series of its own yet.
struct Unknown {
    energy: SeriesId,
    written_at: Timestamp,
}

impl Sleepers {
    pub(crate) fn new(registry: Arc<Registry>) -> Self {
        Self { registry, all: BTreeMap::new() }
    }

    /// Takes the addresses of the devices that sleep now. Those in `known` have series by their UUIDs.
    pub(crate) fn replace(
        &mut self,
        asleep: &[String],
        known: &[&str],
        clock: &Clock,
        config: &NvidiaConfig,
        out: &mut Batch,
    ) -> Result<(), Error> {
        let mut before = std::mem::take(&mut self.all);
        for address in asleep {
            let sleeper = match before.remove(address) {
                Some(sleeper) => sleeper,
                None if known.contains(&address.as_str()) => None,
                None => Some(self.open(address, clock, config)?),
            };
            self.all.insert(address.clone(), sleeper);
        }
        before.into_values().flatten().for_each(|unknown| out.end(unknown.energy));
        Ok(())
    }

    fn open(&self, address: &str, clock: &Clock, config: &NvidiaConfig) -> Result<Unknown, Error> {
        tracing::info!(address, "an NVIDIA GPU sleeps: it is read once it wakes");
        let state = PciBus::new(&config.sysfs_root).state_file(address);
        let origin = if config.library == LIBRARY { sysfs::origin(&state) } else { Origin::Simulated };
        let (resource, now) = (Resource::gpu(address.to_owned()), clock.now());
        let energy = open_energy(&self.registry, &resource, "NVIDIA GPU", origin, now)?;
        Ok(Unknown { energy, written_at: now })
    }

    pub(crate) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }

    /// Whether one of them has woken up.
    pub(crate) fn any_awake(&self, bus: &PciBus) -> bool {
        self.all.keys().any(|address| !bus.is_asleep(address))
    }

    /// Writes that they have used nothing.
    pub(crate) fn emit(&mut self, now: Timestamp, out: &mut Batch) {
        for unknown in self.all.values_mut().flatten() {
            let window = Window::new(unknown.written_at, now);
            if window.nanos() > 0 {
                unknown.written_at = now;
                out.begin(window);
                out.push(unknown.energy, Value::of_steps(0));
            }
        }
    }
}

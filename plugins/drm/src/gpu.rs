//! One GPU: reads its meters and takes its clients, and writes their series. `source.rs` decides when, and
//! which descriptors lead to clients.

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, Clock, Domain, Error, Follows, Origin, Registry, Resource, Timestamp, Window, metric,
};
use wattrace_gpu::{ProcessResolver, ProcessUsage};
use wattrace_meter::sysfs::{self, Fault, NumberFile};
use wattrace_meter::{Channel, Subject};

use crate::cards::Card;
use crate::clients::Clients;
use crate::fdinfo::{Cycles, Fdinfo};
use crate::sensors::{Quantity, Sensor};

/// Readings of power that are further apart leave a gap. Longer than the longest interval.
const MAX_GAP: Duration = Duration::from_secs(30);

/// A GPU that is present.
pub(crate) struct Gpu {
    pub(crate) card: Card,
    meters: Vec<Meter>,
    clients: Clients,
    pub(crate) usage: ProcessUsage,
}

struct Meter {
    file: NumberFile,
    channel: Channel,
    quantity: Quantity,
    /// The last reading, until it is written.
    reading: Option<(Timestamp, Result<i128, Fault>)>,
}

impl Gpu {
    /// Takes the first readings, from which energy is counted.
    ///
    /// # Errors
    /// Fatal, if another plugin has declared the metrics otherwise.
    pub(crate) fn open(card: Card, registry: &Arc<Registry>, clock: &Clock) -> Result<Self, Error> {
        let resource = Resource::gpu(card.id.clone());
        let mut meters = Vec::new();
        for sensor in &card.sensors {
            let subject = subject(&card, sensor, resource.clone());
            let now = clock.now();
            let channel = match sensor.quantity {
                Quantity::Energy => Channel::of_energy(subject, now, registry)?,
                Quantity::Power => Channel::of_power(subject, MAX_GAP, now, registry)?,
            };
            let (file, quantity) = (NumberFile::new(sensor.path.clone()), sensor.quantity);
            meters.push(Meter { file, channel, quantity, reading: None });
        }
        // The kernel removes a process's descriptors when it ends, so nothing is reported late.
        let usage = ProcessUsage::new(registry.clone(), resource, Duration::ZERO)?;
        let mut gpu = Self { card, meters, clients: Clients::default(), usage };
        gpu.read_meters(clock);
        gpu.emit_meters(&mut Batch::default());
        Ok(gpu)
    }

    /// Reads the meters, unless that would wake the GPU. Returns whether one of them is gone.
    pub(crate) fn read_meters(&mut self, clock: &Clock) -> bool {
        let suspended = !self.meters.is_empty() && self.card.is_suspended();
        let mut gone = false;
        for meter in &mut self.meters {
            let reading = match (suspended, meter.quantity) {
                (false, _) => meter.file.read(),
                (true, Quantity::Power) => Ok(0),
                // The counter does not advance. It is read when the GPU wakes.
                (true, Quantity::Energy) => continue,
            };
            gone |= reading.as_ref().is_err_and(|fault| fault.gone);
            meter.reading = Some((clock.now(), reading));
        }
        gone
    }

    /// Writes what [`Gpu::read_meters`] has read.
    pub(crate) fn emit_meters(&mut self, out: &mut Batch) {
        for meter in &mut self.meters {
            match meter.reading.take() {
                Some((at, Ok(number))) => meter.channel.take(at, number, out),
                Some((at, Err(fault))) => meter.channel.miss(at, &fault.what, out),
                None => {}
            }
        }
    }

    /// Starts a reading of its clients.
    pub(crate) fn begin_clients(&mut self) {
        self.clients.begin();
    }

    /// Takes the client that a descriptor of `pid` shows.
    pub(crate) fn take_client(
        &mut self,
        pid: u32,
        found: &Fdinfo<'_>,
        cycles: &[Cycles<'_>],
        now: Timestamp,
    ) {
        let Some(used) = self.clients.take(found, cycles, now) else { return };
        self.usage.add_time(pid, used, now);
        if found.memory > 0 {
            self.usage.add_memory(pid, found.memory, now);
        }
    }

    /// Finishes the reading of its clients and writes it.
    pub(crate) fn emit_clients(&mut self, window: Window, resolver: &mut ProcessResolver, out: &mut Batch) {
        self.clients.end();
        self.usage.emit(Some(window), Some(window), window.end, resolver, out);
    }

    /// Ends its series.
    pub(crate) fn end(mut self, out: &mut Batch) {
        self.usage.end(out);
        self.meters.iter_mut().for_each(|meter| meter.channel.end(out));
    }
}

fn subject(card: &Card, sensor: &Sensor, resource: Resource) -> Subject {
    let whole = format!("gpu-{}", card.id);
    let name = sensor.part.as_ref().map_or_else(|| whole.clone(), |part| format!("{whole}-{part}"));
    let domain = Domain {
        name,
        origin: origin(sensor),
        follows: Follows::Device(resource.clone()),
        within: sensor.part.is_some().then_some(whole),
        idle_microwatts: None,
    };
    Subject { metric: metric::HW_ENERGY, resource, domain }
}

/// Where a sensor's numbers come from: the kernel's sysfs (measured), or any other directory (simulated).
pub(crate) fn origin(sensor: &Sensor) -> Origin {
    sysfs::origin(&sensor.path)
}

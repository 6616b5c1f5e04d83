//! One GPU, of one die or two: reads its meters and takes its clients, and writes their series. `source.rs`
//! decides when, and which descriptors lead to clients.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, Clock, Domain, Error, Follows, Origin, Registry, Resource, Timestamp, Window, metric,
};
use wattrace_gpu::{ProcessResolver, ProcessUsage};
use wattrace_meter::sysfs::{self, Fault, NumberFile};
use wattrace_meter::{Channel, Subject};

use crate::accumulator;
use crate::cards::Card;
use crate::clients::{Clients, Taken};
use crate::fdinfo::{Cycles, Fdinfo};
use crate::sensors::{self, Quantity, Sensor};

/// Readings of power that are further apart leave a gap. Longer than the longest interval.
const MAX_GAP: Duration = Duration::from_secs(30);

/// A GPU that is present.
pub(crate) struct Gpu {
    /// The first one is metered.
    pub(crate) dies: Vec<Die>,
    meters: Vec<Meter>,
    pub(crate) usage: ProcessUsage,
    /// What says that the driver does not measure for how long engines work; `None` once that is reported.
    unprofiled: Option<PathBuf>,
}

/// What the kernel shows as a GPU.
pub(crate) struct Die {
    pub(crate) card: Card,
    clients: Clients,
}

struct Meter {
    input: Input,
    channel: Channel,
    quantity: Quantity,
    /// The last reading, until it is written.
    reading: Option<(Timestamp, Result<i128, Fault>)>,
}

enum Input {
    Number(NumberFile),
    Accumulator { path: PathBuf, model: Option<u16> },
}

impl Input {
    fn of(sensor: &Sensor) -> Self {
        match sensor.quantity {
            Quantity::Accumulator(model) => Input::Accumulator { path: sensor.path.clone(), model },
            Quantity::Energy | Quantity::Power => Input::Number(NumberFile::new(sensor.path.clone())),
        }
    }

    fn read(&mut self) -> Result<i128, Fault> {
        match self {
            Input::Number(file) => file.read(),
            Input::Accumulator { path, model } => {
                let unknown = || Fault::bad(format!("{}: has no count of energy now", path.display()));
                accumulator::microjoules(&accumulator::read(path)?, *model).ok_or_else(unknown)
            }
        }
    }
}

/// The sensors that meter a GPU. A counter of the whole GPU is more exact than its power.
pub(crate) fn meters(card: &Card) -> Vec<Sensor> {
    let counts = card.sensors.iter().any(|sensor| sensor.quantity == Quantity::Energy);
    let may_read = card.driver == "amdgpu" && !counts && !card.integrated && !card.is_suspended();
    let accumulator = may_read.then(|| sensors::accumulator(&card.device, card.model)).flatten();
    accumulator.map_or_else(|| card.sensors.clone(), |sensor| vec![sensor])
}

impl Gpu {
    /// Takes the first readings, from which energy is counted. The first of `cards` is metered.
    ///
    /// # Errors
    /// Fatal, if another plugin has declared the metrics otherwise.
    pub(crate) fn open(cards: Vec<Card>, registry: &Arc<Registry>, clock: &Clock) -> Result<Self, Error> {
        let Some(card) = cards.first() else {
            return Err(Error::fatal("a GPU without a card"));
        };
        if cards.len() > 1 {
            let dies: Vec<&str> = cards.iter().map(|card| &*card.id).collect();
            tracing::info!(dies = dies.join(" "), "GPUs with one meter: they are reported as the first");
        }
        let resource = Resource::gpu(card.id.clone());
        let unprofiled = card.unprofiled();
        let mut meters = Vec::new();
        for sensor in self::meters(card) {
            let subject = subject(card, &sensor, resource.clone());
            let now = clock.now();
            let channel = match sensor.quantity {
                Quantity::Energy | Quantity::Accumulator(_) => Channel::of_energy(subject, now, registry)?,
                Quantity::Power => Channel::of_power(subject, MAX_GAP, now, registry)?,
            };
            let (input, quantity) = (Input::of(&sensor), sensor.quantity);
            meters.push(Meter { input, channel, quantity, reading: None });
        }
        // The kernel removes a process's descriptors when it ends, so nothing is reported late.
        let usage = ProcessUsage::new(registry.clone(), resource, Duration::ZERO)?;
        let dies = cards.into_iter().map(|card| Die { card, clients: Clients::default() }).collect();
        let mut gpu = Self { dies, meters, usage, unprofiled };
        gpu.read_meters(clock);
        gpu.emit_meters(&mut Batch::default());
        Ok(gpu)
    }

    /// Reads the meters, unless that would wake the GPU. Returns whether one of them is gone.
    pub(crate) fn read_meters(&mut self, clock: &Clock) -> bool {
        let suspended = !self.meters.is_empty() && self.dies.iter().any(|die| die.card.is_suspended());
        let mut gone = false;
        for meter in &mut self.meters {
            let reading = match (suspended, meter.quantity) {
                (false, _) => meter.input.read(),
                (true, Quantity::Power) => Ok(0),
                // The counter does not advance. It is read when the GPU wakes.
                (true, Quantity::Energy | Quantity::Accumulator(_)) => continue,
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
        self.dies.iter_mut().for_each(|die| die.clients.begin());
    }

    /// Takes the client that a descriptor of `pid` shows, if it is a client of this GPU.
    pub(crate) fn take_client(
        &mut self,
        pid: u32,
        found: &Fdinfo<'_>,
        cycles: &[Cycles<'_>],
        now: Timestamp,
    ) -> Option<Taken> {
        let die = self.dies.iter_mut().find(|die| die.card.is_of(found.address, found.driver))?;
        let taken = die.clients.take(pid, found, cycles, now);
        if let Taken::Used(nanos) = taken {
            self.usage.add_time(pid, nanos, now);
            let bytes = found.memory.bytes(die.card.integrated);
            if bytes > 0 {
                self.usage.add_memory(pid, bytes, now);
            }
            if bytes > 0
                && found.nanos == Some(0)
                && let Some(path) = self.unprofiled.take()
            {
                let (driver, path) = (found.driver, path.display());
                tracing::warn!(
                    "{driver} does not measure for whom its GPU works; `echo 1 | sudo tee {path}`"
                );
            }
        }
        Some(taken)
    }

    /// Finishes the reading of its clients and writes it.
    pub(crate) fn emit_clients(&mut self, window: Window, resolver: &mut ProcessResolver, out: &mut Batch) {
        self.dies.iter_mut().for_each(|die| die.clients.end());
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

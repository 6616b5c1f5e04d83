//! One GPU: its meters, its clients, and the series that they feed. Which descriptors lead to its clients is
//! for `source.rs`.

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{
    Batch, Clock, Domain, Error, Follows, Origin, Registry, Resource, Timestamp, Window, metric,
};
use wattrace_gpu::{Users, Who};
use wattrace_meter::sysfs::{self, Fault, NumberFile};
use wattrace_meter::{Channel, Subject};

use crate::cards::Card;
use crate::clients::Clients;
use crate::fdinfo::{Cycles, Fdinfo};
use crate::meters::{Meter, Reading};

/// Readings of power that are further apart have something unknown between them. Longer than the longest
/// interval.
const LONGEST: Duration = Duration::from_secs(30);

/// A GPU that is there.
pub(crate) struct Gpu {
    pub(crate) card: Card,
    metered: Vec<Metered>,
    clients: Clients,
    pub(crate) users: Users,
}

struct Metered {
    file: NumberFile,
    channel: Channel,
    reading: Reading,
    /// What was read and not told yet.
    read: Option<(Timestamp, Result<i128, Fault>)>,
}

impl Gpu {
    /// Takes the first readings, from which energy counts.
    ///
    /// # Errors
    /// Fatal, if another plugin has declared the metrics otherwise.
    pub(crate) fn open(card: Card, registry: &Arc<Registry>, clock: &Clock) -> Result<Self, Error> {
        let resource = Resource::gpu(card.id.clone());
        let mut metered = Vec::new();
        for meter in &card.meters {
            let subject = subject(&card, meter, resource.clone());
            let now = clock.now();
            let channel = match meter.reading {
                Reading::Energy => Channel::of_energy(subject, now, registry)?,
                Reading::Power => Channel::of_power(subject, LONGEST, now, registry)?,
            };
            let (file, reading) = (NumberFile::new(meter.path.clone()), meter.reading);
            metered.push(Metered { file, channel, reading, read: None });
        }
        // A process's descriptors, and with them all that is told of it, go when it ends: nothing comes late.
        let users = Users::new(registry.clone(), resource, Duration::ZERO)?;
        let mut gpu = Self { card, metered, clients: Clients::default(), users };
        gpu.read_meters(clock);
        gpu.tell_meters(&mut Batch::default());
        Ok(gpu)
    }

    /// Reads the meters, unless that would wake the GPU. Returns whether one of them is not there any more.
    pub(crate) fn read_meters(&mut self, clock: &Clock) -> bool {
        let sleeps = !self.metered.is_empty() && self.card.sleeps();
        let mut gone = false;
        for metered in &mut self.metered {
            let read = match (sleeps, metered.reading) {
                (false, _) => metered.file.read(),
                (true, Reading::Power) => Ok(0),
                // Its counter stands, and is read when it wakes.
                (true, Reading::Energy) => continue,
            };
            gone |= read.as_ref().is_err_and(|fault| fault.gone);
            metered.read = Some((clock.now(), read));
        }
        gone
    }

    /// Tells what [`Gpu::read_meters`] has read.
    pub(crate) fn tell_meters(&mut self, out: &mut Batch) {
        for metered in &mut self.metered {
            match metered.read.take() {
                Some((at, Ok(number))) => metered.channel.take(at, number, out),
                Some((at, Err(fault))) => metered.channel.miss(at, &fault.what, out),
                None => {}
            }
        }
    }

    /// Begins a look at its clients.
    pub(crate) fn begin_clients(&mut self) {
        self.clients.begin();
    }

    /// Takes in what a descriptor of `pid` told.
    pub(crate) fn take_client(
        &mut self,
        pid: u32,
        found: &Fdinfo<'_>,
        cycles: &[Cycles<'_>],
        now: Timestamp,
    ) {
        let Some(used) = self.clients.take(found, cycles, now) else { return };
        self.users.used(pid, used, now);
        if found.memory > 0 {
            self.users.holds(pid, found.memory, now);
        }
    }

    /// Ends the look, and tells what it saw.
    pub(crate) fn tell_clients(&mut self, window: Window, who: &mut Who, out: &mut Batch) {
        self.clients.end();
        self.users.emit(Some(window), Some(window), window.end, who, out);
    }

    /// Ends its series.
    pub(crate) fn end(mut self, out: &mut Batch) {
        self.users.end(out);
        self.metered.iter_mut().for_each(|metered| metered.channel.end(out));
    }
}

fn subject(card: &Card, meter: &Meter, resource: Resource) -> Subject {
    let whole = format!("gpu-{}", card.id);
    let name = meter.part.as_ref().map_or_else(|| whole.clone(), |part| format!("{whole}-{part}"));
    let domain = Domain {
        name,
        origin: origin(meter),
        follows: Follows::Device(resource.clone()),
        within: meter.part.is_some().then_some(whole),
        idle_microwatts: None,
    };
    Subject { metric: metric::HW_ENERGY, resource, domain }
}

/// Where a meter's numbers come from: the kernel's own sysfs, or a stand-in's files.
pub(crate) fn origin(meter: &Meter) -> Origin {
    sysfs::origin(&meter.path)
}

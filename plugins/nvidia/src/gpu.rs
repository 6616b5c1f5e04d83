//! One device: reads its energy, its memory by process and its engine time by process, and writes their
//! series. `source.rs` keeps the list of devices.

use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper::error::NvmlError;
use wattrace_api::{
    Attribute, Batch, Clock, Domain, Error, Follows, Origin, Registry, Resource, ResultExt, SeriesId,
    SeriesSpec, Timestamp, Value, Window, metric,
};
use wattrace_gpu::{ProcessResolver, ProcessUsage};
use wattrace_meter::{Anomalies, Anomaly, METER_ANOMALIES};

use crate::context::Context;
use crate::driver_time::DriverTime;
use crate::energy::{Meter, WindowEnergy};
use crate::instances::Instances;
use crate::memory;
use crate::session::{DeviceIndex, Session, ShownDevice, is_lost};
use crate::sleep::PciBus;
use crate::utilization::Utilization;

/// The driver's samples of a process come up to this long after its end.
const LATENESS: Duration = Duration::from_secs(2);

/// A device that is present.
pub(crate) struct Gpu {
    pub(crate) uuid: String,
    /// Its index in the current session.
    pub(crate) index: DeviceIndex,
    domain: String,
    anomalies: Anomalies,
    meter: Meter,
    energy: Option<SeriesId>,
    utilization: Utilization,
    pub(crate) usage: ProcessUsage,
    /// If it is partitioned.
    instances: Option<Instances>,
    context: Option<Context>,
    memory_read_at: Timestamp,
    warned: bool,
    /// Its address in sysfs, which says whether it sleeps.
    pub(crate) address: Option<String>,
    /// Until when it is left alone, so that it can fall asleep.
    resting_until: Timestamp,
}

/// How long nothing must have worked before a GPU that may sleep is left alone.
const QUIET: Duration = Duration::from_secs(10);
/// For how long it is left alone. The driver keeps samples of its use for longer.
const REST: Duration = Duration::from_secs(8);

/// The device is lost.
#[derive(Debug)]
pub(crate) struct Lost(pub(crate) NvmlError);

impl Gpu {
    /// Takes the first readings, from which its counters count. With `context`, its temperature, clocks and
    /// memory are read, too. `Ok(None)`: the device was lost meanwhile.
    ///
    /// # Errors
    /// Fatal, if another plugin has declared the metrics otherwise.
    pub(crate) fn open(
        session: &Session,
        shown: &ShownDevice<'_>,
        registry: &Arc<Registry>,
        clock: &Clock,
        context: bool,
    ) -> Result<Option<Self>, Error> {
        let &ShownDevice { index, uuid, name, address } = shown;
        let Some(device) = session.device(index) else { return Ok(None) };
        let Ok(meter) = Meter::open(&device, clock) else { return Ok(None) };
        let time = DriverTime::read(clock);
        let resource = Resource::gpu(uuid.strip_prefix("GPU-").unwrap_or(uuid).to_owned());
        let domain = format!("gpu-{}", resource.id);
        let energy = match meter {
            Meter::None => None,
            _ => Some(open_energy(registry, &resource, name, session.origin, time.now)?),
        };
        let anomalies =
            Anomalies::new(registry.clone(), &METER_ANOMALIES, resource.clone(), domain.clone(), time.now)?;
        let instances = memory::has_instances(&device).then(|| Instances::new(&device, time.now));
        tracing::info!(domain, name, meter = meter.describe(), mig = instances.is_some(), "NVIDIA GPU");
        let context = context.then(|| Context::new(registry, resource.clone(), time.now)).transpose()?;
        Ok(Some(Self {
            uuid: uuid.to_owned(),
            index,
            domain,
            anomalies,
            meter,
            energy,
            utilization: Utilization::new(&time),
            usage: ProcessUsage::new(registry.clone(), resource, LATENESS)?,
            instances,
            context,
            memory_read_at: time.now,
            warned: false,
            address: address.map(str::to_owned),
            resting_until: time.now,
        }))
    }

    /// Whether it sleeps now: then no call may be made about it.
    pub(crate) fn is_asleep(&self, bus: &PciBus) -> bool {
        self.address.as_ref().is_some_and(|address| bus.is_asleep(address))
    }

    /// Whether it is left alone now.
    pub(crate) fn rests(&self, now: Timestamp) -> bool {
        now < self.resting_until
    }

    /// Leaves it alone for a while if nothing works and it may fall asleep then.
    pub(crate) fn rest(&mut self, bus: &PciBus, now: Timestamp) {
        let quiet = self.utilization.worked_at().is_some_and(|at| now.since(at) >= QUIET);
        if quiet && self.address.as_ref().is_some_and(|address| bus.may_sleep(address)) {
            self.resting_until = now + REST;
        }
    }

    /// It sleeps: writes that it has used nothing since the last reading.
    pub(crate) fn sleep(&mut self, clock: &Clock, resolver: &mut ProcessResolver, out: &mut Batch) {
        let time = DriverTime::read(clock);
        let used = self.utilization.sleep(&time);
        self.usage.emit(used, None, time.now, resolver, out);
        let energy = self.meter.sleep(&time);
        self.emit_energy(energy, out);
        // Once it wakes it is read at once.
        self.resting_until = time.now;
    }

    /// Reads everything and writes what is new. Usage goes before energy, so that it is known when
    /// attribution splits the energy.
    pub(crate) fn poll(
        &mut self,
        session: &Session,
        clock: &Clock,
        resolver: &mut ProcessResolver,
        out: &mut Batch,
    ) -> Result<(), Lost> {
        let Some(device) = session.device(self.index) else { return Err(Lost(NvmlError::NotFound)) };
        let mut energies = Vec::new();
        let read = self.meter.read(&device, clock, |window, energy| energies.push((window, energy)));
        let is_read = self.unless_lost("energy", read)?.is_some();

        let time = DriverTime::read(clock);
        let held = memory::read(&device, self.instances.is_some(), time.now, &mut self.usage);
        let held = self.unless_lost("memory by process", held)?;
        let used = match (&mut self.instances, &held) {
            (Some(instances), Some(held)) if instances.are_supported() => {
                instances.read((session, &device), &held.instances, time.now, &mut self.usage)
            }
            _ => self.utilization.read(&device, &time, &mut self.usage),
        };
        let used = self.unless_lost("utilisation by process", used)?.flatten();
        let supported = held.is_some_and(|held| held.supported);
        let held =
            (supported && time.now > self.memory_read_at).then(|| Window::new(self.memory_read_at, time.now));
        if let Some(held) = held {
            self.memory_read_at = held.end;
        }
        self.usage.emit(used, held, time.now, resolver, out);
        self.emit_energy(energies, out);
        if let Some(context) = &mut self.context {
            context.poll(&device, time.now, out).map_err(Lost)?;
        }
        if !is_read && self.energy.is_some() {
            out.begin(Window::new(time.now, time.now));
            self.anomalies.count(Anomaly::BadReading, out);
        }
        Ok(())
    }

    fn emit_energy(&mut self, energies: impl IntoIterator<Item = (Window, WindowEnergy)>, out: &mut Batch) {
        let Some(series) = self.energy else { return };
        for (window, energy) in energies {
            out.begin(window);
            match energy {
                WindowEnergy::Known(microjoules) => out.push(series, Value::of_steps(microjoules)),
                WindowEnergy::Unknown(anomaly) => self.anomalies.count(anomaly, out),
            }
        }
    }

    /// Separates a lost device from a temporary error. A temporary error costs nothing: the next window is
    /// longer.
    fn unless_lost<T>(&mut self, what: &str, read: Result<T, NvmlError>) -> Result<Option<T>, Lost> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(e) if is_lost(&e) => Err(Lost(e)),
            Err(e) => {
                let domain = &self.domain;
                if std::mem::replace(&mut self.warned, true) {
                    tracing::debug!(domain, "{what}: {e}");
                } else {
                    tracing::warn!(domain, "{what}: {e}; further errors are logged at level debug");
                }
                Ok(None)
            }
        }
    }

    /// Gives back what `session` has given out, before the session ends.
    pub(crate) fn leave(&mut self, session: &Session) {
        self.instances.iter_mut().for_each(|instances| instances.free_samples(session));
    }

    /// Ends its series.
    pub(crate) fn end(mut self, out: &mut Batch) {
        self.anomalies.end(out);
        self.usage.end(out);
        self.context.iter_mut().for_each(|context| context.end(out));
        self.energy.into_iter().for_each(|series| out.end(series));
    }
}

/// The series of a GPU's energy.
pub(crate) fn open_energy(
    registry: &Registry,
    resource: &Resource,
    model: &str,
    origin: Origin,
    start: Timestamp,
) -> Result<SeriesId, Error> {
    let domain = Domain {
        name: format!("gpu-{}", resource.id),
        origin,
        follows: Follows::Device(resource.clone()),
        within: None,
        idle_microwatts: None,
    };
    Ok(registry.open(SeriesSpec {
        domain: Some(Arc::new(domain)),
        attributes: vec![Attribute::new("hw.vendor", "NVIDIA"), Attribute::new("hw.model", model)],
        ..SeriesSpec::new(registry.metric(&metric::HW_ENERGY).or_fatal()?, resource.clone(), start)
    }))
}

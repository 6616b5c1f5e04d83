//! One device: reads its energy, who holds its memory and whom it worked for, and feeds their series. Which
//! devices there are is for `source.rs`.

use std::sync::Arc;
use std::time::Duration;

use nvml_wrapper::error::NvmlError;
use wattrace_api::{
    Attribute, Batch, Clock, Domain, Error, Follows, Origin, Registry, Resource, ResultExt, SeriesId,
    SeriesSpec, Timestamp, Value, Window, metric,
};
use wattrace_gpu::{Users, Who};
use wattrace_meter::{Anomalies, Anomaly, METER_ANOMALIES};

use crate::driver_time::DriverTime;
use crate::energy::{Meter, Told};
use crate::holders;
use crate::session::{Place, Session, is_lost};
use crate::usage::Usage;

/// The driver's samples of a process come up to so much later than its end.
const LATENESS: Duration = Duration::from_secs(2);

/// A device that is there.
pub(crate) struct Gpu {
    pub(crate) uuid: String,
    /// Where the present session has it.
    pub(crate) place: Place,
    domain: String,
    anomalies: Anomalies,
    meter: Meter,
    energy: Option<SeriesId>,
    usage: Usage,
    pub(crate) users: Users,
    has_instances: bool,
    held_at: Timestamp,
    warned: bool,
}

/// The device is not there any more.
#[derive(Debug)]
pub(crate) struct Lost(pub(crate) NvmlError);

/// What its series are about: the driver's UUID without the word in front of it.
fn id_of(uuid: &str) -> &str {
    uuid.strip_prefix("GPU-").unwrap_or(uuid)
}

impl Gpu {
    /// Takes the first readings of a device, from which its counters count. `Ok(None)`: it was lost
    /// meanwhile.
    ///
    /// # Errors
    /// Fatal, if another plugin has declared the metrics otherwise.
    pub(crate) fn open(
        session: &Session,
        (place, uuid, name): (Place, &str, &str),
        registry: &Arc<Registry>,
        clock: &Clock,
    ) -> Result<Option<Self>, Error> {
        let Some(device) = session.device(place) else { return Ok(None) };
        let Ok(meter) = Meter::open(&device, clock) else { return Ok(None) };
        let time = DriverTime::read(clock);
        let resource = Resource::gpu(id_of(uuid).to_owned());
        let domain = format!("gpu-{}", resource.id);
        let energy = match meter {
            Meter::Nothing => None,
            _ => Some(open_energy(registry, &domain, resource.clone(), name, session.origin, time.now)?),
        };
        let anomalies =
            Anomalies::new(registry.clone(), &METER_ANOMALIES, resource.clone(), domain.clone(), time.now)?;
        let has_instances = holders::has_instances(&device);
        tracing::info!(domain, name, meter = meter.describe(), has_instances, "NVIDIA GPU");
        Ok(Some(Self {
            uuid: uuid.to_owned(),
            place,
            domain,
            anomalies,
            meter,
            energy,
            usage: Usage::new(&time),
            users: Users::new(registry.clone(), resource, LATENESS)?,
            has_instances,
            held_at: time.now,
            warned: false,
        }))
    }

    /// Reads everything, and tells what is new: what was used before what that cost, so that the one is known
    /// when the other is split.
    pub(crate) fn poll(
        &mut self,
        session: &Session,
        clock: &Clock,
        who: &mut Who,
        out: &mut Batch,
    ) -> Result<(), Lost> {
        let Some(device) = session.device(self.place) else { return Err(Lost(NvmlError::NotFound)) };
        let mut costs = Vec::new();
        let read = self.meter.read(&device, clock, |window, told| costs.push((window, told)));
        let metered = self.passing("energy", read)?.is_some();

        let time = DriverTime::read(clock);
        let asked = holders::read(&device, self.has_instances, time.now, &mut self.users);
        let asked = self.passing("memory by process", asked)?.unwrap_or(false);
        let used = self.usage.read(&device, &time, &mut self.users);
        let used = self.passing("utilisation by process", used)?.flatten();
        let held = (asked && time.now > self.held_at).then(|| Window::new(self.held_at, time.now));
        if let Some(held) = held {
            self.held_at = held.end;
        }
        self.users.emit(used, held, time.now, who, out);
        let Some(energy) = self.energy else { return Ok(()) };
        for (window, told) in costs {
            out.begin(window);
            match told {
                Told::Energy(microjoules) => out.push(energy, Value::of_steps(microjoules)),
                Told::Unknown(anomaly) => self.anomalies.count(anomaly, out),
            }
        }
        if !metered {
            out.begin(Window::new(time.now, time.now));
            self.anomalies.count(Anomaly::BadReading, out);
        }
        Ok(())
    }

    /// Tells a device that is lost from one in a passing trouble, which costs nothing: the next window is
    /// longer.
    fn passing<T>(&mut self, what: &str, read: Result<T, NvmlError>) -> Result<Option<T>, Lost> {
        match read {
            Ok(read) => Ok(Some(read)),
            Err(e) if is_lost(&e) => Err(Lost(e)),
            Err(e) => {
                let domain = &self.domain;
                if std::mem::replace(&mut self.warned, true) {
                    tracing::debug!(domain, "{what}: {e}");
                } else {
                    tracing::warn!(domain, "{what}: {e}; further troubles are logged as debug");
                }
                Ok(None)
            }
        }
    }

    /// Ends its series.
    pub(crate) fn end(mut self, out: &mut Batch) {
        self.anomalies.end(out);
        self.users.end(out);
        self.energy.into_iter().for_each(|series| out.end(series));
    }
}

fn open_energy(
    registry: &Registry,
    domain: &str,
    resource: Resource,
    name: &str,
    origin: Origin,
    start: Timestamp,
) -> Result<SeriesId, Error> {
    Ok(registry.open(SeriesSpec {
        metric: registry.metric(&metric::HW_ENERGY).or_fatal()?,
        domain: Some(Arc::new(Domain {
            name: domain.to_owned(),
            origin,
            follows: Follows::Device(resource.clone()),
            within: None,
            idle_microwatts: None,
        })),
        resource,
        consumer: None,
        attributes: vec![Attribute::new("hw.vendor", "NVIDIA"), Attribute::new("hw.model", name)],
        start,
    }))
}

//! What comes out of the pipeline during a calibration: each domain's energy and each package's CPU time by
//! window, and the means of a step.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattrace_api::{
    Batch, ConsumerKind, Domain, Error, Follows, Origin, Output, Registry, ResourceKind, SeriesMap, Window,
    metric,
};

use super::plan::Step;

/// All that was read.
#[derive(Debug, Default)]
pub(super) struct Readings {
    meters: Vec<Meter>,
    usage: Vec<Usage>,
}

/// A domain's energy.
#[derive(Debug)]
struct Meter {
    domain: Arc<Domain>,
    is_package: bool,
    /// With microjoules.
    windows: Vec<(Window, u64)>,
}

/// What a package's CPUs did in a window, in nanoseconds and cycles.
#[derive(Clone, Copy, Debug)]
struct Usage {
    window: Window,
    package: u32,
    idle: u64,
    ours: u64,
    others: u64,
    shared: u64,
    cycles: u64,
}

/// A domain's step.
#[derive(Clone, Debug)]
pub(super) struct StepMeans {
    pub(super) step: Step,
    pub(super) domain: String,
    /// It is a package's own domain.
    pub(super) is_package: bool,
    pub(super) watts: f64,
    /// Of all CPU time of the CPUs that the domain follows: busy, of others, on shared cores.
    pub(super) busy: f64,
    pub(super) others: f64,
    pub(super) shared: f64,
    /// `None`: cycles are not counted.
    pub(super) mhz: Option<f64>,
}

pub(super) fn lock(readings: &Mutex<Readings>) -> MutexGuard<'_, Readings> {
    readings.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Readings {
    /// What is missing for a calibration.
    pub(super) fn lacking(&self) -> Option<&'static str> {
        if self.usage.is_empty() {
            return Some("CPU time, which the plugin sched counts, as root");
        }
        let has_meter = self.meters.iter().any(|meter| meter.is_package);
        (!has_meter).then_some("a meter of the CPU packages, such as RAPL: do it on a machine that has one")
    }

    pub(super) fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.meters.iter().map(|meter| &*meter.domain)
    }

    /// The means of every domain over the windows that lie within `span`.
    pub(super) fn means(&self, step: Step, span: Window) -> Vec<StepMeans> {
        let within = |window: &Window| window.start >= span.start && window.end <= span.end;
        let mut all = Vec::new();
        for meter in &self.meters {
            let read = || meter.windows.iter().filter(|(window, _)| within(window));
            let nanos: u64 = read().map(|(window, _)| window.nanos()).sum();
            let mut did =
                Usage { window: span, package: 0, idle: 0, ours: 0, others: 0, shared: 0, cycles: 0 };
            for usage in self.usage.iter().filter(|u| within(&u.window) && follows(&meter.domain, u.package))
            {
                did.idle += usage.idle;
                did.ours += usage.ours;
                did.others += usage.others;
                did.shared += usage.shared;
                did.cycles += usage.cycles;
            }
            let (busy, total) = (did.ours + did.others, did.idle + did.ours + did.others);
            // A machine so busy that nothing was read in a whole step has other steps.
            if nanos == 0 || total == 0 {
                continue;
            }
            let part = |ns: u64| ns as f64 / total as f64;
            all.push(StepMeans {
                step,
                domain: meter.domain.name.clone(),
                is_package: meter.is_package,
                watts: read().map(|(_, microjoules)| microjoules).sum::<u64>() as f64 * 1e3 / nanos as f64,
                busy: part(busy),
                others: part(did.others),
                shared: part(did.shared),
                mhz: (did.cycles > 0 && busy > 0).then(|| did.cycles as f64 * 1e3 / busy as f64),
            });
        }
        all
    }

    fn usage_of(&mut self, window: Window, package: u32) -> &mut Usage {
        let recent = self.usage.iter().rposition(|u| u.window == window && u.package == package);
        let at = recent.unwrap_or(self.usage.len());
        if recent.is_none() {
            self.usage.push(Usage { window, package, idle: 0, ours: 0, others: 0, shared: 0, cycles: 0 });
        }
        &mut self.usage[at]
    }
}

fn follows(domain: &Domain, package: u32) -> bool {
    match domain.follows {
        Follows::Package(of) => of == package,
        _ => true,
    }
}

/// What a series is to a calibration.
#[derive(Clone, Copy)]
enum Role {
    Meter(usize),
    Idle(u32),
    Ours(u32),
    Others(u32),
    Shared(u32),
    Cycles(u32),
    Nothing,
}

/// The output that fills the [`Readings`].
pub(super) struct ReadingsOutput {
    readings: Arc<Mutex<Readings>>,
    registry: Arc<Registry>,
    /// With the last value, once there is one that the next can be compared with.
    roles: SeriesMap<(Role, Option<u64>)>,
}

impl ReadingsOutput {
    pub(super) fn new(readings: Arc<Mutex<Readings>>, registry: Arc<Registry>) -> Self {
        Self { readings, registry, roles: SeriesMap::default() }
    }
}

impl Output for ReadingsOutput {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let mut readings = lock(&self.readings);
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.roles.get(id).is_none() {
                    let series = self.registry.get(id);
                    // A series that began in this window has all of its value from it; of another the past is
                    // not known.
                    let last = series.as_ref().and_then(|s| (s.start >= segment.window.start).then_some(0));
                    let role = series.map_or(Role::Nothing, |s| role_of(&s, &mut readings));
                    self.roles.insert(id, (role, last));
                }
                let Some((role, last)) = self.roles.get_mut(id) else { continue };
                let before = last.replace(value.steps());
                let delta = before.map_or(0, |before| value.steps().saturating_sub(before));
                let window = segment.window;
                match *role {
                    Role::Meter(meter) if before.is_some() => {
                        readings.meters[meter].windows.push((window, delta))
                    }
                    Role::Idle(package) => readings.usage_of(window, package).idle += delta,
                    Role::Ours(package) => readings.usage_of(window, package).ours += delta,
                    Role::Others(package) => readings.usage_of(window, package).others += delta,
                    Role::Shared(package) => readings.usage_of(window, package).shared += delta,
                    Role::Cycles(package) => readings.usage_of(window, package).cycles += delta,
                    Role::Meter(_) | Role::Nothing => {}
                }
            }
        }
        for &id in batch.ended() {
            self.roles.remove(id);
        }
        Ok(())
    }
}

fn role_of(series: &wattrace_api::Series, readings: &mut Readings) -> Role {
    let name = &series.metric.name;
    let Some(consumer) = &series.consumer else {
        let energy = *name == metric::HW_ENERGY.name || *name == metric::HW_HOST_ENERGY.name;
        // What follows a device is not moved by loading CPUs; an estimate is what a profile is for.
        let domain = series.domain.as_ref().filter(|domain| {
            energy && domain.origin != Origin::Estimated && !matches!(domain.follows, Follows::Device(_))
        });
        let Some(domain) = domain else { return Role::Nothing };
        // A meter that came back is the same meter.
        let known = readings.meters.iter().position(|meter| meter.domain.name == domain.name);
        return Role::Meter(known.unwrap_or_else(|| {
            let is_package = series.resource.kind == ResourceKind::Package;
            readings.meters.push(Meter { domain: domain.clone(), is_package, windows: Vec::new() });
            readings.meters.len() - 1
        }));
    };
    let Some(package) =
        series.resource.id.parse().ok().filter(|_| series.resource.kind == ResourceKind::Package)
    else {
        return Role::Nothing;
    };
    let identity = consumer.identity();
    let is_ours = identity.kind == ConsumerKind::Process && identity.id.parse() == Ok(std::process::id());
    let top_level =
        [ConsumerKind::Process, ConsumerKind::Irq, ConsumerKind::Other, ConsumerKind::Unattributed];
    match identity.kind {
        ConsumerKind::Idle if *name == metric::CONSUMER_CPU_TIME.name => Role::Idle(package),
        kind if !top_level.contains(&kind) => Role::Nothing,
        _ if *name == metric::CONSUMER_SHARED_TIME.name => Role::Shared(package),
        _ if *name == metric::CONSUMER_COUNTS[0].name => Role::Cycles(package),
        _ if *name != metric::CONSUMER_CPU_TIME.name => Role::Nothing,
        _ if is_ours => Role::Ours(package),
        _ => Role::Others(package),
    }
}

#[cfg(test)]
mod tests;

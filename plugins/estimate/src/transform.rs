//! The pipeline element: sums each package's CPU time per window and adds the energy that such a load takes.
//!
//! Energy over a window of length Δt in which a package's CPUs were busy for `busy` of `total`:
//! idle·Δt + (full − idle)·Δt·busy/total. It is summed in femtojoules (a microwatt over a nanosecond), in integers, so the first
//! term is exact, the second is rounded down by less than one per window, and a million windows are off by
//! less than a nanojoule. The counter shows the sum's whole microjoules; the rest is carried.

use std::sync::Arc;

use wattrace_api::{
    Batch, ConsumerKind, Domain, Error, Follows, Heard, MetricId, Origin, Registry, Resource, ResourceKind,
    ResultExt, Series, SeriesId, SeriesMap, SeriesSpec, Subscription, Timestamp, Transform, Value, Window,
    metric,
};

use wattrace_api::events::ResourceAppeared;

use crate::config::{EstimateConfig, When};
use crate::power::Power;

/// The element; it does nothing where there is a meter.
pub(crate) struct Transformer {
    estimator: Option<Estimator>,
    /// Tells of meters that appear later, if the estimate is to yield to them.
    appeared: Option<Subscription<ResourceAppeared>>,
}

impl Transformer {
    /// Looks for meters and for the CPU's power. Sources are open by now, so their domains are in the registry.
    pub(crate) fn open(config: &EstimateConfig, registry: Arc<Registry>) -> Result<Self, Error> {
        let yields = config.when == When::NoMeter;
        // Before it looks, so that none appears in between.
        let appeared = yields.then(|| registry.events().subscribe());
        if yields && registry.domains().iter().any(|domain| meters_a_package(domain)) {
            tracing::debug!("packages are metered: nothing is estimated");
            return Ok(Self { estimator: None, appeared: None });
        }
        let power = Power::find(config);
        let watts = |microwatts: u64| microwatts as f64 / 1e6;
        tracing::info!(
            idle_watts = watts(power.idle),
            full_watts = watts(power.full),
            "package energy is estimated from CPU utilisation, by {}; \
             correct it with plugins.estimate.idle_watts and full_watts",
            power.why
        );
        Ok(Self { estimator: Some(Estimator::new(power, registry)?), appeared })
    }

    /// Whether a meter has appeared that makes the estimate needless.
    fn is_needless(&mut self) -> bool {
        let Some(appeared) = &mut self.appeared else { return false };
        std::iter::from_fn(|| appeared.try_next()).any(|heard| match heard {
            Heard::Event(event) => meters_a_package(&event.domain),
            // More than a thousand at once is no machine's hardware.
            Heard::Missed(_) => false,
        })
    }
}

fn meters_a_package(domain: &Domain) -> bool {
    domain.name.starts_with("package-") && domain.origin != Origin::Estimated
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        if self.is_needless()
            && let Some(estimator) = self.estimator.take()
        {
            tracing::info!("packages are metered from now on: nothing is estimated any more");
            estimator.packages.iter().for_each(|package| batch.end(package.series));
        }
        if let Some(estimator) = &mut self.estimator {
            estimator.sum(batch);
            estimator.push(batch);
        }
        Ok(())
    }
}

struct Estimator {
    power: Power,
    registry: Arc<Registry>,
    cpu_time: MetricId,
    energy: MetricId,
    /// Per series whether, and how, it counts; looked up once.
    series: SeriesMap<Option<CpuTime>>,
    packages: Vec<Package>,
    /// Scratch: the load of each window and package in the batch at hand.
    loads: Vec<Load>,
}

/// A series of CPU time.
#[derive(Clone, Copy)]
struct CpuTime {
    /// Index into `packages`.
    package: usize,
    is_idle: bool,
    last: u64,
}

struct Package {
    number: u32,
    series: SeriesId,
    femtojoules: u128,
}

#[derive(Clone, Copy)]
struct Load {
    window: Window,
    package: usize,
    busy: u64,
    total: u64,
}

impl Estimator {
    fn new(power: Power, registry: Arc<Registry>) -> Result<Self, Error> {
        let cpu_time = registry.metric(&metric::CONSUMER_CPU_TIME).or_fatal()?;
        let energy = registry.metric(&metric::HW_ENERGY).or_fatal()?;
        let mut estimator = Self {
            power,
            registry,
            cpu_time,
            energy,
            series: SeriesMap::default(),
            packages: Vec::new(),
            loads: Vec::new(),
        };
        // The packages that are known by now get their domains, so that later transforms find them.
        for (_, series) in estimator.registry.series() {
            estimator.describe(&series, series.start);
        }
        Ok(estimator)
    }

    /// Reads the batch's CPU time into `loads`.
    fn sum(&mut self, batch: &Batch) {
        self.loads.clear();
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.series.get(id).is_none() {
                    let found = self.registry.get(id).and_then(|s| self.describe(&s, segment.window.start));
                    self.series.insert(id, found);
                }
                let Some(Some(time)) = self.series.get_mut(id) else { continue };
                let delta = value.steps().saturating_sub(time.last);
                time.last = value.steps();
                let load = load_of(&mut self.loads, segment.window, time.package);
                load.total += delta;
                load.busy += if time.is_idle { 0 } else { delta };
            }
        }
        for &id in batch.ended() {
            self.series.remove(id);
        }
    }

    /// Adds the energy of `loads`, in a segment per window.
    fn push(&mut self, batch: &mut Batch) {
        let mut open = None;
        for load in &self.loads {
            if load.window.nanos() == 0 {
                continue;
            }
            if open != Some(load.window) {
                batch.begin(load.window);
                open = Some(load.window);
            }
            let package = &mut self.packages[load.package];
            package.femtojoules += femtojoules(&self.power, load);
            let microjoules = package.femtojoules / 1_000_000_000;
            batch.push(package.series, Value::of_steps(u64::try_from(microjoules).unwrap_or(u64::MAX)));
        }
    }

    /// What `series` counts as; `None`: it isn't a package's CPU time. Opens the package's domain if it is new, counting
    /// from `start`.
    fn describe(&mut self, series: &Series, start: Timestamp) -> Option<CpuTime> {
        if series.metric_id != self.cpu_time || series.resource.kind != ResourceKind::Package {
            return None;
        }
        let number: u32 = series.resource.id.parse().ok()?;
        let is_idle = match series.consumer.as_ref()?.kind() {
            ConsumerKind::Idle => true,
            ConsumerKind::Process | ConsumerKind::Irq | ConsumerKind::Other | ConsumerKind::Unattributed => {
                false
            }
            // Parts and groups of processes, whose time is theirs already.
            _ => return None,
        };
        let package = match self.packages.iter().position(|package| package.number == number) {
            Some(package) => package,
            None => {
                let series = self.open(number, start);
                self.packages.push(Package { number, series, femtojoules: 0 });
                self.packages.len() - 1
            }
        };
        Some(CpuTime { package, is_idle, last: 0 })
    }

    fn open(&self, number: u32, start: Timestamp) -> SeriesId {
        let name = format!("package-{number}");
        // Beside a meter the estimate goes by another name, and its joules are those that the meter counts already.
        let metered = self.registry.domains().iter().any(|domain| domain.name == name);
        let (name, within) = if metered { (format!("{name}-estimate"), Some(name)) } else { (name, None) };
        let domain = Domain {
            name,
            origin: Origin::Estimated,
            follows: Follows::Package(number),
            within,
            idle_microwatts: Some(self.power.idle),
        };
        self.registry.open(SeriesSpec {
            metric: self.energy,
            resource: Resource::package(number),
            domain: Some(Arc::new(domain)),
            consumer: None,
            attributes: Vec::new(),
            start,
        })
    }
}

/// The entry of `window` and `package`. There are few, and the one in use is the last but for the number of packages.
fn load_of(loads: &mut Vec<Load>, window: Window, package: usize) -> &mut Load {
    let known = loads.iter().rposition(|load| load.package == package && load.window == window);
    let at = known.unwrap_or(loads.len());
    if known.is_none() {
        loads.push(Load { window, package, busy: 0, total: 0 });
    }
    &mut loads[at]
}

/// The energy of one window. Without any CPU time (all CPUs offline) it is idle.
fn femtojoules(power: &Power, load: &Load) -> u128 {
    let nanos = u128::from(load.window.nanos());
    let most = u128::from(power.full - power.idle) * nanos;
    let (busy, total) = (u128::from(load.busy), u128::from(load.total.max(1)));
    // most · busy / total, in an order that can't overflow.
    u128::from(power.idle) * nanos + most / total * busy + most % total * busy / total
}

#[cfg(test)]
mod tests;

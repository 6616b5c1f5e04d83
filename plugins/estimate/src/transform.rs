//! The pipeline element: sums each package's CPU time per window and adds the energy of such a load.
//!
//! The energy of a window of length Δt is idle·Δt + dynamic·Δt, where the power above idle depends on the
//! load, and on the frequency if cycles are counted ([`Power::dynamic_watts`]). It is summed as an integer of
//! femtojoules (a microwatt for a nanosecond): the first term is exact, the second has the 16 digits of a
//! floating-point number. The counter shows whole microjoules; the remainder is kept.

use std::path::Path;
use std::sync::Arc;

use wattrace_api::{
    Batch, Clock, ConsumerKind, Domain, Error, Follows, Increments, MetricId, Origin, Registry, Resource,
    ResourceKind, ResultExt, Role, Series, SeriesId, SeriesMap, SeriesSpec, Timestamp, Transform, Usage,
    Value, Window, metric,
};

use crate::config::{EstimateConfig, When};
use crate::meters::Meters;
use crate::power::{Load, Power};
use crate::profile::Profile;

/// The element. It does nothing while a meter exists.
pub(crate) struct Transformer {
    config: EstimateConfig,
    registry: Arc<Registry>,
    clock: Clock,
    estimator: Option<Estimator>,
    /// The meters that replace the estimate; `None`: it runs beside them.
    meters: Option<Meters>,
}

impl Transformer {
    /// Looks for meters, and determines the CPU's power model. Sources open before transforms, so their
    /// domains are in the registry. What was counted before is left out.
    ///
    /// # Errors
    /// Those of [`Power::find`].
    pub(crate) fn open(
        config: &EstimateConfig,
        registry: Arc<Registry>,
        clock: Clock,
    ) -> Result<Self, Error> {
        // Also where a meter makes it unnecessary: a profile that was asked for and is not there is a
        // mistake, not a state of the machine.
        if !config.profile.is_empty() {
            Profile::read(Path::new(&config.profile))?;
        }
        let meters = (config.when == When::NoMeter).then(|| Meters::new(registry.clone()));
        let config = config.clone();
        let mut transformer = Self { config, registry, clock, estimator: None, meters };
        if transformer.meters.as_ref().is_some_and(Meters::any) {
            tracing::debug!("packages are metered: nothing is estimated");
        } else {
            transformer.estimate()?;
        }
        Ok(transformer)
    }

    /// Begins to estimate.
    fn estimate(&mut self) -> Result<(), Error> {
        let power = Power::find(&self.config)?;
        let watts = |microwatts: u64| microwatts as f64 / 1e6;
        tracing::info!(
            idle_watts = watts(power.idle_microwatts()),
            full_watts = watts(power.full_microwatts()),
            frequency_aware = power.knows_frequency(),
            "package energy is estimated from CPU utilisation, by {}; \
             correct it with plugins.estimate.idle_watts and full_watts, \
             or with a profile (wattrace calibrate)",
            power.origin
        );
        let (registry, since) = (self.registry.clone(), self.clock.now());
        self.estimator = Some(Estimator::new(power, registry, since, self.meters.is_none())?);
        Ok(())
    }

    /// Yields to a meter that has appeared, and begins again when the last one has ended, with the next
    /// batch: this one's usage is of the time before. Returns whether this batch is estimated.
    fn follow_meters(&mut self, batch: &mut Batch) -> Result<bool, Error> {
        let Some(meters) = &mut self.meters else { return Ok(true) };
        meters.update(batch);
        match (meters.any(), self.estimator.take()) {
            (true, Some(estimator)) => {
                tracing::info!("packages are metered from now on: nothing is estimated any more");
                estimator.packages.iter().for_each(|package| batch.end(package.series));
            }
            (false, None) => {
                tracing::info!("no meter of packages is left");
                self.estimate()?;
                return Ok(false);
            }
            (_, estimator) => self.estimator = estimator,
        }
        Ok(true)
    }
}

impl Transform for Transformer {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        if self.follow_meters(batch)?
            && let Some(estimator) = &mut self.estimator
        {
            estimator.sum(batch);
            estimator.push(batch);
        }
        Ok(())
    }
}

struct Estimator {
    power: Power,
    registry: Arc<Registry>,
    /// When it began to estimate.
    since: Timestamp,
    /// Whether meters may exist beside it.
    beside_meters: bool,
    energy: MetricId,
    /// Per series, looked up once; `None`: not a package's usage.
    series: SeriesMap<Option<PackageUsage>>,
    packages: Vec<Package>,
    /// The load of each window and package in the current batch; empty between calls.
    loads: Vec<WindowLoad>,
}

/// A series of usage of a package.
#[derive(Clone, Copy)]
struct PackageUsage {
    /// Index into `packages`.
    package: usize,
    usage: Usage,
    is_idle: bool,
    increments: Increments,
}

struct Package {
    number: u32,
    series: SeriesId,
    femtojoules: u128,
}

#[derive(Clone, Copy)]
struct WindowLoad {
    window: Window,
    package: usize,
    load: Load,
    /// Whether the idle time of the window is not known, because its counter began before the estimator.
    is_partial: bool,
}

impl Estimator {
    fn new(
        power: Power,
        registry: Arc<Registry>,
        since: Timestamp,
        beside_meters: bool,
    ) -> Result<Self, Error> {
        let energy = registry.metric(&metric::HW_ENERGY).or_fatal()?;
        let mut estimator = Self {
            power,
            registry,
            since,
            beside_meters,
            energy,
            series: SeriesMap::default(),
            packages: Vec::new(),
            loads: Vec::new(),
        };
        // Opens the domains of the known packages, so that later transforms find them.
        for (_, series) in estimator.registry.series() {
            estimator.describe(&series, series.start.max(since));
        }
        Ok(estimator)
    }

    /// Sums the batch's usage into `loads`.
    fn sum(&mut self, batch: &Batch) {
        self.loads.clear();
        let no_load = Load { shared: self.power.shares_cores.then_some(0), ..Load::default() };
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                let mut is_partial = false;
                if self.series.get(id).is_none() {
                    let series = self.registry.get(id);
                    let usage = series.as_ref().and_then(|s| self.describe(s, segment.window.start));
                    is_partial = usage.is_some_and(|usage| usage.is_idle)
                        && series.is_some_and(|s| s.start < self.since.min(segment.window.start));
                    self.series.insert(id, usage);
                }
                let Some(Some(series)) = self.series.get_mut(id) else { continue };
                let increment = series.increments.next(segment.window, value);
                let entry = entry_of(&mut self.loads, segment.window, series.package, no_load);
                entry.is_partial |= is_partial;
                let load = &mut entry.load;
                match series.usage {
                    Usage::CpuTime => {
                        load.total += increment;
                        load.busy += if series.is_idle { 0 } else { increment };
                    }
                    Usage::SharedTime => load.shared = load.shared.map(|shared| shared + increment),
                    Usage::Cycles => load.cycles += increment,
                    _ => {}
                }
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
            // Without its idle time the load of a window is not known: only idle power is counted.
            let known = if load.is_partial { Load::default() } else { load.load };
            package.femtojoules += femtojoules(&self.power, load.window, &known);
            let microjoules = package.femtojoules / 1_000_000_000;
            batch.push(package.series, Value::of_steps(u64::try_from(microjoules).unwrap_or(u64::MAX)));
        }
    }

    /// The usage that `series` counts; `None`: not a package's. Opens the package's domain if it is new, with
    /// `start` as the start of its counter.
    fn describe(&mut self, series: &Series, start: Timestamp) -> Option<PackageUsage> {
        let Role::Usage(usage @ (Usage::CpuTime | Usage::SharedTime | Usage::Cycles)) = series.role else {
            return None;
        };
        if series.resource.kind != ResourceKind::Package {
            return None;
        }
        let number: u32 = series.resource.id.parse().ok()?;
        let is_idle = match series.consumer.as_ref()?.kind() {
            ConsumerKind::Idle if usage == Usage::CpuTime => true,
            ConsumerKind::Process | ConsumerKind::Irq | ConsumerKind::Other | ConsumerKind::Unattributed => {
                false
            }
            // Parts and groups of processes: their time is in the processes' already.
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
        Some(PackageUsage { package, usage, is_idle, increments: Increments::new(series, self.since) })
    }

    fn open(&self, number: u32, start: Timestamp) -> SeriesId {
        let name = format!("package-{number}");
        // Beside a meter the estimate has another name, and its energy lies within that of the meter.
        let metered = self.beside_meters && self.registry.domains().iter().any(|domain| domain.name == name);
        let (name, within) = if metered { (format!("{name}-estimate"), Some(name)) } else { (name, None) };
        let domain = Domain {
            name,
            origin: Origin::Estimated,
            follows: Follows::Package(number),
            within,
            idle_microwatts: Some(self.power.idle_microwatts()),
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

/// The entry of `window` and `package`, added with `no_load` if it is missing. There are few, and the current
/// one is among the last.
fn entry_of(loads: &mut Vec<WindowLoad>, window: Window, package: usize, no_load: Load) -> &mut WindowLoad {
    let known = loads.iter().rposition(|load| load.package == package && load.window == window);
    let at = known.unwrap_or(loads.len());
    if known.is_none() {
        loads.push(WindowLoad { window, package, load: no_load, is_partial: false });
    }
    &mut loads[at]
}

/// The energy of one window.
fn femtojoules(power: &Power, window: Window, load: &Load) -> u128 {
    let dynamic = power.dynamic_watts(load) * 1e6 * window.nanos() as f64;
    u128::from(power.idle_microwatts()) * u128::from(window.nanos()) + dynamic as u128
}

#[cfg(test)]
mod tests;

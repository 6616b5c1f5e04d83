//! The pipeline element: sums each package's CPU time per window and adds the energy that such a load takes.
//!
//! Energy over a window of length Δt: idle·Δt + dynamic·Δt, where the power above idle follows the load, and
//! the frequency where cycles are counted ([`Power::dynamic_watts`]). It is summed in femtojoules (a
//! microwatt over a nanosecond), in integers: the first term is exact, the second is as exact as a
//! floating-point number, 16 digits. The counter shows the sum's whole microjoules; the rest is carried.

use std::sync::Arc;

use wattrace_api::{
    Batch, ConsumerKind, Domain, Error, Follows, Received, Metric, MetricId, Origin, Registry, Resource,
    ResourceKind, ResultExt, Series, SeriesId, SeriesMap, SeriesSpec, Subscription, Timestamp, Transform,
    Value, Window, metric,
};

use wattrace_api::events::ResourceAppeared;

use crate::config::{EstimateConfig, When};
use crate::power::{Load, Power};

/// The element; it does nothing where there is a meter.
pub(crate) struct Transformer {
    estimator: Option<Estimator>,
    /// Tells of meters that appear later, if the estimate is to yield to them.
    appeared: Option<Subscription<ResourceAppeared>>,
}

impl Transformer {
    /// Looks for meters and for the CPU's power. Sources are open by now, so their domains are in the
    /// registry.
    pub(crate) fn open(config: &EstimateConfig, registry: Arc<Registry>) -> Result<Self, Error> {
        let yields = config.when == When::NoMeter;
        // Before it looks, so that none appears in between.
        let appeared = yields.then(|| registry.events().subscribe());
        if yields && registry.domains().iter().any(|domain| meters_a_package(domain)) {
            tracing::debug!("packages are metered: nothing is estimated");
            return Ok(Self { estimator: None, appeared: None });
        }
        let power = Power::find(config)?;
        let watts = |microwatts: u64| microwatts as f64 / 1e6;
        tracing::info!(
            idle_watts = watts(power.idle_microwatts()),
            full_watts = watts(power.full_microwatts()),
            frequency_aware = power.knows_frequency(),
            "package energy is estimated from CPU utilisation, by {}; \
             correct it with plugins.estimate.idle_watts and full_watts, or with a profile (wattrace calibrate)",
            power.why
        );
        Ok(Self { estimator: Some(Estimator::new(power, registry)?), appeared })
    }

    /// Whether a meter has appeared that makes the estimate needless.
    fn is_needless(&mut self) -> bool {
        let Some(appeared) = &mut self.appeared else { return false };
        std::iter::from_fn(|| appeared.try_next()).any(|heard| match heard {
            Received::Event(event) => meters_a_package(&event.domain),
            // More than a thousand at once is no machine's hardware.
            Received::Missed(_) => false,
        })
    }
}

/// Whether the packages' energy is in this domain: by a meter, or by the share of it that a host tells its
/// guest.
fn meters_a_package(domain: &Domain) -> bool {
    domain.name == HOST_SHARE || domain.name.starts_with("package-") && domain.origin != Origin::Estimated
}

/// The domain of the plugin that a host tells.
const HOST_SHARE: &str = "host-share";

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
    /// Those of `Quantity`, in its order.
    usage: [MetricId; 3],
    energy: MetricId,
    /// Per series whether, and how, it counts; looked up once.
    series: SeriesMap<Option<Usage>>,
    packages: Vec<Package>,
    /// Scratch: the load of each window and package in the batch at hand.
    loads: Vec<WindowLoad>,
}

/// A series that tells of a package's load.
#[derive(Clone, Copy)]
struct Usage {
    /// Index into `packages`.
    package: usize,
    quantity: Quantity,
    is_idle: bool,
    last: u64,
}

#[derive(Clone, Copy)]
enum Quantity {
    Time,
    Shared,
    Cycles,
}

const QUANTITIES: [Quantity; 3] = [Quantity::Time, Quantity::Shared, Quantity::Cycles];

struct Package {
    number: u32,
    series: SeriesId,
    femtojoules: u128,
}

#[derive(Clone, Copy)]
struct WindowLoad {
    window: Window,
    package: usize,
    did: Load,
}

impl Estimator {
    fn new(power: Power, registry: Arc<Registry>) -> Result<Self, Error> {
        let declare = |metric: &Metric| registry.metric(metric).or_fatal();
        let usage = [
            declare(&metric::CONSUMER_CPU_TIME)?,
            declare(&metric::CONSUMER_SHARED_TIME)?,
            declare(&metric::CONSUMER_COUNTS[0])?,
        ];
        let energy = declare(&metric::HW_ENERGY)?;
        let mut estimator = Self {
            power,
            registry,
            usage,
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

    /// Reads the batch's usage into `loads`.
    fn sum(&mut self, batch: &Batch) {
        self.loads.clear();
        let nothing = Load { shared: self.power.shares_cores.then_some(0), ..Load::default() };
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.series.get(id).is_none() {
                    let found = self.registry.get(id).and_then(|s| self.describe(&s, segment.window.start));
                    self.series.insert(id, found);
                }
                let Some(Some(usage)) = self.series.get_mut(id) else { continue };
                let delta = value.steps().saturating_sub(usage.last);
                usage.last = value.steps();
                let load = load_of(&mut self.loads, segment.window, usage.package, nothing);
                match usage.quantity {
                    Quantity::Time => {
                        load.total += delta;
                        load.busy += if usage.is_idle { 0 } else { delta };
                    }
                    Quantity::Shared => load.shared = load.shared.map(|shared| shared + delta),
                    Quantity::Cycles => load.cycles += delta,
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
            package.femtojoules += femtojoules(&self.power, load.window, &load.did);
            let microjoules = package.femtojoules / 1_000_000_000;
            batch.push(package.series, Value::of_steps(u64::try_from(microjoules).unwrap_or(u64::MAX)));
        }
    }

    /// What `series` counts as; `None`: it isn't a package's usage. Opens the package's domain if it is new,
    /// counting from `start`.
    fn describe(&mut self, series: &Series, start: Timestamp) -> Option<Usage> {
        let quantity = QUANTITIES[self.usage.iter().position(|metric| *metric == series.metric_id)?];
        if series.resource.kind != ResourceKind::Package {
            return None;
        }
        let number: u32 = series.resource.id.parse().ok()?;
        let is_idle = match series.consumer.as_ref()?.kind() {
            ConsumerKind::Idle if matches!(quantity, Quantity::Time) => true,
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
        Some(Usage { package, quantity, is_idle, last: 0 })
    }

    fn open(&self, number: u32, start: Timestamp) -> SeriesId {
        let name = format!("package-{number}");
        // Beside a meter the estimate goes by another name, and its joules are those that the meter counts
        // already.
        let metered = self.registry.domains().iter().any(|domain| domain.name == name);
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

/// The entry of `window` and `package`. There are few, and the one in use is the last but for the number of
/// packages.
fn load_of(loads: &mut Vec<WindowLoad>, window: Window, package: usize, nothing: Load) -> &mut Load {
    let known = loads.iter().rposition(|load| load.package == package && load.window == window);
    let at = known.unwrap_or(loads.len());
    if known.is_none() {
        loads.push(WindowLoad { window, package, did: nothing });
    }
    &mut loads[at].did
}

/// The energy of one window.
fn femtojoules(power: &Power, window: Window, did: &Load) -> u128 {
    let dynamic = power.dynamic_watts(did) * 1e6 * window.nanos() as f64;
    u128::from(power.idle_microwatts()) * u128::from(window.nanos()) + dynamic as u128
}

#[cfg(test)]
mod tests;

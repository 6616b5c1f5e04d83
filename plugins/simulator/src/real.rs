//! A meter for a real machine that has none: a constant power for each package and each of its busy CPUs,
//! from the CPU time that passes by. What joules the machine really draws nobody knows; but those of this
//! meter have a known truth, so that what comes after it in the pipeline can be checked on real processes.

use std::sync::Arc;

use wattrace_api::{
    Batch, ConsumerKind, Domain, Error, Follows, MetricId, Origin, Registry, Resource, ResourceKind,
    ResultExt, Series, SeriesId, SeriesMap, SeriesSpec, Timestamp, Transform, Value, metric,
};

/// Microjoules are counted by their parts: nanoseconds times microwatts.
const PARTS: u128 = 1_000_000_000;

/// The transform that adds the meter's points.
pub(crate) struct RealMeter {
    registry: Arc<Registry>,
    idle_microwatts: u64,
    busy_microwatts: u64,
    cpu_time: MetricId,
    energy: MetricId,
    roles: SeriesMap<Option<Role>>,
    packages: Vec<Package>,
}

/// What a series of CPU time counts as.
#[derive(Clone, Copy)]
struct Role {
    package: usize,
    is_idle: bool,
    last: u64,
}

struct Package {
    number: u32,
    series: SeriesId,
    /// Energy so far, in microwatts times nanoseconds.
    total: u128,
    /// Whether the window at hand says something of it.
    told: bool,
}

impl RealMeter {
    pub(crate) fn open(idle_watts: f64, busy_watts: f64, registry: Arc<Registry>) -> Result<Self, Error> {
        let mut meter = Self {
            idle_microwatts: (idle_watts * 1e6) as u64,
            busy_microwatts: (busy_watts * 1e6) as u64,
            cpu_time: registry.metric(&metric::CONSUMER_CPU_TIME).or_fatal()?,
            energy: registry.metric(&metric::HW_ENERGY).or_fatal()?,
            roles: SeriesMap::default(),
            packages: Vec::new(),
            registry,
        };
        // The packages that are known by now get their domains, so that later transforms find them.
        for (_, series) in meter.registry.series() {
            meter.role(&series, series.start);
        }
        Ok(meter)
    }

    fn role(&mut self, series: &Series, start: Timestamp) -> Option<Role> {
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
        let known = self.packages.iter().position(|package| package.number == number);
        let package = known.unwrap_or_else(|| {
            let series = self.domain(number, start);
            self.packages.push(Package { number, series, total: 0, told: false });
            self.packages.len() - 1
        });
        Some(Role { package, is_idle, last: 0 })
    }

    fn domain(&self, number: u32, start: Timestamp) -> SeriesId {
        let name = format!("package-{number}");
        // Beside a real meter it goes by another name, and lies within it so that no total has both.
        let metered = self.registry.domains().iter().any(|domain| domain.name == name);
        let (name, within) = if metered { (format!("{name}-simulated"), Some(name)) } else { (name, None) };
        let domain = Domain {
            name,
            origin: Origin::Simulated,
            follows: Follows::Package(number),
            within,
            idle_microwatts: Some(self.idle_microwatts),
        };
        let spec = SeriesSpec::new(self.energy, Resource::package(number), start);
        self.registry.open(SeriesSpec { domain: Some(Arc::new(domain)), ..spec })
    }
}

impl Transform for RealMeter {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let mut metered = Batch::default();
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.roles.get(id).is_none() {
                    let series = self.registry.get(id);
                    let role = series.and_then(|series| self.role(&series, segment.window.start));
                    self.roles.insert(id, role);
                }
                let Some(Some(role)) = self.roles.get_mut(id) else { continue };
                let ns = value.steps().saturating_sub(std::mem::replace(&mut role.last, value.steps()));
                let package = &mut self.packages[role.package];
                if !role.is_idle {
                    package.total += u128::from(ns) * u128::from(self.busy_microwatts);
                }
                if !std::mem::replace(&mut package.told, true) {
                    package.total += u128::from(segment.window.nanos()) * u128::from(self.idle_microwatts);
                }
            }
            let mut begun = false;
            for package in &mut self.packages {
                if !std::mem::take(&mut package.told) {
                    continue;
                }
                if !std::mem::replace(&mut begun, true) {
                    metered.begin(segment.window);
                }
                let microjoules = u64::try_from(package.total / PARTS).unwrap_or(u64::MAX);
                metered.push(package.series, Value::of_steps(microjoules));
            }
        }
        for &id in batch.ended() {
            self.roles.remove(id);
        }
        batch.append(&metered);
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use wattrace_api::testing::Rig;
    use wattrace_api::{Consumer, Identity, Window};

    use super::*;
    use crate::{Simulator, SimulatorConfig};

    #[test]
    fn a_package_draws_its_idle_power_and_that_of_its_busy_cpus() {
        let mut rig = Rig::new();
        let process = Identity { kind: ConsumerKind::Process, id: "7".into(), start_unix_nano: 1 };
        let cpu_time = rig.registry.metric(&metric::CONSUMER_CPU_TIME).unwrap();
        let open = |rig: &Rig, consumer, package| {
            let consumer = Some(Arc::new(consumer));
            let spec = SeriesSpec::new(cpu_time, Resource::package(package), Timestamp(0));
            rig.registry.open(SeriesSpec { consumer, ..spec })
        };
        let idle = open(&rig, Consumer::closing(ConsumerKind::Idle), 0);
        let busy = open(&rig, Consumer::new(process.clone(), None, Vec::new()), 0);
        let thread = Identity { kind: ConsumerKind::Thread, ..process };
        let part = open(&rig, Consumer::new(thread, None, Vec::new()), 0);
        let other = open(&rig, Consumer::closing(ConsumerKind::Idle), 1);
        rig.start::<Simulator>(SimulatorConfig::default()).unwrap();
        let second = 1_000_000_000;
        let mut told = Vec::new();
        for n in 1..=2 {
            let points =
                [(idle, second * n), (busy, second / 2 * n), (part, second * n), (other, second * n)];
            let batch = rig.batch(Window::new(Timestamp((n - 1) * second), Timestamp(n * second)), &points);
            let batch = rig.pass(batch).unwrap();
            let energy = rig.points(&batch).into_iter().filter(|p| p.metric == "hw.energy");
            told.extend(energy.map(|p| (p.series.domain.as_ref().unwrap().name.clone(), p.steps, p.window)));
        }
        let window = |n: u64| Window::new(Timestamp((n - 1) * second), Timestamp(n * second));
        // 10 W and half a CPU at 20 W; 10 W.
        assert_eq!(
            told,
            [
                ("package-0".into(), 20_000_000, window(1)),
                ("package-1".into(), 10_000_000, window(1)),
                ("package-0".into(), 40_000_000, window(2)),
                ("package-1".into(), 20_000_000, window(2)),
            ]
        );
    }
}

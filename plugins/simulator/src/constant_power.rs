//! A simulated meter for the processes of a real machine: a constant power for each package and each of its
//! busy CPUs, computed from the CPU time that flows through the pipeline. The machine's true energy is
//! unknown, but this meter's is known, so the rest of the pipeline can be checked on real processes.

use std::sync::Arc;

use wattrace_api::{
    Batch, ConsumerKind, Domain, Error, Follows, Increments, MetricId, Origin, Registry, Resource, ResultExt,
    Role, Series, SeriesId, SeriesMap, SeriesSpec, Timestamp, Transform, Usage, Value, metric,
};

/// Nanoseconds times microwatts in a microjoule.
const PER_MICROJOULE: u128 = 1_000_000_000;

/// The transform that adds points of the meter.
pub(crate) struct ConstantPower {
    registry: Arc<Registry>,
    idle_microwatts: u64,
    busy_microwatts: u64,
    energy: MetricId,
    cpu_times: SeriesMap<Option<CpuTime>>,
    packages: Vec<Package>,
}

/// A series of CPU time.
struct CpuTime {
    package: usize,
    is_idle: bool,
    increments: Increments,
}

struct Package {
    number: u32,
    series: SeriesId,
    /// Energy so far, in microwatts times nanoseconds.
    total: u128,
    /// The current segment has CPU time of it.
    seen: bool,
}

impl ConstantPower {
    pub(crate) fn open(idle_watts: f64, busy_watts: f64, registry: Arc<Registry>) -> Result<Self, Error> {
        let mut meter = Self {
            idle_microwatts: (idle_watts * 1e6) as u64,
            busy_microwatts: (busy_watts * 1e6) as u64,
            energy: registry.metric(&metric::HW_ENERGY).or_fatal()?,
            cpu_times: SeriesMap::default(),
            packages: Vec::new(),
            registry,
        };
        // Domains of the packages that are known now are opened, so that later transforms find them.
        for (_, series) in meter.registry.series() {
            meter.cpu_time(&series, series.start);
        }
        Ok(meter)
    }

    /// The CPU time that counts, if `series` is one. Opens its package's domain, which starts at `start`.
    fn cpu_time(&mut self, series: &Series, start: Timestamp) -> Option<CpuTime> {
        if series.role != Role::Usage(Usage::CpuTime) {
            return None;
        }
        let number: u32 = series.resource.id.parse().ok()?;
        let is_idle = match series.consumer.as_ref()?.kind() {
            ConsumerKind::Idle => true,
            ConsumerKind::Process | ConsumerKind::Irq | ConsumerKind::Other | ConsumerKind::Unattributed => {
                false
            }
            // The time of threads and groups is that of their processes.
            _ => return None,
        };
        let known = self.packages.iter().position(|package| package.number == number);
        let package = known.unwrap_or_else(|| {
            let series = self.domain(number, start);
            self.packages.push(Package { number, series, total: 0, seen: false });
            self.packages.len() - 1
        });
        // The latest possible observer: a first point counts only if the series began within its window.
        let increments = Increments::within_windows(series);
        Some(CpuTime { package, is_idle, increments })
    }

    fn domain(&self, number: u32, start: Timestamp) -> SeriesId {
        let name = format!("package-{number}");
        // Beside a real meter it has another name and lies within it, so that no total counts both.
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

impl Transform for ConstantPower {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        let mut metered = Batch::default();
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.cpu_times.get(id).is_none() {
                    let series = self.registry.get(id);
                    let cpu_time = series.and_then(|series| self.cpu_time(&series, segment.window.start));
                    self.cpu_times.insert(id, cpu_time);
                }
                let Some(Some(cpu_time)) = self.cpu_times.get_mut(id) else { continue };
                let ns = cpu_time.increments.next(segment.window, value);
                let package = &mut self.packages[cpu_time.package];
                if !cpu_time.is_idle {
                    package.total += u128::from(ns) * u128::from(self.busy_microwatts);
                }
                if !std::mem::replace(&mut package.seen, true) {
                    package.total += u128::from(segment.window.nanos()) * u128::from(self.idle_microwatts);
                }
            }
            let mut has_segment = false;
            for package in &mut self.packages {
                if !std::mem::take(&mut package.seen) {
                    continue;
                }
                if !std::mem::replace(&mut has_segment, true) {
                    metered.begin(segment.window);
                }
                let microjoules = u64::try_from(package.total / PER_MICROJOULE).unwrap_or(u64::MAX);
                metered.push(package.series, Value::of_steps(microjoules));
            }
        }
        for &id in batch.ended() {
            self.cpu_times.remove(id);
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
        let thread_time = open(&rig, Consumer::new(thread, None, Vec::new()), 0);
        let other = open(&rig, Consumer::closing(ConsumerKind::Idle), 1);
        rig.start::<Simulator>(SimulatorConfig::default()).unwrap();
        let second = 1_000_000_000;
        let mut energy = Vec::new();
        for n in 1..=2 {
            let points =
                [(idle, second * n), (busy, second / 2 * n), (thread_time, second * n), (other, second * n)];
            let batch = rig.batch(Window::new(Timestamp((n - 1) * second), Timestamp(n * second)), &points);
            let batch = rig.pass(batch).unwrap();
            let points = rig.points(&batch).into_iter().filter(|p| p.metric == "hw.energy");
            energy
                .extend(points.map(|p| (p.series.domain.as_ref().unwrap().name.clone(), p.steps, p.window)));
        }
        let window = |n: u64| Window::new(Timestamp((n - 1) * second), Timestamp(n * second));
        // 10 W and half a CPU at 20 W; 10 W alone.
        assert_eq!(
            energy,
            [
                ("package-0".into(), 20_000_000, window(1)),
                ("package-1".into(), 10_000_000, window(1)),
                ("package-0".into(), 40_000_000, window(2)),
                ("package-1".into(), 20_000_000, window(2)),
            ]
        );
    }
}

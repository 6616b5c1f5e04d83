//! The meters as a source, as `plugins/rapl` is for real ones: windows end before the reading by the mean age
//! of what the meters show. All values are labelled `simulated`.

use std::sync::Arc;

use wattrace_api::{
    Batch, Clock, Domain, Error, Follows, Origin, Registry, Resource, ResourceKind, ResultExt, SeriesId,
    SeriesSpec, Source, Tick, Timestamp, Value, Window, metric,
};

use crate::machine::{Machine, Part};
use crate::shared::SharedSimulation;
use crate::truth::Location;

/// The source of a simulated machine's `hw.energy` and `hw.host.energy`.
#[derive(Debug)]
pub struct EnergySource {
    shared: SharedSimulation,
    clock: Clock,
    counters: Vec<Counter>,
}

/// The state of one meter's series, in the order of the simulation's meters.
#[derive(Debug)]
struct Counter {
    series: SeriesId,
    last: u64,
    counts: u64,
    read_at: Timestamp,
}

impl EnergySource {
    /// Opens a series for each meter, which counts from now.
    ///
    /// # Errors
    /// Fatal if another plugin declares one of its metrics differently.
    pub fn open(shared: SharedSimulation, registry: &Registry, clock: Clock) -> Result<Self, Error> {
        let now = clock.now();
        let (energy, host) = (&metric::HW_ENERGY, &metric::HW_HOST_ENERGY);
        let (energy, host) = (registry.metric(energy).or_fatal()?, registry.metric(host).or_fatal()?);
        let simulation = shared.at(now);
        let start = now - simulation.machine().meter.age();
        let mut counters = Vec::new();
        for meter in simulation.meters() {
            let (resource, domain) = domain(simulation.machine(), meter.part, meter.location);
            let metric = if meter.part == Part::Psys { host } else { energy };
            let domain = Some(Arc::new(domain));
            let series = registry.open(SeriesSpec { domain, ..SeriesSpec::new(metric, resource, start) });
            counters.push(Counter { series, last: meter.shown(), counts: 0, read_at: start });
        }
        drop(simulation);
        Ok(Self { shared, clock, counters })
    }
}

impl Source for EnergySource {
    fn poll(&mut self, _tick: &Tick, out: &mut Batch) -> Result<(), Error> {
        let now = self.clock.now();
        let mut simulation = self.shared.at(now);
        let end = now - simulation.machine().meter.age();
        let mut segment = None;
        for (counter, meter) in self.counters.iter_mut().zip(simulation.meters_mut()) {
            if end <= counter.read_at {
                continue;
            }
            // A failed reading: the next one covers this window too.
            let Some(shown) = meter.read() else { continue };
            counter.counts += meter.between(std::mem::replace(&mut counter.last, shown), shown);
            let window = Window::new(std::mem::replace(&mut counter.read_at, end), end);
            if segment != Some(window) {
                out.begin(window);
                segment = Some(window);
            }
            out.push(counter.series, Value::of_steps(meter.microjoules(counter.counts)));
        }
        Ok(())
    }
}

/// The resource and the domain of the meter of `part` at `location`.
fn domain(machine: &Machine, part: Part, location: Location) -> (Resource, Domain) {
    let (package, core) = match location {
        Location::Everywhere => (0, 0),
        Location::Package(package) => (package, 0),
        Location::Core(core) => (machine.package_of_core(core), core),
    };
    let (package, core) = (package as u32, core as u32);
    let of = |kind| Resource { kind, id: package.to_string().into() };
    let in_package = || Some(format!("package-{package}"));
    let by_package = Follows::Package(package);
    let (name, resource, follows, within) = match part {
        Part::Package => (format!("package-{package}"), Resource::package(package), by_package, None),
        Part::Cores => (format!("core-{package}"), of(ResourceKind::Core), by_package, in_package()),
        Part::Uncore => (format!("uncore-{package}"), of(ResourceKind::Uncore), by_package, in_package()),
        Part::Dram => (format!("dram-{package}"), of(ResourceKind::Dram), by_package, None),
        Part::Core => (format!("core-cpu-{core}"), Resource::core(core), Follows::Core(core), in_package()),
        Part::Psys => {
            let resource = Resource { kind: ResourceKind::Psys, id: "".into() };
            ("psys".to_owned(), resource, Follows::Cpus, None)
        }
    };
    // Without a meter of the package nothing is counted twice.
    let within = within.filter(|_| machine.meters.contains(&Part::Package));
    (resource, Domain { name, origin: Origin::Simulated, follows, within, idle_microwatts: None })
}

//! Records, during a calibration, each domain's energy and each package's CPU time by window (a transform
//! that changes nothing), and the means of a step.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattrace_api::{
    Batch, ConsumerKind, Domain, Error, Follows, Increments, Origin, Registry, ResourceKind, Role, Series,
    SeriesMap, Timestamp, Transform, Usage, Window,
};

use super::plan::Step;

/// Everything that was recorded.
#[derive(Debug, Default)]
pub(super) struct Recording {
    domains: Vec<DomainRecord>,
    packages: Vec<PackageRecord>,
}

/// The measured energy of a domain.
#[derive(Debug)]
struct DomainRecord {
    domain: Arc<Domain>,
    is_package: bool,
    /// Windows with their energy in microjoules.
    windows: Vec<(Window, u64)>,
}

/// What the CPUs of a package did in a window, in nanoseconds and cycles.
#[derive(Clone, Copy, Debug, Default)]
struct PackageRecord {
    window: Window,
    package: u32,
    idle: u64,
    /// CPU time of this process, which makes the load.
    own: u64,
    others: u64,
    shared: u64,
    cycles: u64,
}

/// The means of a domain in a step.
#[derive(Clone, Debug)]
pub(super) struct StepMeans {
    pub(super) step: Step,
    pub(super) domain: String,
    /// Whether it is the domain of a package.
    pub(super) is_package: bool,
    pub(super) watts: f64,
    /// Part of the CPU time of the domain's CPUs that was busy.
    pub(super) busy: f64,
    /// Part that was busy with other processes.
    pub(super) others: f64,
    /// Part that was busy while the other CPU of the core was busy too.
    pub(super) shared: f64,
    /// Mean frequency of busy CPUs; `None` if cycles are not counted.
    pub(super) mhz: Option<f64>,
}

pub(super) fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recording {
    /// What is missing for a calibration.
    pub(super) fn missing(&self) -> Option<&'static str> {
        if self.packages.is_empty() {
            return Some("CPU time, which the plugin sched counts, as root");
        }
        let has_package = self.domains.iter().any(|record| record.is_package);
        (!has_package)
            .then_some("a meter of the CPU packages, such as RAPL: run it on a machine that has one")
    }

    pub(super) fn domains(&self) -> impl Iterator<Item = &Domain> {
        self.domains.iter().map(|record| &*record.domain)
    }

    /// The means of every domain over the windows that lie within `span`. A domain without such windows has
    /// none: on a machine so busy that a whole step passed without a reading, the step's repetitions remain.
    pub(super) fn means(&self, step: Step, span: Window) -> Vec<StepMeans> {
        self.domains.iter().filter_map(|record| self.domain_means(record, step, span)).collect()
    }

    fn domain_means(&self, record: &DomainRecord, step: Step, span: Window) -> Option<StepMeans> {
        let is_within = |window: &Window| window.start >= span.start && window.end <= span.end;
        let (mut nanos, mut microjoules) = (0, 0);
        for (window, energy) in record.windows.iter().filter(|(window, _)| is_within(window)) {
            nanos += window.nanos();
            microjoules += energy;
        }
        let mut sum = PackageRecord::default();
        for p in self.packages.iter().filter(|p| is_within(&p.window) && follows(&record.domain, p.package)) {
            sum.idle += p.idle;
            sum.own += p.own;
            sum.others += p.others;
            sum.shared += p.shared;
            sum.cycles += p.cycles;
        }
        let busy = sum.own + sum.others;
        let total = sum.idle + busy;
        if nanos == 0 || total == 0 {
            return None;
        }
        let part = |ns: u64| ns as f64 / total as f64;
        Some(StepMeans {
            step,
            domain: record.domain.name.clone(),
            is_package: record.is_package,
            watts: microjoules as f64 * 1e3 / nanos as f64,
            busy: part(busy),
            others: part(sum.others),
            shared: part(sum.shared),
            mhz: (sum.cycles > 0 && busy > 0).then(|| sum.cycles as f64 * 1e3 / busy as f64),
        })
    }

    fn package(&mut self, window: Window, package: u32) -> &mut PackageRecord {
        let existing = self.packages.iter().rposition(|p| p.window == window && p.package == package);
        let at = existing.unwrap_or(self.packages.len());
        if existing.is_none() {
            self.packages.push(PackageRecord { window, package, ..PackageRecord::default() });
        }
        &mut self.packages[at]
    }

    fn add(&mut self, target: Target, window: Window, steps: u64) {
        match target {
            Target::Energy(domain) => self.domains[domain].windows.push((window, steps)),
            Target::Idle(package) => self.package(window, package).idle += steps,
            Target::Own(package) => self.package(window, package).own += steps,
            Target::Others(package) => self.package(window, package).others += steps,
            Target::Shared(package) => self.package(window, package).shared += steps,
            Target::Cycles(package) => self.package(window, package).cycles += steps,
        }
    }

    /// The target of a series; `None`: a calibration does not need it.
    fn target(&mut self, series: &Series) -> Option<Target> {
        match series.role {
            Role::Meter => self.energy_target(series),
            Role::Usage(usage) => usage_target(series, usage),
            _ => None,
        }
    }

    /// The target of a meter. Estimates are left out, since a profile is what they are made from, and so are
    /// devices and groups, whose energy does not depend on the CPUs' load alone.
    fn energy_target(&mut self, series: &Series) -> Option<Target> {
        let domain = series.domain.as_ref()?;
        let is_apart = matches!(domain.follows, Follows::Device(_) | Follows::Members(..));
        if domain.origin == Origin::Estimated || is_apart {
            return None;
        }
        // A meter that ended and was opened again has a second series.
        let existing = self.domains.iter().position(|record| record.domain.name == domain.name);
        Some(Target::Energy(existing.unwrap_or_else(|| {
            let is_package = series.resource.kind == ResourceKind::Package;
            self.domains.push(DomainRecord { domain: domain.clone(), is_package, windows: Vec::new() });
            self.domains.len() - 1
        })))
    }
}

/// The target of a series of use of a package's CPUs.
fn usage_target(series: &Series, usage: Usage) -> Option<Target> {
    let identity = series.consumer.as_ref()?.identity();
    if series.resource.kind != ResourceKind::Package {
        return None;
    }
    let package = series.resource.id.parse().ok()?;
    let is_own = identity.kind == ConsumerKind::Process && identity.id.parse() == Ok(std::process::id());
    match (identity.kind, usage) {
        (ConsumerKind::Idle, Usage::CpuTime) => Some(Target::Idle(package)),
        (
            ConsumerKind::Process | ConsumerKind::Irq | ConsumerKind::Other | ConsumerKind::Unattributed,
            usage,
        ) => match usage {
            Usage::CpuTime if is_own => Some(Target::Own(package)),
            Usage::CpuTime => Some(Target::Others(package)),
            Usage::SharedTime => Some(Target::Shared(package)),
            Usage::Cycles => Some(Target::Cycles(package)),
            _ => None,
        },
        _ => None,
    }
}

fn follows(domain: &Domain, package: u32) -> bool {
    match domain.follows {
        Follows::Package(of) => of == package,
        _ => true,
    }
}

/// The sum to which the points of a series are added: a domain by its index, use by its package.
#[derive(Clone, Copy)]
enum Target {
    Energy(usize),
    Idle(u32),
    Own(u32),
    Others(u32),
    Shared(u32),
    Cycles(u32),
}

/// The transform that fills a [`Recording`].
pub(super) struct CalibrationRecorder {
    recording: Arc<Mutex<Recording>>,
    registry: Arc<Registry>,
    /// When it began to observe.
    since: Timestamp,
    /// Per series, decided once; `None`: a calibration does not need it.
    targets: SeriesMap<Option<(Target, Increments)>>,
}

impl CalibrationRecorder {
    pub(super) fn new(recording: Arc<Mutex<Recording>>, registry: Arc<Registry>, since: Timestamp) -> Self {
        Self { recording, registry, since, targets: SeriesMap::default() }
    }
}

impl Transform for CalibrationRecorder {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.record(batch);
        Ok(())
    }
}

impl CalibrationRecorder {
    fn record(&mut self, batch: &Batch) {
        let mut recording = lock(&self.recording);
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                let is_first = self.targets.get(id).is_none();
                let open = || {
                    let series = self.registry.get(id)?;
                    Some((recording.target(&series)?, Increments::new(&series, self.since)))
                };
                if let Some((target, increments)) = self.targets.get_or_insert_with(id, open) {
                    let steps = increments.next(segment.window, value);
                    // A first point without an increment is a reference only: its window is not known.
                    if steps > 0 || !is_first {
                        recording.add(*target, segment.window, steps);
                    }
                }
            }
        }
        for &id in batch.ended() {
            self.targets.remove(id);
        }
    }
}

#[cfg(test)]
mod tests;

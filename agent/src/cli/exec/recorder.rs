//! Records what each process and each domain used since the command began: a transform that changes nothing.
//! `report.rs` makes the report of it.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattrace_api::{
    Batch, Consumer, ConsumerKind, Domain, Error, Increments, Registry, Role, Series, SeriesMap, Timestamp,
    Transform, Usage,
};

use super::network::{NetworkBytes, NetworkIds};
use super::process_stats::{FigureIds, Figures};
use super::static_power::{Baseline, StaticPower};

/// One domain, in microjoules since the command began.
#[derive(Debug)]
pub(super) struct DomainRecord {
    pub(super) domain: Arc<Domain>,
    /// Whether totals over all domains count it.
    pub(super) counts_in_totals: bool,
    pub(super) measured: u64,
    pub(super) idle: u64,
    pub(super) unattributed: u64,
    /// What belongs to others than the processes that are recorded: interrupts that are counted apart, and
    /// everyone below a limit.
    pub(super) other: u64,
    /// What it draws at no load, as it is known now.
    pub(super) static_power: StaticPower,
    /// Half the width of the 95 % interval of `idle`, J, where attribution gives one.
    idle_uncertainty: Option<f64>,
    /// The same when the command began.
    idle_uncertainty_before: f64,
}

impl DomainRecord {
    /// Half the width of the 95 % interval of `idle`, J. All of it is the error of static power, which adds
    /// up linearly, so that of the time before the command is subtracted.
    pub(super) fn idle_interval(&self) -> Option<f64> {
        self.idle_uncertainty.map(|now| (now - self.idle_uncertainty_before).max(0.0))
    }
}

/// One process, or one thread if those are consumers of their own.
#[derive(Debug)]
pub(super) struct ProcessRecord {
    pub(super) consumer: Arc<Consumer>,
    /// Nanoseconds since the command began.
    pub(super) cpu_time: u64,
    /// Microjoules since the command began, by index of the domain. Shorter if the last domains have none.
    pub(super) energy: Vec<u64>,
    /// Half the width of the 95 % interval of each, J; 0 or missing if it is too small to be published.
    pub(super) uncertainty: Vec<f64>,
    /// What else it used, when it has ended.
    pub(super) figures: Option<Box<Figures>>,
    /// The largest proportional set size that was read, bytes; 0: none was.
    pub(super) peak_pss: u64,
}

impl ProcessRecord {
    /// Whether it is a thread, which its process includes.
    pub(super) fn is_thread(&self) -> bool {
        self.consumer.kind() == ConsumerKind::Thread
    }
}

/// Everything that the report needs.
#[derive(Debug, Default)]
pub(in crate::cli) struct Recording {
    pub(super) domains: Vec<DomainRecord>,
    /// Threads are among them.
    pub(super) processes: Vec<ProcessRecord>,
    /// What was measured before the command began, if it was.
    pub(super) baseline: Option<Baseline>,
    /// What the command received and sent, if that is counted.
    pub(super) network: Option<NetworkBytes>,
}

pub(in crate::cli) fn lock(recording: &Mutex<Recording>) -> MutexGuard<'_, Recording> {
    recording.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Recording {
    /// Everybody who was recorded.
    pub(in crate::cli) fn consumers(&self) -> impl Iterator<Item = &Arc<Consumer>> {
        self.processes.iter().map(|process| &process.consumer)
    }

    /// The command begins now: everything counts from zero.
    pub(super) fn reset(&mut self) {
        for d in &mut self.domains {
            (d.measured, d.idle, d.unattributed, d.other) = (0, 0, 0, 0);
            d.idle_uncertainty_before = d.idle_uncertainty.unwrap_or(0.0);
        }
        for p in &mut self.processes {
            (p.cpu_time, p.peak_pss) = (0, 0);
            p.energy.fill(0);
        }
        self.network.iter_mut().for_each(NetworkBytes::reset);
    }

    fn domain(&mut self, domain: &Arc<Domain>, counts_in_totals: bool) -> usize {
        if let Some(at) = self.domains.iter().position(|d| d.domain.name == domain.name) {
            return at;
        }
        let domain = domain.clone();
        self.domains.push(DomainRecord {
            domain,
            counts_in_totals,
            measured: 0,
            idle: 0,
            unattributed: 0,
            other: 0,
            static_power: StaticPower::default(),
            idle_uncertainty: None,
            idle_uncertainty_before: 0.0,
        });
        self.domains.len() - 1
    }

    /// Adds a counter's increment to its sum.
    fn add(&mut self, sum: Sum, steps: u64) {
        match sum {
            Sum::Measured(domain) => self.domains[domain].measured += steps,
            Sum::Idle(domain) => self.domains[domain].idle += steps,
            Sum::Unattributed(domain) => self.domains[domain].unattributed += steps,
            Sum::Other(domain) => self.domains[domain].other += steps,
            Sum::CpuTime(process) => self.processes[process].cpu_time += steps,
            Sum::Energy { process, domain } => {
                let energy = &mut self.processes[process].energy;
                energy.resize(energy.len().max(domain + 1), 0);
                energy[domain] += steps;
            }
            Sum::Network(which) => {
                self.network.iter_mut().for_each(|counted| counted.add(which, steps));
            }
        }
    }

    /// Takes a gauge's value.
    fn set(&mut self, gauge: Gauge, value: f64) {
        match gauge {
            Gauge::StaticPower(domain) => self.domains[domain].static_power.watts = Some(value),
            Gauge::StaticError(domain) => self.domains[domain].static_power.error = Some(value),
            Gauge::IdleUncertainty(domain) => self.domains[domain].idle_uncertainty = Some(value),
            Gauge::Uncertainty { process, domain } => {
                let uncertainty = &mut self.processes[process].uncertainty;
                uncertainty.resize(uncertainty.len().max(domain + 1), 0.0);
                uncertainty[domain] = value;
            }
            Gauge::Pss(process) => {
                let peak = &mut self.processes[process].peak_pss;
                *peak = (*peak).max(value as u64);
            }
        }
    }
}

/// What the points of a series belong to.
#[derive(Clone, Copy)]
enum Target {
    Sum(Sum),
    Gauge(Gauge),
    Figure { process: usize, which: usize },
}

/// The sum to which a counter's increments are added.
#[derive(Clone, Copy)]
enum Sum {
    Measured(usize),
    Idle(usize),
    Unattributed(usize),
    Other(usize),
    CpuTime(usize),
    Energy { process: usize, domain: usize },
    Network(usize),
}

/// What a gauge's last value is kept as; of PSS the largest.
#[derive(Clone, Copy)]
enum Gauge {
    StaticPower(usize),
    StaticError(usize),
    IdleUncertainty(usize),
    Uncertainty { process: usize, domain: usize },
    Pss(usize),
}

/// The transform that fills a [`Recording`].
pub(super) struct CommandRecorder {
    recording: Arc<Mutex<Recording>>,
    registry: Arc<Registry>,
    /// When it began to observe.
    since: Timestamp,
    /// Per series, decided once; `None`: the report does not need it.
    targets: SeriesMap<Option<(Target, Increments)>>,
    /// Index of each process by the address of its consumer, which the recording keeps alive.
    processes: HashMap<usize, usize>,
    figures: FigureIds,
    network: NetworkIds,
}

impl CommandRecorder {
    pub(super) fn new(recording: Arc<Mutex<Recording>>, registry: Arc<Registry>, since: Timestamp) -> Self {
        let (targets, processes) = (SeriesMap::default(), HashMap::new());
        let (figures, network) = (FigureIds::declare(&registry), NetworkIds::declare(&registry));
        Self { recording, registry, since, targets, processes, figures, network }
    }
}

/// Whether a series is about the command's cgroup, or one within it.
fn is_of_command(series: &Series, recording: &Recording) -> bool {
    let cgroup = series.consumer.as_ref().filter(|consumer| consumer.kind() == ConsumerKind::Cgroup);
    let network = recording.network.as_ref();
    cgroup.zip(network).is_some_and(|(cgroup, network)| network.include(&cgroup.identity().id))
}

/// The target of a series; `None`: the report does not need it.
fn target(
    series: &Series,
    recording: &mut Recording,
    processes: &mut HashMap<usize, usize>,
    figures: &FigureIds,
) -> Option<Target> {
    let kind = series.consumer.as_ref().map(|consumer| consumer.kind());
    if let (Some(ConsumerKind::Process), Some(which)) = (kind, figures.position(series.metric_id)) {
        return Some(Target::Figure { process: process(series, recording, processes)?, which });
    }
    if kind == Some(ConsumerKind::Process) && figures.is_pss(series.metric_id) {
        return Some(Target::Gauge(Gauge::Pss(process(series, recording, processes)?)));
    }
    match (series.role, kind) {
        (Role::Usage(Usage::CpuTime), Some(ConsumerKind::Process | ConsumerKind::Thread)) => {
            Some(Target::Sum(Sum::CpuTime(process(series, recording, processes)?)))
        }
        (Role::Meter | Role::Energy, kind) => {
            let domain = recording.domain(series.domain.as_ref()?, series.counts_in_totals());
            Some(Target::Sum(match kind {
                None => Sum::Measured(domain),
                Some(ConsumerKind::Idle) => Sum::Idle(domain),
                Some(ConsumerKind::Unattributed) => Sum::Unattributed(domain),
                Some(ConsumerKind::Irq | ConsumerKind::Other) => Sum::Other(domain),
                Some(ConsumerKind::Process | ConsumerKind::Thread) => {
                    Sum::Energy { process: process(series, recording, processes)?, domain }
                }
                // The same joules once more, by groups.
                Some(_) => return None,
            }))
        }
        (Role::StaticPower | Role::StaticError, _) => {
            let domain = recording.domain(series.domain.as_ref()?, series.counts_in_totals());
            let is_error = series.role == Role::StaticError;
            let gauge = if is_error { Gauge::StaticError(domain) } else { Gauge::StaticPower(domain) };
            Some(Target::Gauge(gauge))
        }
        (Role::Uncertainty, Some(kind)) => {
            let domain = recording.domain(series.domain.as_ref()?, series.counts_in_totals());
            Some(Target::Gauge(match kind {
                ConsumerKind::Idle => Gauge::IdleUncertainty(domain),
                ConsumerKind::Process | ConsumerKind::Thread => {
                    Gauge::Uncertainty { process: process(series, recording, processes)?, domain }
                }
                _ => return None,
            }))
        }
        _ => None,
    }
}

fn process(
    series: &Series,
    recording: &mut Recording,
    processes: &mut HashMap<usize, usize>,
) -> Option<usize> {
    let consumer = series.consumer.as_ref()?;
    Some(*processes.entry(Arc::as_ptr(consumer) as usize).or_insert_with(|| {
        let consumer = consumer.clone();
        let (energy, uncertainty) = (Vec::new(), Vec::new());
        let record = ProcessRecord { consumer, cpu_time: 0, energy, uncertainty, figures: None, peak_pss: 0 };
        recording.processes.push(record);
        recording.processes.len() - 1
    }))
}

impl Transform for CommandRecorder {
    fn apply(&mut self, batch: &mut Batch) -> Result<(), Error> {
        self.record(batch);
        Ok(())
    }
}

impl CommandRecorder {
    fn record(&mut self, batch: &Batch) {
        let mut recording = lock(&self.recording);
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                let open = || {
                    let series = self.registry.get(id)?;
                    let target = match self.network.position(series.metric_id) {
                        Some(which) if is_of_command(&series, &recording) => Target::Sum(Sum::Network(which)),
                        Some(_) => return None,
                        None => target(&series, &mut recording, &mut self.processes, &self.figures)?,
                    };
                    Some((target, Increments::new(&series, self.since)))
                };
                match self.targets.get_or_insert_with(id, open) {
                    Some((Target::Figure { process, which }, _)) => {
                        recording.processes[*process].figures.get_or_insert_default().set(*which, value);
                    }
                    Some((Target::Gauge(gauge), _)) => recording.set(*gauge, value.gauge()),
                    Some((Target::Sum(sum), increments)) => {
                        let steps = increments.next(segment.window, value);
                        recording.add(*sum, steps);
                    }
                    None => {}
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

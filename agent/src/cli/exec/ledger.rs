//! What comes out of the pipeline while a command runs: last values per process and domain, and what they
//! were when the command began.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use wattrace_api::{
    Batch, Consumer, ConsumerKind, Domain, Error, Output, Registry, ResourceKind, SeriesId, SeriesMap, metric,
};

/// A counter's value when the command began, and its last one.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Span {
    begin: u64,
    end: u64,
}

impl Span {
    /// Steps since the command began.
    pub(super) fn steps(&self) -> u64 {
        self.end - self.begin
    }
}

/// One domain's books.
#[derive(Debug)]
pub(super) struct DomainBooks {
    pub(super) domain: Arc<Domain>,
    /// A meter of the whole host, which contains all others.
    pub(super) whole_host: bool,
    pub(super) measured: Span,
    pub(super) idle: Span,
    pub(super) unattributed: Span,
}

/// One process.
#[derive(Debug)]
pub(super) struct Process {
    pub(super) consumer: Arc<Consumer>,
    /// Nanoseconds.
    pub(super) cpu_time: Span,
    /// Microjoules by index of domain.
    pub(super) energy: Vec<Span>,
}

/// All that the report is made of.
#[derive(Debug, Default)]
pub(super) struct Ledger {
    pub(super) domains: Vec<DomainBooks>,
    pub(super) processes: Vec<Process>,
}

pub(super) fn lock(ledger: &Mutex<Ledger>) -> MutexGuard<'_, Ledger> {
    ledger.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Ledger {
    /// The command begins now: everything is counted from here.
    pub(super) fn mark(&mut self) {
        let spans = self.domains.iter_mut().flat_map(|d| [&mut d.measured, &mut d.idle, &mut d.unattributed]);
        let of_processes =
            self.processes.iter_mut().flat_map(|p| p.energy.iter_mut().chain([&mut p.cpu_time]));
        spans.chain(of_processes).for_each(|span| span.begin = span.end);
    }

    fn domain(&mut self, domain: &Arc<Domain>, kind: &ResourceKind) -> usize {
        if let Some(at) = self.domains.iter().position(|d| d.domain.name == domain.name) {
            return at;
        }
        let zero = Span::default();
        let whole_host = matches!(kind, ResourceKind::Psys | ResourceKind::Host);
        let domain = domain.clone();
        self.domains.push(DomainBooks { domain, whole_host, measured: zero, idle: zero, unattributed: zero });
        self.domains.len() - 1
    }
}

/// Where a series' points go.
#[derive(Clone, Copy)]
enum Place {
    Measured(usize),
    Idle(usize),
    Unattributed(usize),
    CpuTime { process: usize, last: u64 },
    Energy { process: usize, domain: usize, last: u64 },
    Elsewhere,
}

/// The output that fills a [`Ledger`].
pub(super) struct LedgerOutput {
    ledger: Arc<Mutex<Ledger>>,
    registry: Arc<Registry>,
    places: SeriesMap<Place>,
    processes: HashMap<usize, usize>,
}

impl LedgerOutput {
    pub(super) fn new(ledger: Arc<Mutex<Ledger>>, registry: Arc<Registry>) -> Self {
        Self { ledger, registry, places: SeriesMap::default(), processes: HashMap::new() }
    }

    fn place(&mut self, id: SeriesId, ledger: &mut Ledger) -> Place {
        let Some(series) = self.registry.get(id) else { return Place::Elsewhere };
        let name = &series.metric.name;
        let domain = series.domain.as_ref().map(|d| ledger.domain(d, &series.resource.kind));
        match (&series.consumer, domain) {
            (None, Some(domain))
                if *name == metric::HW_ENERGY.name || *name == metric::HW_HOST_ENERGY.name =>
            {
                Place::Measured(domain)
            }
            (Some(consumer), Some(domain)) if *name == metric::CONSUMER_ENERGY.name => {
                match consumer.kind() {
                    ConsumerKind::Idle => Place::Idle(domain),
                    ConsumerKind::Unattributed => Place::Unattributed(domain),
                    ConsumerKind::Process => {
                        Place::Energy { process: self.process(consumer, ledger), domain, last: 0 }
                    }
                    _ => Place::Elsewhere,
                }
            }
            (Some(consumer), None)
                if *name == metric::CONSUMER_CPU_TIME.name && consumer.kind() == ConsumerKind::Process =>
            {
                Place::CpuTime { process: self.process(consumer, ledger), last: 0 }
            }
            _ => Place::Elsewhere,
        }
    }

    /// The ledger keeps the consumer, so its address stays its own.
    fn process(&mut self, consumer: &Arc<Consumer>, ledger: &mut Ledger) -> usize {
        *self.processes.entry(Arc::as_ptr(consumer) as usize).or_insert_with(|| {
            let cpu_time = Span::default();
            ledger.processes.push(Process { consumer: consumer.clone(), cpu_time, energy: Vec::new() });
            ledger.processes.len() - 1
        })
    }
}

impl Output for LedgerOutput {
    fn write(&mut self, batch: &Batch) -> Result<(), Error> {
        let shared = self.ledger.clone();
        let mut ledger = lock(&shared);
        for segment in batch.segments() {
            for (id, value) in segment.points() {
                if self.places.get(id).is_none() {
                    let place = self.place(id, &mut ledger);
                    self.places.insert(id, place);
                }
                let steps = value.steps();
                match self.places.get_mut(id) {
                    Some(Place::Measured(d)) => ledger.domains[*d].measured.end = steps,
                    Some(Place::Idle(d)) => ledger.domains[*d].idle.end = steps,
                    Some(Place::Unattributed(d)) => ledger.domains[*d].unattributed.end = steps,
                    // A process has a series per package: their growth adds up.
                    Some(Place::CpuTime { process, last }) => {
                        ledger.processes[*process].cpu_time.end += steps - std::mem::replace(last, steps);
                    }
                    Some(Place::Energy { process, domain, last }) => {
                        let energy = &mut ledger.processes[*process].energy;
                        energy.resize(energy.len().max(*domain + 1), Span::default());
                        energy[*domain].end += steps - std::mem::replace(last, steps);
                    }
                    _ => {}
                }
            }
        }
        for &id in batch.ended() {
            self.places.remove(id);
        }
        Ok(())
    }
}

//! Describes to a viewer the consumers, domains and series that it needs, each once. A consumer is described
//! again when its attributes have changed, as by an exec.

use std::collections::{BTreeMap, HashMap, HashSet};
use std::sync::Arc;

use wattrace_api::{
    AttributeValue, Clock, Consumer, ConsumerKind, Registry, Role, Series, SeriesId, SeriesMap, Usage,
};
use wattrace_procfs::Procfs;
use wattrace_viewer::{
    ConsumerDescription, DomainDescription, Kind, Message, Quantity, Root, SeriesDescription, names,
};

/// More ancestors than a process has in practice.
const DEEPEST: usize = 64;

/// Init and kthreadd: what is below them is the root of a tree.
const TOP: u32 = 2;

/// A series that was described.
struct Described {
    is_gauge: bool,
    /// Its consumer, if points of this series are the occasion to look whether that has changed.
    watched: Option<Watched>,
    /// The address of its consumer.
    consumer: Option<usize>,
    /// It was described before it had a point. By the first one its number may be another series'.
    unseen: Option<Arc<Series>>,
}

struct Watched {
    consumer: Arc<Consumer>,
    revision: u64,
}

/// A consumer that was described.
struct Known {
    number: u64,
    /// How many series it has that were described.
    series: u32,
    /// Keeps its address from being used again.
    _consumer: Arc<Consumer>,
}

/// What was described.
pub(super) struct Descriptions {
    registry: Arc<Registry>,
    clock: Clock,
    procfs: Procfs,
    /// `None`: no viewer needs it.
    series: SeriesMap<Option<Described>>,
    /// By the addresses of consumers.
    consumers: HashMap<usize, Known>,
    domains: HashSet<String>,
    /// The last number that was given to a consumer. None is given twice.
    last_number: u64,
}

/// What a series means to a viewer; `None`: nothing.
fn quantity(series: &Series) -> Option<Quantity> {
    match series.role {
        Role::Meter => Some(Quantity::Meter),
        Role::Energy => Some(Quantity::Energy),
        Role::Uncertainty => Some(Quantity::Uncertainty),
        Role::Usage(Usage::CpuTime) => Some(Quantity::CpuTime),
        Role::Usage(Usage::GpuTime) => Some(Quantity::GpuTime),
        Role::Usage(Usage::GpuMemory) => Some(Quantity::GpuMemory),
        Role::StaticPower => Some(Quantity::StaticPower),
        _ => None,
    }
}

impl Descriptions {
    pub(super) fn new(registry: Arc<Registry>, clock: Clock) -> Self {
        let (series, consumers) = (SeriesMap::default(), HashMap::new());
        let (procfs, domains) = (Procfs::default(), HashSet::new());
        Self { registry, clock, procfs, series, consumers, domains, last_number: 0 }
    }

    /// Nothing was described.
    pub(super) fn clear(&mut self) {
        self.series = SeriesMap::default();
        self.consumers.clear();
        self.domains.clear();
    }

    /// Whether a series is a gauge; `None`: no viewer needs it. Describes in `message` what is new.
    pub(super) fn is_gauge(&mut self, id: SeriesId, message: &mut Message) -> Option<bool> {
        let unseen = self.series.get_mut(id).and_then(Option::as_mut).and_then(|known| known.unseen.take());
        if let Some(series) = unseen
            && !self.registry.get(id).is_some_and(|now| Arc::ptr_eq(&now, &series))
        {
            self.end(id);
        }
        if self.series.get(id).is_none() {
            let described = self.registry.get(id).and_then(|series| self.describe(id, &series, message));
            self.series.insert(id, described);
        }
        let Some(Some(described)) = self.series.get_mut(id) else { return None };
        let is_gauge = described.is_gauge;
        if let Some(watched) = &mut described.watched {
            let revision = watched.consumer.revision();
            if revision != std::mem::replace(&mut watched.revision, revision) {
                let consumer = watched.consumer.clone();
                let known = described.consumer.and_then(|address| self.consumers.get(&address));
                if let Some(number) = known.map(|known| known.number) {
                    message.consumers.push(self.consumer(&consumer, number));
                }
            }
        }
        Some(is_gauge)
    }

    /// Describes what is open and had no point yet, so that whoever sleeps has a name. What has exited is
    /// left out: its end may have passed already.
    pub(super) fn describe_sleepers(&mut self, message: &mut Message) {
        for (id, series) in self.registry.series() {
            let has_exited = series.consumer.as_ref().is_some_and(|c| c.end_unix_nano().is_some());
            if has_exited || series.consumer.is_none() || self.series.get(id).is_some() {
                continue;
            }
            if let Some(described) = self.describe(id, &series, message) {
                self.series.insert(id, Some(Described { unseen: Some(series), ..described }));
            }
        }
    }

    /// A series has ended. Returns whether the viewer knows it.
    pub(super) fn end(&mut self, id: SeriesId) -> bool {
        let Some(Some(described)) = self.series.remove(id) else { return false };
        if let Some(address) = described.consumer
            && let Some(known) = self.consumers.get_mut(&address)
        {
            known.series -= 1;
            if known.series == 0 {
                self.consumers.remove(&address);
            }
        }
        true
    }

    fn describe(&mut self, id: SeriesId, series: &Series, message: &mut Message) -> Option<Described> {
        let quantity = quantity(series)?;
        if let Some(domain) = &series.domain
            && self.domains.insert(domain.name.clone())
        {
            let (name, origin) = (domain.name.clone(), domain.origin.as_str().to_owned());
            message.domains.push(DomainDescription { name, origin, counted: series.counts_in_totals() });
        }
        let consumer = series.consumer.as_ref().map(|consumer| self.number(consumer, message));
        message.series.push(SeriesDescription {
            // Ids are numbers of 32 bits.
            id: id.index() as u32,
            quantity,
            consumer: consumer.map(|(number, _)| number),
            domain: series.domain.as_ref().map(|domain| domain.name.clone()),
            start_unix_nano: self.clock.unix_nanos(series.start),
        });
        let watched = series.consumer.clone().filter(|_| quantity == Quantity::CpuTime);
        Some(Described {
            is_gauge: series.metric.kind == wattrace_api::metric::Kind::Gauge,
            watched: watched.map(|consumer| Watched { revision: consumer.revision(), consumer }),
            consumer: consumer.map(|(_, address)| address),
            unseen: None,
        })
    }

    /// The number and the address of the consumer of a new series, which is described if it is new.
    fn number(&mut self, consumer: &Arc<Consumer>, message: &mut Message) -> (u64, usize) {
        let address = Arc::as_ptr(consumer) as usize;
        if let Some(known) = self.consumers.get_mut(&address) {
            known.series += 1;
            return (known.number, address);
        }
        self.last_number += 1;
        let number = self.last_number;
        message.consumers.push(self.consumer(consumer, number));
        self.consumers.insert(address, Known { number, series: 1, _consumer: consumer.clone() });
        (number, address)
    }

    fn consumer(&self, consumer: &Consumer, number: u64) -> ConsumerDescription {
        let identity = consumer.identity();
        let kind = Kind::from(identity.kind);
        let attributes: BTreeMap<_, _> = (consumer.attributes().iter())
            .map(|attribute| (attribute.key.clone().into_owned(), attribute.value.to_string()))
            .collect();
        let name = match identity.kind {
            ConsumerKind::Process => self.name_of_process(consumer),
            _ => names::of_consumer(kind, &identity.id, &attributes),
        };
        ConsumerDescription {
            number,
            kind,
            id: identity.id.clone().into_owned(),
            start_unix_nano: identity.start_unix_nano,
            name,
            root: (identity.kind == ConsumerKind::Process).then(|| self.root(consumer)).flatten(),
            attributes,
        }
    }

    /// A process's program and, where that is an interpreter, what it runs. Only then is a file read.
    fn name_of_process(&self, process: &Consumer) -> String {
        let text = |key| match process.attribute(key) {
            Some(AttributeValue::Str(text)) if !text.is_empty() => Some(text),
            _ => None,
        };
        let executable = text("process.executable.name").or_else(|| text("wattrace.process.comm"));
        let executable = executable.unwrap_or_else(|| process.identity().id.as_ref().into());
        let arguments = if names::is_interpreter(&executable) {
            let pid = process.identity().id.parse().ok();
            pid.and_then(|pid| self.procfs.arguments(pid)).unwrap_or_default()
        } else {
            Vec::new()
        };
        names::of_command(&executable, &arguments)
    }

    /// The oldest living ancestor of a process below init; `None`: itself.
    fn root(&self, process: &Consumer) -> Option<Root> {
        let mut root = None;
        let mut parent = parent_pid(process);
        for _ in 0..DEEPEST {
            let Some(pid) = parent.filter(|pid| *pid > TOP) else { break };
            let Some(ancestor) = self.registry.directory().process(pid) else { break };
            parent = parent_pid(&ancestor);
            root = Some(ancestor);
        }
        let root = root?;
        let name = self.name_of_process(&root);
        let identity = root.identity();
        let id = identity.id.clone().into_owned();
        Some(Root { id, start_unix_nano: identity.start_unix_nano, name })
    }
}

fn parent_pid(process: &Consumer) -> Option<u32> {
    match process.attribute("process.parent_pid")? {
        AttributeValue::Int(pid) => u32::try_from(pid).ok(),
        _ => None,
    }
}

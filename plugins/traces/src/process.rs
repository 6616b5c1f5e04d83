//! A traced process: its place in a trace, and what it has used in its present span.

use std::sync::Arc;
use std::time::Duration;

use opentelemetry::Key;
use wattrace_api::trace::TraceContext;
use wattrace_api::{Clock, Consumer, Domain, ProcessKey, Series, Timestamp};

/// What a process passes on to its children.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Lineage {
    pub(crate) trace_id: u128,
    /// Its present span.
    pub(crate) span_id: u64,
    /// The context in its environment, as far as it is known.
    pub(crate) carrier: Option<TraceContext>,
}

/// The span that a process's spans are children of.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Parent {
    /// 0: there is none.
    pub(crate) span_id: u64,
    /// Whether another program has sent it.
    pub(crate) is_remote: bool,
}

/// A domain, under the names of its attributes.
#[derive(Debug)]
pub(crate) struct DomainKeys {
    pub(crate) energy: Key,
    pub(crate) origin: Key,
    pub(crate) domain: Arc<Domain>,
    /// Whether totals over all domains count it.
    pub(crate) counts_in_totals: bool,
}

impl DomainKeys {
    fn new(domain: &Arc<Domain>, counts_in_totals: bool) -> Self {
        let name = &domain.name;
        let energy = format!("wattrace.energy.{name}").into();
        let origin = format!("wattrace.origin.{name}").into();
        Self { energy, origin, domain: domain.clone(), counts_in_totals }
    }
}

/// What a process has used since its present span began.
#[derive(Clone, Debug, Default)]
pub(crate) struct Amounts {
    pub(crate) cpu_nanos: u64,
    /// Microjoules by domain. A domain keeps its place as long as the process is traced.
    pub(crate) energy: Vec<(Arc<DomainKeys>, u64)>,
    /// How many processes without a span of their own are included.
    pub(crate) folded: u64,
}

impl Amounts {
    /// The place of a domain.
    pub(crate) fn place(&mut self, series: &Series) -> Option<usize> {
        let domain = series.domain.as_ref()?;
        Some(self.place_of(domain, || Arc::new(DomainKeys::new(domain, series.counts_in_totals()))))
    }

    fn place_of(&mut self, domain: &Arc<Domain>, keys: impl FnOnce() -> Arc<DomainKeys>) -> usize {
        if let Some(at) = self.energy.iter().position(|(known, _)| known.domain.name == domain.name) {
            return at;
        }
        self.energy.push((keys(), 0));
        self.energy.len() - 1
    }

    /// Adds those of a process without a span.
    pub(crate) fn fold(&mut self, other: &Amounts) {
        self.cpu_nanos += other.cpu_nanos;
        self.folded += 1 + other.folded;
        for (keys, microjoules) in &other.energy {
            let at = self.place_of(&keys.domain, || keys.clone());
            self.energy[at].1 += microjoules;
        }
    }

    /// What there is so far; zero remains.
    fn take(&mut self) -> Self {
        let taken = self.clone();
        (self.cpu_nanos, self.folded) = (0, 0);
        self.energy.iter_mut().for_each(|(_, microjoules)| *microjoules = 0);
        taken
    }

    /// Energy in microjoules, each domain once that totals count.
    pub(crate) fn total(&self) -> u64 {
        self.energy.iter().filter(|(keys, _)| keys.counts_in_totals).map(|(_, microjoules)| microjoules).sum()
    }
}

/// A span that is over.
#[derive(Debug)]
pub(crate) struct Finished {
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) lineage: Lineage,
    pub(crate) parent: Parent,
    /// The process's span before this one; 0: there is none.
    pub(crate) previous: u64,
    /// In nanoseconds since the Unix epoch.
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) amounts: Amounts,
    /// Whether the process goes on, or is no longer observed.
    pub(crate) is_running: bool,
}

/// A traced process.
#[derive(Debug)]
pub(crate) struct Process {
    pub(crate) key: ProcessKey,
    pub(crate) consumer: Arc<Consumer>,
    pub(crate) lineage: Lineage,
    pub(crate) parent: Parent,
    /// When its present span began, in nanoseconds since the Unix epoch, and that before it.
    start: u64,
    previous: u64,
    /// When its present span is to end.
    pub(crate) due: Timestamp,
    pub(crate) amounts: Amounts,
    /// The revision of the consumer's attributes that has been looked at, and its executable then.
    pub(crate) revision: u64,
    pub(crate) executable: Option<String>,
    /// Its series that are open.
    pub(crate) open: u32,
    /// The end of the last window in which it used CPU time.
    pub(crate) ran_to: Timestamp,
    /// Whether it has traced children.
    pub(crate) has_children: bool,
}

impl Process {
    /// A process in its first span, which ends at `due` if it is still running then.
    pub(crate) fn new(
        consumer: &Arc<Consumer>,
        key: ProcessKey,
        lineage: Lineage,
        parent: Parent,
        due: Timestamp,
    ) -> Self {
        Self {
            key,
            consumer: consumer.clone(),
            lineage,
            parent,
            start: key.1,
            previous: 0,
            due,
            amounts: Amounts::default(),
            revision: consumer.revision(),
            executable: executable(consumer),
            open: 0,
            ran_to: Timestamp(0),
            has_children: false,
        }
    }

    /// What a child that began at `unix_nano` gets. Its parent is the span of that time.
    pub(crate) fn lineage_at(&self, unix_nano: u64) -> Lineage {
        let is_previous = unix_nano < self.start && self.previous != 0;
        let span_id = if is_previous { self.previous } else { self.lineage.span_id };
        Lineage { span_id, ..self.lineage }
    }

    /// When it ended, in nanoseconds since the Unix epoch; or until when it is known to have run.
    pub(crate) fn end(&self, clock: &Clock) -> u64 {
        let end = self.consumer.end_unix_nano().unwrap_or_else(|| clock.unix_nanos(self.ran_to));
        end.max(self.start)
    }

    /// Ends the present span at `end`, and begins another one with the id `next`.
    pub(crate) fn cut(&mut self, end: u64, next: u64, period: Duration) -> Finished {
        let amounts = self.amounts.take();
        let finished = self.span(end, amounts, true);
        self.previous = std::mem::replace(&mut self.lineage.span_id, next);
        self.start = end;
        self.due = self.due + period;
        finished
    }

    /// Its last span.
    pub(crate) fn finish(mut self, clock: &Clock) -> Finished {
        let amounts = std::mem::take(&mut self.amounts);
        self.span(self.end(clock), amounts, self.consumer.end_unix_nano().is_none())
    }

    fn span(&self, end: u64, amounts: Amounts, is_running: bool) -> Finished {
        let (consumer, lineage, parent) = (self.consumer.clone(), self.lineage, self.parent);
        Finished {
            consumer,
            lineage,
            parent,
            previous: self.previous,
            start: self.start,
            end,
            amounts,
            is_running,
        }
    }
}

/// The path of its executable.
pub(crate) fn executable(consumer: &Consumer) -> Option<String> {
    consumer.attribute("process.executable.path").map(|path| path.to_string())
}

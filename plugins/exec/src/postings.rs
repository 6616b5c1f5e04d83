//! From a line's point to a series' point: checked against its metric, the clock and its series' past, and
//! opened if it is the first. What is wrong is said as a [`Fault`]; what to do about that is `source`'s
//! business.

use std::collections::HashSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use wattrace_api::{Clock, Kind, Registry, Value};
use wattrace_ingest::number::{NumberFault, steps_of_text};
use wattrace_ingest::{Books, Declarations, Declared, Declaring, Fault, Page, Posted, Posting, UnixTime};

use crate::subject::{Subject, Subjects};
use crate::wire::{MetricLine, PointLine, SeriesName, WireKind};

/// How far a point's time may lie ahead of ours.
const AHEAD: Duration = Duration::from_secs(10);
/// Most metrics that a program may declare.
const MOST_METRICS: usize = 1000;

/// What outlives a restart of the program: the domains that it meters.
#[derive(Clone, Debug, Default)]
pub(crate) struct Shared(Arc<Mutex<HashSet<String>>>);

impl Shared {
    /// The names of those domains.
    pub(crate) fn domains(&self) -> MutexGuard<'_, HashSet<String>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// All that a program has said of its metrics and series.
pub(crate) struct Postings {
    clock: Clock,
    unix: UnixTime,
    metrics: Declarations,
    books: Books,
    subjects: Subjects,
    key: Vec<u8>,
}

impl Postings {
    /// Nothing yet, and at most `max_series` at a time.
    pub(crate) fn new(registry: Arc<Registry>, clock: Clock, shared: Shared, max_series: usize) -> Self {
        Self {
            unix: UnixTime::of(&clock),
            clock,
            metrics: Declarations::new(registry.clone(), MOST_METRICS),
            books: Books::counting_from_here(registry.clone(), max_series),
            subjects: Subjects::new(registry, shared),
            key: Vec::new(),
        }
    }

    /// Takes a metric's declaration.
    ///
    /// # Errors
    /// What it contradicts.
    pub(crate) fn declare(&mut self, metric: &MetricLine<'_>) -> Result<(), Fault> {
        let MetricLine { name, unit, kind, description } = metric;
        self.metrics.declare(Declaring { name, unit, kind: (*kind).into(), description }).map(drop)
    }

    /// Takes a point.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn post(&mut self, point: &PointLine<'_>, page: &mut Page<'_>) -> Result<Posted, Fault> {
        let declared = self.declared(point)?;
        let now = self.clock.now();
        let time = point.time_unix_nano.map_or(now, |unix| self.unix.timestamp(unix));
        if time > now + AHEAD {
            return Err(Fault::Future);
        }
        let text = point.value.get();
        let (value, start_unix_nano) = match declared.kind {
            Kind::Counter => (Value::of_steps(steps_of_text(text, declared.digits)?), point.start_unix_nano),
            Kind::Gauge => {
                let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
                (Value::of_gauge(number.ok_or(NumberFault::NotANumber)?), None)
            }
        };
        let start = point.start_unix_nano.map_or(time, |unix| self.unix.timestamp(unix));
        let (resource, consumer) = (&point.resource, point.consumer.as_ref());
        let subject = Subject { metric: &point.metric, resource, consumer, attributes: &point.attributes };
        subject.key(&mut self.key);
        let posting = Posting { kind: declared.kind, value, time, start_unix_nano, now };
        let subjects = &mut self.subjects;
        let posted =
            self.books.post(&self.key, posting, || subjects.spec(declared.id, &subject, start), page)?;
        if posted == Posted::Taken {
            self.subjects.learn(&subject);
        }
        Ok(posted)
    }

    fn declared(&mut self, point: &PointLine<'_>) -> Result<Declared, Fault> {
        match (&point.unit, point.kind, self.metrics.get(&point.metric)) {
            (None, None, Some(declared)) => Ok(declared),
            (Some(unit), Some(kind), _) => {
                let name = &*point.metric;
                self.metrics.declare(Declaring { name, unit, kind: kind.into(), description: "" })
            }
            _ => {
                let message =
                    "its metric was not declared: send {\"metric\":{…}} before, or unit and kind with it";
                Err(Fault::Conflict(message.to_owned()))
            }
        }
    }

    /// Ends the series `name`. Returns whether it was there.
    pub(crate) fn end(&mut self, name: &SeriesName<'_>, page: &mut Page<'_>) -> bool {
        let (consumer, attributes) = (name.consumer.as_ref(), &name.attributes);
        let subject = Subject { metric: &name.metric, resource: &name.resource, consumer, attributes };
        subject.key(&mut self.key);
        self.books.end(&self.key, page)
    }

    /// Ends every series.
    pub(crate) fn end_all(&mut self, page: &mut Page<'_>) {
        self.books.end_all(page);
    }
}

impl From<WireKind> for Kind {
    fn from(kind: WireKind) -> Self {
        match kind {
            WireKind::Counter => Kind::Counter,
            WireKind::Gauge => Kind::Gauge,
        }
    }
}

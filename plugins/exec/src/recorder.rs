//! Records a program's points: checks each against its metric, the clock and its series' last point, and
//! opens its series if it is the first. `labels.rs` describes the series; `source.rs` handles the errors.

use std::sync::Arc;
use std::time::Duration;

use wattrace_api::{Clock, Kind, Registry, Value};
use wattrace_ingest::number::{NumberError, steps_of_text};
use wattrace_ingest::{
    DeclaredMetric, IncomingPoint, MetricDeclaration, MetricTable, PointError, Recorded, SegmentWriter,
    SeriesTable, UnixTime,
};

use crate::labels::{ClaimedDomains, Labels, SeriesDescriber};
use crate::limits;
use crate::wire::{MetricLine, PointLine, SeriesName, WireKind};

/// How far a point's time may be ahead of the agent's clock.
const MAX_AHEAD: Duration = Duration::from_secs(10);
/// Most metrics that a program may declare.
const MAX_METRICS: usize = 1000;

/// The metrics and series of a program.
pub(crate) struct PointRecorder {
    clock: Clock,
    unix: UnixTime,
    metrics: MetricTable,
    table: SeriesTable,
    describer: SeriesDescriber,
    key: Vec<u8>,
}

impl PointRecorder {
    /// Records at most `max_series` at a time.
    pub(crate) fn new(
        registry: Arc<Registry>,
        clock: Clock,
        domains: ClaimedDomains,
        max_series: usize,
    ) -> Self {
        Self {
            unix: UnixTime::of(&clock),
            clock,
            metrics: MetricTable::new(registry.clone(), MAX_METRICS),
            table: SeriesTable::counting_from_first_value(registry.clone(), max_series)
                .with_byte_limit(limits::MOST_OF_PROGRAM),
            describer: SeriesDescriber::new(registry, domains),
            key: Vec::new(),
        }
    }

    /// Declares a metric.
    ///
    /// # Errors
    /// It contradicts another declaration.
    pub(crate) fn declare(&mut self, metric: &MetricLine<'_>) -> Result<(), PointError> {
        let MetricLine { name, unit, kind, description } = metric;
        self.metrics.declare(MetricDeclaration { name, unit, kind: (*kind).into(), description }).map(drop)
    }

    /// Records a point.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn record(
        &mut self,
        point: &PointLine<'_>,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<Recorded, PointError> {
        let declared = self.declared(point)?;
        let now = self.clock.now();
        let time = point.time_unix_nano.map_or(now, |unix| self.unix.timestamp(unix));
        if time > now + MAX_AHEAD {
            return Err(PointError::Future);
        }
        let text = point.value.get();
        let (value, start_unix_nano) = match declared.kind {
            Kind::Counter => (Value::of_steps(steps_of_text(text, declared.digits)?), point.start_unix_nano),
            Kind::Gauge => {
                let number = text.parse::<f64>().ok().filter(|number| number.is_finite());
                (Value::of_gauge(number.ok_or(NumberError::NotANumber)?), None)
            }
        };
        let start = point.start_unix_nano.map_or(time, |unix| self.unix.timestamp(unix));
        let (resource, consumer) = (&point.resource, point.consumer.as_ref());
        let labels = Labels { metric: &point.metric, resource, consumer, attributes: &point.attributes };
        limits::check(resource, consumer, &point.attributes)?;
        self.describer.update_consumer(&labels)?;
        labels.key(&mut self.key);
        let incoming = IncomingPoint { kind: declared.kind, value, time, start_unix_nano, now };
        let describer = &mut self.describer;
        let describe = || describer.describe(declared.id, &labels, start);
        self.table.record(&self.key, incoming, describe, writer)
    }

    fn declared(&mut self, point: &PointLine<'_>) -> Result<DeclaredMetric, PointError> {
        match (&point.unit, point.kind, self.metrics.get(&point.metric)) {
            (None, None, Some(declared)) => Ok(declared),
            (Some(unit), Some(kind), _) => {
                let name = &*point.metric;
                self.metrics.declare(MetricDeclaration { name, unit, kind: kind.into(), description: "" })
            }
            _ => {
                let message =
                    "its metric was not declared: send {\"metric\":{…}} before, or unit and kind with it";
                Err(PointError::Conflict(message.to_owned()))
            }
        }
    }

    /// Ends the series `name`. Returns whether it was open.
    pub(crate) fn end(&mut self, name: &SeriesName<'_>, writer: &mut SegmentWriter<'_>) -> bool {
        let (consumer, attributes) = (name.consumer.as_ref(), &name.attributes);
        let labels = Labels { metric: &name.metric, resource: &name.resource, consumer, attributes };
        labels.key(&mut self.key);
        self.table.end(&self.key, writer)
    }

    /// Ends every series.
    pub(crate) fn end_all(&mut self, writer: &mut SegmentWriter<'_>) {
        self.table.end_all(writer);
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

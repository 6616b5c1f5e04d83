//! One sender: the attributes of its OTLP resource, and its series. The resource's attributes are also those
//! of the series, so the series of two senders never merge.

use std::sync::Arc;

use opentelemetry_proto::tonic::common::v1::KeyValue;
use opentelemetry_proto::tonic::metrics::v1::NumberDataPoint;
use wattrace_api::{
    Attribute, Clock, MetricId, Registry, Resource, ResourceKind, SeriesSpec, Timestamp, Value,
};
use wattrace_ingest::{
    DeclaredMetric, IncomingPoint, PointError, Recorded, SegmentWriter, SeriesTable, UnixTime,
};

use crate::bounds;
use crate::convert::{self, Aggregation};

/// See the module.
#[derive(Debug)]
pub(crate) struct Sender {
    attributes: Vec<Attribute>,
    resource: Resource,
    table: SeriesTable,
    /// The memory of its open series, about: that of an idle one that ended is taken as their average.
    bytes: usize,
    /// The part of each series that is the sender's.
    shared: usize,
}

/// What all senders share while a request is recorded.
pub(crate) struct Context {
    pub(crate) registry: Arc<Registry>,
    pub(crate) clock: Clock,
    pub(crate) unix: UnixTime,
    /// A buffer for keys.
    pub(crate) key: Vec<u8>,
    /// The memory of all senders' series, and how much it may be.
    pub(crate) bytes: usize,
    pub(crate) most_bytes: usize,
}

/// Most bytes of one sender's series: room for 10,000 of the usual length.
const MOST_BYTES: usize = 32 * 1024 * 1024;

/// Why a point is refused.
#[derive(Debug)]
pub(crate) enum Refusal {
    /// As the table says.
    Point(PointError),
    /// Its attributes are too long.
    TooLong(String),
    /// There is no memory for its series.
    TooManyBytes(&'static str),
}

impl Refusal {
    /// A short name under which such points are counted.
    pub(crate) fn reason(&self) -> &'static str {
        match self {
            Refusal::Point(error) => error.reason(),
            Refusal::TooLong(_) => "too_long",
            Refusal::TooManyBytes(_) => "too_many_bytes",
        }
    }
}

impl std::fmt::Display for Refusal {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Refusal::Point(error) => error.fmt(f),
            Refusal::TooLong(what) => f.write_str(what),
            Refusal::TooManyBytes(whose) => write!(f, "{whose} series take all the memory that they may"),
        }
    }
}

impl From<PointError> for Refusal {
    fn from(error: PointError) -> Self {
        Refusal::Point(error)
    }
}

impl Sender {
    /// The sender with these resource attributes, and at most `series` open at a time.
    pub(crate) fn new(attributes: &[KeyValue], registry: Arc<Registry>, series: usize) -> Self {
        let shared = bounds::shared_bytes(attributes);
        let attributes: Vec<_> = attributes.iter().map(convert::attribute).collect();
        let host = attributes.iter().find(|a| a.key == "host.name").map(|a| a.value.to_string());
        let resource = Resource { kind: ResourceKind::Host, id: host.unwrap_or_default().into() };
        Self { attributes, resource, table: SeriesTable::new(registry, series), bytes: 0, shared }
    }

    /// Its open series.
    pub(crate) fn series(&self) -> usize {
        self.table.len()
    }

    /// The attributes by which a person recognises it.
    pub(crate) fn label(&self) -> Vec<Attribute> {
        let known = |a: &&Attribute| matches!(&*a.key, "host.name" | "service.instance.id");
        self.attributes.iter().filter(known).cloned().collect()
    }

    /// Records a point.
    ///
    /// # Errors
    /// Why it is refused.
    pub(crate) fn record(
        &mut self,
        metric: (&str, DeclaredMetric, Aggregation),
        point: &mut NumberDataPoint,
        context: &mut Context,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<Recorded, Refusal> {
        bounds::attributes(&point.attributes).map_err(Refusal::TooLong)?;
        context.key.clear();
        convert::part(metric.0.as_bytes(), &mut context.key);
        convert::key(&mut point.attributes, &mut context.key);
        if convert::is_end(point) {
            if self.table.end(&context.key, writer) {
                self.forget(bounds::series_bytes(&point.attributes, self.shared), context);
            }
            return Ok(Recorded::Appended);
        }
        if self.table.last(&context.key).is_some() {
            return Ok(self.record_value(metric, point, context, writer)?);
        }
        let bytes = bounds::series_bytes(&point.attributes, self.shared);
        self.has_room(bytes, context)?;
        let recorded = self.record_value(metric, point, context, writer)?;
        if recorded == Recorded::Opened {
            (self.bytes, context.bytes) = (self.bytes + bytes, context.bytes + bytes);
        }
        Ok(recorded)
    }

    /// Whether there is memory for another series, of `bytes`.
    fn has_room(&self, bytes: usize, context: &Context) -> Result<(), Refusal> {
        match () {
            () if self.bytes + bytes > MOST_BYTES => Err(Refusal::TooManyBytes("this sender's")),
            () if context.bytes + bytes > context.most_bytes => {
                Err(Refusal::TooManyBytes("all senders' (max_memory)"))
            }
            () => Ok(()),
        }
    }

    /// Series of `bytes` have ended.
    fn forget(&mut self, bytes: usize, context: &mut Context) {
        let bytes = if self.table.is_empty() { self.bytes } else { bytes.min(self.bytes) };
        self.bytes -= bytes;
        context.bytes = context.bytes.saturating_sub(bytes);
    }

    fn record_value(
        &mut self,
        metric: (&str, DeclaredMetric, Aggregation),
        point: &NumberDataPoint,
        context: &Context,
        writer: &mut SegmentWriter<'_>,
    ) -> Result<Recorded, PointError> {
        let (_, declared, aggregation) = metric;
        let now = context.clock.now();
        let time = match point.time_unix_nano {
            0 => now,
            unix => context.unix.timestamp(unix),
        };
        let start_unix_nano = Some(point.start_time_unix_nano).filter(|start| *start != 0);
        let start = start_unix_nano.map_or(time, |start| context.unix.timestamp(start));
        let mut incoming = IncomingPoint {
            kind: declared.kind,
            value: convert::value(point, declared)?,
            time,
            start_unix_nano: start_unix_nano.filter(|_| aggregation == Aggregation::Cumulative),
            now,
        };
        if aggregation == Aggregation::Delta {
            let start = start_unix_nano.map(|_| start);
            incoming.value = self.sum(&context.key, incoming.value, start)?;
        }
        let Self { attributes, resource, table, .. } = self;
        let describe = || Ok(spec(declared.id, attributes, resource, &point.attributes, start));
        table.record(&context.key, incoming, describe, writer)
    }

    /// The counter's value after `delta`, which began at `start` if the sender says so.
    fn sum(&self, key: &[u8], delta: Value, start: Option<Timestamp>) -> Result<Value, PointError> {
        let Some((sum, until)) = self.table.last(key) else { return Ok(delta) };
        if start.is_some_and(|start| start < until) {
            return Err(PointError::Conflict("a delta over a span that was counted already".to_owned()));
        }
        Ok(Value::of_steps(sum.saturating_add(delta.steps())))
    }

    /// Ends the series that have received nothing since `since`. Returns whether none is left.
    pub(crate) fn end_idle(
        &mut self,
        since: Timestamp,
        context: &mut Context,
        writer: &mut SegmentWriter<'_>,
    ) -> bool {
        let before = self.table.len();
        let ended = self.table.end_idle(since, writer);
        if ended > 0 {
            self.forget((self.bytes / before.max(1)).saturating_mul(ended), context);
        }
        self.table.is_empty()
    }
}

/// Neither domain nor consumer is set: those are for this machine, and what other machines used must not be
/// split among its processes.
fn spec(
    metric: MetricId,
    sender: &[Attribute],
    resource: &Resource,
    point: &[KeyValue],
    start: Timestamp,
) -> SeriesSpec {
    let mut attributes: Vec<_> = point.iter().map(convert::attribute).collect();
    // A point's own attributes override those of its resource.
    let also = sender.iter().filter(|a| !point.iter().any(|own| own.key == a.key));
    attributes.extend(also.cloned());
    SeriesSpec { attributes, ..SeriesSpec::new(metric, resource.clone(), start) }
}
